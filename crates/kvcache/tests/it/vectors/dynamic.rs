//! A cache that grows: chunks and edits.

use llm_kvcache::ContiguousCache;
use llm_kvcache::reference::contiguous::{Token, TokenLists};
use llm_numerics::Float;
use llm_numerics::testing::vectors::{Case, VectorError};
use ndarray::{Array4, ArrayRef4, ArrayView4, array, s};

/// What the two tiers have in common.
pub(super) trait Cache: Sized {
    fn with_capacity(
        capacity: usize,
        k: &ArrayRef4<f32>,
        v: &ArrayRef4<f32>,
    ) -> Result<Self, VectorError>;
    fn add(&mut self, k: ArrayView4<'_, f32>, v: ArrayView4<'_, f32>) -> Result<(), VectorError>;
    fn contents(&self) -> [Array4<f32>; 2];
    fn seq(&self) -> usize;
    fn keep(&mut self, len: usize) -> Result<(), VectorError>;
    fn pick(self, rows: &[usize]) -> Result<Self, VectorError>;
}

impl Cache for ContiguousCache<f32> {
    fn with_capacity(
        capacity: usize,
        k: &ArrayRef4<f32>,
        v: &ArrayRef4<f32>,
    ) -> Result<Self, VectorError> {
        let (batch, heads, _, head_dim) = k.dim();
        Self::new(batch, heads, capacity, head_dim, v.dim().3).map_err(VectorError::op)
    }

    fn add(&mut self, k: ArrayView4<'_, f32>, v: ArrayView4<'_, f32>) -> Result<(), VectorError> {
        self.append_all(&k, &v).map_err(VectorError::op)
    }

    fn contents(&self) -> [Array4<f32>; 2] {
        [
            self.padded_keys().to_owned(),
            self.padded_values().to_owned(),
        ]
    }

    fn seq(&self) -> usize {
        self.max_len()
    }

    fn keep(&mut self, len: usize) -> Result<(), VectorError> {
        (0..self.batch()).try_for_each(|row| self.crop(row, len).map_err(VectorError::op))
    }

    /// In place where the batch stays.
    fn pick(mut self, rows: &[usize]) -> Result<Self, VectorError> {
        if rows.len() != self.batch() {
            return self.select(rows).map_err(VectorError::op);
        }
        self.reorder(rows).map_err(VectorError::op)?;
        Ok(self)
    }
}

/// The lists do not know their heads when they are empty; no file has an empty batch or chunk list.
impl Cache for TokenLists {
    fn with_capacity(
        capacity: usize,
        k: &ArrayRef4<f32>,
        _: &ArrayRef4<f32>,
    ) -> Result<Self, VectorError> {
        Ok(Self::new(k.dim().0, capacity))
    }

    fn add(&mut self, k: ArrayView4<'_, f32>, v: ArrayView4<'_, f32>) -> Result<(), VectorError> {
        let heads = |x: &ArrayView4<'_, f32>, row: usize, t: usize| -> Vec<Vec<f64>> {
            let token = x.slice(s![row, .., t, ..]);
            token
                .rows()
                .into_iter()
                .map(|head| head.iter().map(|x| x.as_f64()).collect())
                .collect()
        };
        let (batch, _, seq, _) = k.dim();
        let token = |row, t| Token {
            key: heads(&k, row, t),
            value: heads(&v, row, t),
        };
        let tokens: Vec<Vec<_>> = (0..batch)
            .map(|row| (0..seq).map(|t| token(row, t)).collect())
            .collect();
        if self.append_all(&tokens) {
            Ok(())
        } else {
            Err(VectorError::op("tokens refused"))
        }
    }

    fn contents(&self) -> [Array4<f32>; 2] {
        [
            |token: &Token| token.key.clone(),
            |token: &Token| token.value.clone(),
        ]
        .map(|part| {
            let first = self
                .rows
                .first()
                .and_then(|row| row.first())
                .map(part)
                .unwrap_or_default();
            let features = first.first().map_or(0, Vec::len);
            Array4::from_shape_fn(
                [self.rows.len(), first.len(), self.seq(), features],
                |(row, h, t, i)| part(&self.rows[row][t])[h][i] as f32,
            )
        })
    }

    fn seq(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    fn keep(&mut self, len: usize) -> Result<(), VectorError> {
        let kept = (0..self.rows.len()).all(|row| self.crop(row, len));
        if kept {
            Ok(())
        } else {
            Err(VectorError::op("crop refused"))
        }
    }

    fn pick(self, rows: &[usize]) -> Result<Self, VectorError> {
        self.select(rows)
            .ok_or_else(|| VectorError::op("no such row"))
    }
}

pub(super) fn update<C: Cache>(case: &Case, [k, v]: &[Array4<f32>; 2]) -> Result<(), VectorError> {
    let chunks = case.param_usize_list("chunks")?;
    if chunks.iter().sum::<usize>() != k.dim().2 {
        return Err(case.unknown_param("chunks", "a list that sums to seq"));
    }
    let mut cache = C::with_capacity(k.dim().2, k, v)?;
    let mut start = 0;
    for (step, chunk) in chunks.into_iter().enumerate() {
        let name = |output: &str| format!("step{step}.{output}");
        // Queries of this chunk see all that is stored and themselves, from position 0 on.
        case.expect_int(
            &name("mask_kv_length_offset"),
            &array![cache.seq() + chunk, 0],
        )?;
        let new = s![.., .., start..start + chunk, ..];
        cache.add(k.slice(new), v.slice(new))?;
        start += chunk;
        let [keys, values] = cache.contents();
        for output in ["returned", "stored"] {
            case.expect(&name(&format!("{output}_k")), &keys)?;
            case.expect(&name(&format!("{output}_v")), &values)?;
        }
        case.expect_int(&name("seq_length"), &array![cache.seq()])?;
    }
    Ok(())
}

/// Each edit starts from the whole cache.
pub(super) fn edit<C: Cache>(case: &Case, [k, v]: &[Array4<f32>; 2]) -> Result<(), VectorError> {
    let (batch, _, seq, _) = k.dim();
    let whole = || -> Result<C, VectorError> {
        let mut cache = C::with_capacity(seq, k, v)?;
        cache.add(k.view(), v.view())?;
        Ok(cache)
    };
    let check = |name: &str, cache: &C| -> Result<(), VectorError> {
        let [keys, values] = cache.contents();
        case.expect(&format!("{name}_k"), &keys)?;
        case.expect_if_present(&format!("{name}_v"), &values)
    };
    if let Some(crop_last) = case.param_opt_usize("crop_last")? {
        let len = seq
            .checked_sub(crop_last)
            .ok_or_else(|| case.unknown_param("crop_last", "at most seq"))?;
        let mut cache = whole()?;
        cache.keep(len)?;
        check("cropped", &cache)?;
    }
    if case.has_param("reorder") {
        check(
            "reordered",
            &whole()?.pick(&case.param_usize_list("reorder")?)?,
        )?;
    }
    if let Some(repeats) = case.param_opt_usize("repeat_interleave")? {
        let rows: Vec<_> = (0..batch * repeats).map(|row| row / repeats).collect();
        check("repeated", &whole()?.pick(&rows)?)?;
    }
    if case.has_param("select") {
        check(
            "selected",
            &whole()?.pick(&case.param_usize_list("select")?)?,
        )?;
    }
    Ok(())
}
