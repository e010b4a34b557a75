//! What a row of scores and weights goes through besides the scale, the softcap and the mask of the config.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView4, s};

use crate::{AlibiOrigin, AttentionError, Dropout, MaskPolarity, ScoreMods};
use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;

/// A row of the scores: `[batch, head, query]`.
pub(super) type Row = [usize; 3];

/// [`ScoreMods`], checked, each as long as the scores along every axis.
pub(crate) struct Mods<'a, F> {
    alibi: Option<(ArrayView1<'a, F>, AlibiOrigin)>,
    bias: Option<ArrayView4<'a, F>>,
    /// And what is written where a query sees a key.
    mask: Option<(ArrayView4<'a, bool>, bool)>,
    dropout: Option<Draws<F>>,
    n_heads: usize,
    seq: usize,
    kv_seq: usize,
}

struct Draws<F> {
    random: Philox4x32,
    offset: u64,
    /// Words below are dropped.
    threshold: u64,
    /// What the weights that stay are multiplied with.
    factor: F,
}

impl<'a, F: Float> Mods<'a, F> {
    /// `shape`: `[batch, n_heads, seq, kv_seq]`.
    pub(super) fn new(
        mods: &ScoreMods<'a, F>,
        shape: [usize; 4],
    ) -> Result<Option<Self>, AttentionError> {
        let [_, n_heads, seq, kv_seq] = shape;
        let ScoreMods {
            alibi,
            bias,
            mask,
            dropout,
        } = *mods;
        if alibi.is_none() && bias.is_none() && mask.is_none() && dropout.is_none() {
            return Ok(None);
        }
        if let Some((slopes, _)) = alibi
            && slopes.len() != n_heads
        {
            let got = slopes.len();
            return Err(AttentionError::Slopes { n_heads, got });
        }
        let refuse = |name, got| AttentionError::Broadcast {
            name,
            expected: shape,
            got,
        };
        let bias = match bias {
            Some(bias) => {
                Some((bias.broadcast(shape)).ok_or_else(|| refuse("bias", bias.dim().into()))?)
            }
            None => None,
        };
        let mask = match mask {
            Some((mask, polarity)) => Some((
                (mask.broadcast(shape)).ok_or_else(|| refuse("mask", mask.dim().into()))?,
                polarity == MaskPolarity::TrueAttends,
            )),
            None => None,
        };
        Ok(Some(Self {
            alibi: alibi.map(|(slopes, origin)| (slopes.view(), origin)),
            bias,
            mask,
            dropout: dropout.map(Draws::new).transpose()?,
            n_heads,
            seq,
            kv_seq,
        }))
    }

    /// Adds ALiBi and the bias to the scores of a row; `-inf` where a key is hidden.
    #[inline(always)]
    pub(super) fn add(&self, row: Row, keys: Range<usize>, scores: &mut [F]) {
        let [b, h, i] = row;
        if let Some((slopes, _)) = &self.alibi {
            let slope = slopes[h];
            self.with_distances(i, keys.start, scores, |score, distance| {
                *score += slope * distance;
            });
        }
        if let Some(bias) = &self.bias {
            let bias = bias.slice(s![b, h, i, keys.clone()]);
            for (score, &bias) in scores.iter_mut().zip(bias) {
                *score = if bias == F::neg_infinity() {
                    bias // also if the score is NaN
                } else {
                    *score + bias
                };
            }
        }
        if let Some((mask, sees)) = &self.mask {
            let mask = mask.slice(s![b, h, i, keys]);
            for (score, &mask) in scores.iter_mut().zip(mask) {
                if mask != *sees {
                    *score = F::neg_infinity();
                }
            }
        }
    }

    /// Drops weights of a row, or their gradients, and enlarges those that stay.
    #[inline(always)]
    pub(super) fn drop(&self, row: Row, keys: Range<usize>, weights: &mut [F]) {
        let Some(draws) = &self.dropout else {
            return;
        };
        let [b, h, i] = row;
        let row = (b * self.n_heads + h) * self.seq + i;
        let stream = draws.offset.wrapping_add(row as u64);
        let mut key = keys.start as u64;
        let mut rest = weights;
        while !rest.is_empty() {
            // The words of a block belong to four keys.
            let skip = (key % 4) as usize;
            let (block, after) = rest.split_at_mut(rest.len().min(4 - skip));
            let words = draws.random.block_at(stream, key / 4);
            for (weight, word) in block.iter_mut().zip(&words[skip..]) {
                *weight = if u64::from(*word) >= draws.threshold {
                    *weight * draws.factor
                } else {
                    F::zero()
                };
            }
            key += block.len() as u64;
            rest = after;
        }
    }

    /// The sum over a row of the gradient of the scores times what the slope was multiplied with.
    #[inline(always)]
    pub(super) fn dslope(&self, row: Row, keys: Range<usize>, dscores: &mut [F]) -> f64 {
        let mut sum = 0.0;
        self.with_distances(row[2], keys.start, dscores, |dscore, distance| {
            sum += dscore.as_f64() * distance.as_f64();
        });
        sum
    }

    pub(super) const fn has_alibi(&self) -> bool {
        self.alibi.is_some()
    }

    /// Whether the mask or the bias may hide a key.
    pub(super) const fn may_hide(&self) -> bool {
        self.bias.is_some() || self.mask.is_some()
    }

    /// Whether the mask or the bias hides a key.
    #[inline(always)]
    pub(super) fn hides(&self, [b, h, i]: Row, j: usize) -> bool {
        let at = [b, h, i, j];
        (self.mask.as_ref()).is_some_and(|(mask, sees)| mask[at] != *sees)
            || (self.bias.as_ref()).is_some_and(|bias| bias[at] == F::neg_infinity())
    }

    /// Whether the mask or the bias hides all of the keys from all of the queries.
    pub(super) fn hides_all(
        &self,
        [b, h]: [usize; 2],
        queries: Range<usize>,
        keys: Range<usize>,
    ) -> bool {
        let tile = s![b, h, queries, keys];
        (self.mask.as_ref())
            .is_some_and(|(mask, sees)| mask.slice(tile).iter().all(|mask| mask != sees))
            || (self.bias.as_ref()).is_some_and(|bias| {
                bias.slice(tile)
                    .iter()
                    .all(|&bias| bias == F::neg_infinity())
            })
    }

    /// Hands each number of a row what ALiBi multiplies the slope with there.
    #[inline(always)]
    fn with_distances(
        &self,
        i: usize,
        first_key: usize,
        row: &mut [F],
        mut work: impl FnMut(&mut F, F),
    ) {
        let Some((_, origin)) = self.alibi else {
            return;
        };
        let position = i as i64 + self.kv_seq as i64 - self.seq as i64;
        let zero = match origin {
            AlibiOrigin::KeyIndex => 0,
            AlibiOrigin::LastKeyZero => self.kv_seq as i64 - 1,
            _ => position,
        };
        // Whole numbers: exact up to 2^24 in f32, and right to a rounding beyond.
        let first = F::from_f64((first_key as i64 - zero) as f64);
        let distances = (0..row.len()).map(|t| first + F::from_f64(t as f64));
        match origin {
            AlibiOrigin::AbsoluteDistance => {
                (row.iter_mut().zip(distances)).for_each(|(x, d)| work(x, -d.abs()));
            }
            AlibiOrigin::PastDistance => {
                (row.iter_mut().zip(distances)).for_each(|(x, d)| work(x, d.min(F::zero())));
            }
            _ => row.iter_mut().zip(distances).for_each(|(x, d)| work(x, d)),
        }
    }
}

impl<F: Float> Draws<F> {
    fn new(dropout: Dropout) -> Result<Self, AttentionError> {
        let Dropout { rate, key, offset } = dropout;
        if !(0.0..1.0).contains(&rate) {
            return Err(AttentionError::DropoutRate { got: rate });
        }
        Ok(Self {
            random: Philox4x32::new(key),
            offset,
            threshold: (rate * 2_f64.powi(32)).round() as u64,
            factor: F::from_f64(1.0 / (1.0 - rate)),
        })
    }
}
