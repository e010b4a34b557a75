//! Other people's quantized caches: ours run on the same data, and its error is what it must be. Errors of attention at equal
//! bytes are compared in `quantized_peers.rs`.

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::reference::quantized::{KiviTokens, step};
use llm_numerics::testing::vectors::{Case, VectorError};
use ndarray::{Array3, Array4, ArrayView4, Axis, Ix4, array, s};

/// What the two tiers have in common.
pub(super) trait Quantized: Sized {
    fn new(shape: [usize; 4], config: KiviConfig) -> Result<Self, VectorError>;
    fn add(&mut self, k: ArrayView4<'_, f32>, v: ArrayView4<'_, f32>) -> Result<(), VectorError>;
    /// Keys and values of a sequence.
    fn read(&self, row: usize) -> Result<[Array3<f32>; 2], VectorError>;
}

impl Quantized for KiviCache {
    fn new(
        [batch, heads, head_dim, value_dim]: [usize; 4],
        config: KiviConfig,
    ) -> Result<Self, VectorError> {
        Self::new(batch, heads, head_dim, value_dim, &config).map_err(VectorError::op)
    }

    fn add(&mut self, k: ArrayView4<'_, f32>, v: ArrayView4<'_, f32>) -> Result<(), VectorError> {
        self.append_all(&k, &v).map_err(VectorError::op)
    }

    fn read(&self, row: usize) -> Result<[Array3<f32>; 2], VectorError> {
        self.gather(row).map(Into::into).map_err(VectorError::op)
    }
}

impl Quantized for Vec<KiviTokens> {
    fn new([batch, ..]: [usize; 4], config: KiviConfig) -> Result<Self, VectorError> {
        Ok(vec![
            KiviTokens::new(
                config.bits,
                config.group,
                config.residual
            );
            batch
        ])
    }

    fn add(&mut self, k: ArrayView4<'_, f32>, v: ArrayView4<'_, f32>) -> Result<(), VectorError> {
        let wide = |x: f32| f64::from(x);
        for (row, tokens) in self.iter_mut().enumerate() {
            for t in 0..k.dim().2 {
                let key = k
                    .slice(s![row, .., t, ..])
                    .iter()
                    .copied()
                    .map(wide)
                    .collect();
                let value = v.slice(s![row, .., t, ..]);
                let value = value
                    .outer_iter()
                    .map(|head| head.iter().copied().map(wide).collect());
                tokens.push(key, value.collect());
            }
        }
        Ok(())
    }

    fn read(&self, row: usize) -> Result<[Array3<f32>; 2], VectorError> {
        let tokens = &self[row];
        let heads = tokens.values.first().map_or(0, Vec::len);
        let value_dim = tokens
            .values
            .first()
            .and_then(|v| v.first())
            .map_or(0, Vec::len);
        let head_dim = tokens.keys.first().map_or(0, Vec::len) / heads.max(1);
        let len = tokens.keys.len();
        Ok([
            Array3::from_shape_fn([heads, len, head_dim], |(h, t, d)| {
                tokens.keys[t][h * head_dim + d] as f32
            }),
            Array3::from_shape_fn([heads, len, value_dim], |(h, t, d)| {
                tokens.values[t][h][d] as f32
            }),
        ])
    }
}

/// As many bits as ours can have, at least those of the file.
fn bits(case: &Case, name: &str) -> Result<u32, VectorError> {
    match case.param_usize(name)? {
        1 | 2 => Ok(2),
        3 | 4 => Ok(4),
        8 => Ok(8),
        _ => Err(case.unknown_param(name, "1, 2, 3, 4 or 8")),
    }
}

pub(super) fn update<Q: Quantized>(
    case: &Case,
    [k, v]: &[Array4<f32>; 2],
) -> Result<(), VectorError> {
    case.note("rule");
    let bits = bits(case, "nbits")?;
    for name in ["axis_key", "axis_value"] {
        case.param_value(name)?; // of their groups; ours are as the paper says
    }
    case.param_usize("residual_length")?;
    // Half their groups: our steps have half their bytes.
    let group = (case.param_usize("q_group_size")? / 2).max(8 / bits as usize);
    let group = group.next_multiple_of(8 / bits as usize);
    let (batch, heads, seq, head_dim) = k.dim();
    let shape = [batch, heads, head_dim, v.dim().3];
    let mut cache = Q::new(shape, KiviConfig::new(bits, group, 0))?;
    let mut start = 0;
    for (step, chunk) in case.param_usize_list("chunks")?.into_iter().enumerate() {
        let name = |output: &str| format!("step{step}.{output}");
        case.expect_int(&name("mask_kv_length_offset"), &array![start + chunk, 0])?;
        let new = s![.., .., start..start + chunk, ..];
        cache.add(k.slice(new), v.slice(new))?;
        start += chunk;
        case.expect_int(&name("seq_length"), &array![start])?;
        let all = s![.., .., ..start, ..];
        for (part, x) in [k, v].into_iter().enumerate() {
            let x = x.slice(all);
            let letter = ["k", "v"][part];
            for kind in ["returned", "stored"] {
                let name = name(&format!("{kind}_{letter}"));
                if case.has_output(&name) {
                    let theirs = case.output_f64(&name)?;
                    if theirs.shape() != x.shape() || theirs.iter().any(|x| !x.is_finite()) {
                        return Err(VectorError::op(format!(
                            "{name} has another shape, or no numbers"
                        )));
                    }
                }
            }
            for row in 0..batch {
                let ours = cache.read(row)?;
                half_a_step(&ours[part], &x.index_axis(Axis(0), row).to_owned(), bits)?;
            }
        }
    }
    if start != seq {
        return Err(case.unknown_param("chunks", "a list that sums to seq"));
    }
    Ok(())
}

/// No number is further off than half the step that all numbers together would have.
fn half_a_step(ours: &Array3<f32>, exact: &Array3<f32>, bits: u32) -> Result<(), VectorError> {
    let all: Vec<f64> = exact.iter().map(|&x| f64::from(x)).collect();
    let (scale, _) = step(&all, bits);
    let worst = ours
        .iter()
        .zip(exact)
        .map(|(a, b)| f64::from((a - b).abs()));
    let worst = worst.fold(0.0, f64::max);
    if ours.dim() == exact.dim() && worst <= 0.5001 * scale {
        return Ok(());
    }
    Err(VectorError::op(format!(
        "off by {worst}, the step is {scale}"
    )))
}

/// Groups of one array, as values of tokens.
pub(super) fn groups<Q: Quantized>(case: &Case) -> Result<(), VectorError> {
    let x = case.input_f32::<Ix4>("x")?;
    let bits = bits(case, "bits")?;
    case.param_value("axis")?;
    let group = case.param_usize("group_size")?;
    let n = x.len() / group.max(1);
    let flat: Vec<f32> = x.iter().copied().take(n * group).collect();
    let v = Array4::from_shape_vec([1, 1, n, group], flat).map_err(VectorError::op)?;
    let mut cache = Q::new([1, 1, 0, group], KiviConfig::new(bits, group, 0))?;
    cache.add(Array4::zeros([1, 1, n, 0]).view(), v.view())?;
    half_a_step(&cache.read(0)?[1], &v.index_axis_move(Axis(0), 0), bits)?;
    for name in ["dequantised", "scale", "shift"] {
        if case.output_f64(name)?.iter().any(|x| !x.is_finite()) {
            return Err(VectorError::op(format!("{name} has numbers that are none")));
        }
    }
    Ok(())
}
