//! Caches of a sliding window: what attention reads in a step, and what is kept after it.

use llm_kvcache::reference::window::SeenTokens;
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Array4, ArrayView4, Axis, concatenate, s};

/// The newest tokens of all sequences, which have seen as many.
enum Window {
    Ring(RingCache<f32>),
    /// Positions, and the arrays that they point into.
    Lists(SeenTokens<usize>, [Array4<f32>; 2]),
}

impl Window {
    fn new(
        tier: Tier,
        [k, v]: &[Array4<f32>; 2],
        window: usize,
        slack: usize,
    ) -> Result<Self, VectorError> {
        let (batch, heads, _, head_dim) = k.dim();
        Ok(match tier {
            Tier::Cpu => {
                let config = RingConfig::new(batch, heads, window, head_dim)
                    .with_slack(slack)
                    .with_value_dim(v.dim().3);
                Self::Ring(RingCache::new(&config).map_err(VectorError::op)?)
            }
            _ => Self::Lists(
                SeenTokens::new(0, window, slack),
                [k, v].map(|x| x.slice(s![.., .., ..0, ..]).to_owned()),
            ),
        })
    }

    fn append(&mut self, new: [ArrayView4<'_, f32>; 2]) -> Result<(), VectorError> {
        match self {
            Self::Ring(ring) => ring.append_all(&new[0], &new[1]).map_err(VectorError::op),
            Self::Lists(seen, all) => {
                for (all, new) in all.iter_mut().zip(&new) {
                    // Tokens that are seen again after a crop are written over.
                    let kept = all.slice(s![.., .., ..seen.seen.len(), ..]).to_owned();
                    *all = concatenate(Axis(2), &[kept.view(), new.view()])
                        .map_err(VectorError::op)?;
                }
                for _ in 0..new[0].dim().2 {
                    seen.push(seen.seen.len());
                }
                Ok(())
            }
        }
    }

    fn seen(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.seen(0).unwrap_or(0),
            Self::Lists(seen, _) => seen.seen.len(),
        }
    }

    fn crop(&mut self, len: usize) -> Result<(), VectorError> {
        match self {
            Self::Ring(ring) => {
                (0..ring.batch()).try_for_each(|row| ring.crop(row, len).map_err(VectorError::op))
            }
            Self::Lists(seen, _) => match seen.crop(len) {
                true => Ok(()),
                false => Err(VectorError::op("crop refused")),
            },
        }
    }

    /// The last `n` tokens, of as many as there are.
    fn last(&self, n: usize) -> Result<[Array4<f32>; 2], VectorError> {
        match self {
            Self::Ring(ring) => {
                let rows = 0..ring.batch();
                let arrays =
                    rows.map(|row| Ok([ring.ordered_keys(row)?, ring.ordered_values(row)?]));
                let arrays: Result<Vec<_>, llm_kvcache::KvCacheError> = arrays.collect();
                let arrays = arrays.map_err(VectorError::op)?;
                let stack = |part: usize| {
                    let views: Vec<_> = arrays.iter().map(|x| x[part].view()).collect();
                    ndarray::stack(Axis(0), &views).map_err(VectorError::op)
                };
                let tail = |x: Array4<f32>| {
                    let len = x.dim().2;
                    x.slice(s![.., .., len - n.min(len).., ..]).to_owned()
                };
                Ok([tail(stack(0)?), tail(stack(1)?)])
            }
            Self::Lists(seen, all) => {
                let held: Vec<usize> = seen.held().into_iter().map(|(_, token)| token).collect();
                let last = &held[held.len() - n.min(held.len())..];
                Ok([0, 1].map(|part| all[part].select(Axis(2), last)))
            }
        }
    }
}

/// The chunks, and the end of each.
fn chunks(case: &Case, seq: usize) -> Result<Vec<(usize, usize)>, VectorError> {
    let chunks = case.param_usize_list("chunks")?;
    if chunks.iter().sum::<usize>() != seq {
        return Err(case.unknown_param("chunks", "a list that sums to seq"));
    }
    let mut end = 0;
    let ends = chunks.into_iter().map(|chunk| {
        end += chunk;
        (chunk, end)
    });
    Ok(ends.collect())
}

/// What is expected of a step.
struct Step<'a> {
    case: &'a Case,
    step: usize,
}

impl Step<'_> {
    fn arrays(&self, name: &str, [k, v]: [Array4<f32>; 2]) -> Result<(), VectorError> {
        let step = self.step;
        self.case.expect(&format!("step{step}.{name}_k"), &k)?;
        self.case.expect(&format!("step{step}.{name}_v"), &v)
    }

    fn numbers(&self, name: &str, numbers: &[usize]) -> Result<(), VectorError> {
        let numbers = ndarray::aview1(numbers);
        self.case
            .expect_int(&format!("step{}.{name}", self.step), &numbers)
    }
}

/// `DynamicSlidingWindowLayer`: keeps the last `window - 1` tokens, and reads them with the new ones.
pub(super) fn dynamic(
    case: &Case,
    tier: Tier,
    input: &[Array4<f32>; 2],
) -> Result<(), VectorError> {
    case.note("returned");
    case.note("stored");
    let size = case.param_usize("sliding_window")?;
    let seq = input[0].dim().2;
    let chunks = chunks(case, seq)?;
    let longest = chunks.iter().map(|chunk| chunk.0).max().unwrap_or(0);
    // With a window of 1 the library keeps everything: it cuts from `-0` on.
    let (kept, slack) = match size {
        1 => (usize::MAX, seq),
        _ => (size - 1, longest.saturating_sub(1)),
    };
    let mut window = Window::new(tier, input, size, slack)?;
    for (step, (chunk, end)) in chunks.into_iter().enumerate() {
        let check = Step { case, step };
        let past = window.seen();
        let keys = if past >= size {
            size - 1 + chunk
        } else {
            past + chunk
        };
        let offset = (past + 1).saturating_sub(size);
        check.numbers("mask_kv_length_offset", &[keys, offset])?;
        let new = s![.., .., end - chunk..end, ..];
        window.append([0, 1].map(|part| input[part].slice(new)))?;
        check.arrays(
            "returned",
            window.last(kept.saturating_add(chunk).min(past.min(kept) + chunk))?,
        )?;
        check.arrays("stored", window.last(kept)?)?;
        check.numbers("seq_length", &[window.seen()])?;
    }
    Ok(())
}

/// `StaticSlidingWindowLayer`: keeps the last `window` tokens in an array of that length, zeros behind them.
pub(super) fn fixed(case: &Case, tier: Tier, input: &[Array4<f32>; 2]) -> Result<(), VectorError> {
    let size = case
        .param_usize("sliding_window")?
        .min(case.param_usize("max_cache_len")?);
    let chunks = chunks(case, input[0].dim().2)?;
    let longest = chunks.iter().map(|chunk| chunk.0).max().unwrap_or(0);
    let mut window = Window::new(tier, input, size, longest.saturating_sub(1))?;
    for (step, (chunk, end)) in chunks.into_iter().enumerate() {
        let check = Step { case, step };
        let past = window.seen();
        let read = match past {
            past if past >= size => size - 1 + chunk,
            past if past + chunk > size => past + chunk,
            _ => size, // padded
        };
        check.numbers(
            "mask_kv_length_offset",
            &[read, (past + 1).saturating_sub(size)],
        )?;
        let new = s![.., .., end - chunk..end, ..];
        window.append([0, 1].map(|part| input[part].slice(new)))?;
        check.arrays("returned", padded(window.last(read)?, read))?;
        check.arrays("stored", padded(window.last(size)?, size))?;
        check.numbers("seq_length", &[window.seen()])?;
    }
    Ok(())
}

/// With zeros behind, up to a length.
fn padded(arrays: [Array4<f32>; 2], len: usize) -> [Array4<f32>; 2] {
    arrays.map(|x| {
        let (batch, heads, seq, features) = x.dim();
        let mut all = Array4::zeros([batch, heads, len.max(seq), features]);
        all.slice_mut(s![.., .., ..seq, ..]).assign(&x);
        all
    })
}

/// `DynamicSlidingWindowLayer` that remembers until it is cropped: negative numbers of tokens are taken back.
pub(super) fn rollback(
    case: &Case,
    tier: Tier,
    input: &[Array4<f32>; 2],
) -> Result<(), VectorError> {
    let size = case.param_usize("sliding_window")?;
    let crops = case.param_f64_list("crop_after")?;
    let seq = input[0].dim().2;
    let chunks = chunks(case, seq)?;
    if crops.len() != chunks.len() || crops.iter().any(|&crop| crop > 0.0) {
        return Err(case.unknown_param("crop_after", "a number of at most 0 for each chunk"));
    }
    // A window and a chunk, so that what a chunk brought can be taken back.
    let longest = chunks.iter().map(|chunk| chunk.0).max().unwrap_or(0);
    let mut window = Window::new(tier, input, size, longest)?;
    for (step, ((chunk, end), crop)) in chunks.into_iter().zip(crops).enumerate() {
        let check = Step { case, step };
        let new = s![.., .., end - chunk..end, ..];
        window.append([0, 1].map(|part| input[part].slice(new)))?;
        let seen = window.seen();
        window.crop(seen.saturating_sub(-crop as usize))?;
        check.numbers("seq_length", &[window.seen()])?;
        let kept = if seen >= size { size - 1 } else { seen };
        check.arrays("stored", window.last(kept)?)?;
    }
    Ok(())
}
