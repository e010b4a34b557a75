//! What a mask or a bias hides from some batch rows, heads and queries only.

use llm_attention::{MaskPolarity, ScoreMods, reference};
use ndarray::{Array4, s};
use proptest::prelude::*;

use super::{F64, backward, forward};
use crate::cases::{close, non_empty_cases};

proptest! {
    /// A value that is NaN reaches the rows that see its key, and no others: forward, and in the gradient of the queries.
    #[test]
    fn nan_reaches_the_rows_that_see_it(
        case in non_empty_cases(),
        hidden in prop::collection::vec(any::<bool>(), 997),
        by_bias in any::<bool>(),
        nan in 0_usize..20,
    ) {
        let ((batch, n_heads, seq, _), kv_seq) = (case.q.dim(), case.k.dim().2);
        let nan = nan % kv_seq;
        // A prime number of draws, so that no axis repeats.
        let place = |[b, h, i, j]: [usize; 4]| ((b * n_heads + h) * seq + i) * kv_seq + j;
        let mask = Array4::from_shape_fn((batch, n_heads, seq, kv_seq), |(b, h, i, j)| {
            hidden[place([b, h, i, j]) % hidden.len()]
        });
        let bias = mask.mapv(|hidden| if hidden { f64::NEG_INFINITY } else { 0.5 });
        let mods = if by_bias {
            ScoreMods::new().with_bias(&bias)
        } else {
            ScoreMods::new().with_mask(&mask, MaskPolarity::TrueHides)
        };
        let in_config = reference::attention::mask_matrix(case.config.mask, seq, kv_seq);
        let ((want, _), want_grads) = (forward(&case, &mods), backward(&case, &mods).inputs);
        let mut changed = case.clone();
        changed.v.slice_mut(s![.., .., nan, ..]).fill(f64::NAN);
        let ((got, _), grads) = (forward(&changed, &mods), backward(&changed, &mods).inputs);
        for b in 0..batch {
            for h in 0..n_heads {
                for i in 0..seq {
                    let row = s![b, h, i, ..];
                    if in_config[[i, nan]] && !mask[[b, h, i, nan]] {
                        prop_assert!(got.slice(row).iter().all(|x| x.is_nan()));
                    } else {
                        close(&got.slice(row).to_owned(), &want.slice(row).to_owned(), F64)?;
                        let (got, want) = (grads.dq.slice(row), want_grads.dq.slice(row));
                        close(&got.to_owned(), &want.to_owned(), F64)?;
                    }
                }
            }
        }
    }

    /// A query whose gradient is NaN hands it to the keys that it sees, and to no others.
    #[test]
    fn nan_of_a_query_reaches_the_keys_that_it_sees(
        case in non_empty_cases(),
        hidden in prop::collection::vec(any::<bool>(), 997),
        by_bias in any::<bool>(),
        (nan_batch, nan_head, nan_query) in (0_usize..3, 0_usize..6, 0_usize..20),
    ) {
        let ((batch, n_heads, seq, _), (_, n_kv_heads, kv_seq, _)) = (case.q.dim(), case.k.dim());
        let [b, h, i] = [nan_batch % batch, nan_head % n_heads, nan_query % seq];
        let mask = Array4::from_shape_fn((batch, n_heads, seq, kv_seq), |(b, h, i, j)| {
            hidden[(((b * n_heads + h) * seq + i) * kv_seq + j) % hidden.len()]
        });
        let bias = mask.mapv(|hidden| if hidden { f64::NEG_INFINITY } else { 0.5 });
        let mods = if by_bias {
            ScoreMods::new().with_bias(&bias)
        } else {
            ScoreMods::new().with_mask(&mask, MaskPolarity::TrueHides)
        };
        let in_config = reference::attention::mask_matrix(case.config.mask, seq, kv_seq);
        let want = backward(&case, &mods).inputs;
        let mut changed = case.clone();
        changed.dout.slice_mut(s![b, h, i, ..]).fill(f64::NAN);
        let got = backward(&changed, &mods).inputs;
        let kv_head = h / (n_heads / n_kv_heads);
        for j in 0..kv_seq {
            let sees = in_config[[i, j]] && !mask[[b, h, i, j]];
            for other in 0..batch {
                for head in 0..n_kv_heads {
                    let row = s![other, head, j, ..];
                    if sees && [other, head] == [b, kv_head] {
                        prop_assert!(got.dv.slice(row).iter().all(|x| x.is_nan()));
                        continue;
                    }
                    for (got, want) in [(&got.dk, &want.dk), (&got.dv, &want.dv)] {
                        close(&got.slice(row).to_owned(), &want.slice(row).to_owned(), F64)?;
                    }
                }
            }
        }
    }
}
