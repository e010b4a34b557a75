//! Merging of partial attentions: laws, known answers, gradients, errors.

mod errors;

use llm_attention::ndarray::{Array3, Array4, ArrayRef3, ArrayRef4, ShapeBuilder, array, s};
use llm_attention::{Mask, flash, merge, reference};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_numerics::testing::{Tolerance, assert_close};
use proptest::prelude::*;

use crate::cases::{self, close};

/// Five terms at most, each below 10 in size; exponents err by one unit of the last place
/// of 3,000 (the largest log-sum-exp here), that is 5e-13.
const F64: Tolerance = Tolerance::new(1e-11, 1e-11);
/// Weights are e^x with -87 < x <= 0 in f32: an error of 87 units of 6e-8 at most, times
/// values below 10; gradients sum 8 products of them.
const F32: Tolerance = Tolerance::new(5e-4, 5e-5);

/// Pieces to merge, and what comes back to them.
#[derive(Clone, Debug)]
struct Pieces {
    outs: Vec<Array4<f64>>,
    lses: Vec<Array3<f64>>,
    dout: Array4<f64>,
    dlse: Array3<f64>,
}

fn of4(arrays: &[Array4<f64>]) -> Vec<&ArrayRef4<f64>> {
    arrays.iter().map(|x| &**x).collect()
}

fn of3(arrays: &[Array3<f64>]) -> Vec<&ArrayRef3<f64>> {
    arrays.iter().map(|x| &**x).collect()
}

impl Pieces {
    /// Every number is one of `f32` too. Log-sum-exps are normal times `spread`, one in
    /// `blind` is `-inf` (none if 0).
    fn new(n: usize, shape: [usize; 4], spread: f64, blind: u32, key: u64) -> Self {
        let random = Philox4x32::new(key);
        let mut i = 0;
        let mut draw = move || {
            i += 1;
            f64::from(random.normal_f64(0, i) as f32)
        };
        let [batch, n_heads, seq, _] = shape;
        let rows = [batch, n_heads, seq];
        let coins = Philox4x32::new(key);
        let mut j = 0;
        Self {
            outs: (0..n)
                .map(|_| Array4::from_shape_simple_fn(shape, &mut draw))
                .collect(),
            lses: (0..n)
                .map(|_| {
                    Array3::from_shape_simple_fn(rows, || {
                        j += 1;
                        let x = f64::from((spread * draw()) as f32);
                        let is_blind = blind > 0 && coins.below(1, j, blind) == 0;
                        if is_blind { f64::NEG_INFINITY } else { x }
                    })
                })
                .collect(),
            dout: Array4::from_shape_simple_fn(shape, &mut draw),
            dlse: Array3::from_shape_simple_fn(rows, &mut draw),
        }
    }

    fn forward(&self) -> (Array4<f64>, Array3<f64>) {
        merge::forward(&of4(&self.outs), &of3(&self.lses)).unwrap()
    }

    fn backward(&self) -> merge::Gradients<f64> {
        let (outs, lses) = (of4(&self.outs), of3(&self.lses));
        let (out, _) = self.forward();
        merge::backward(&self.dout, Some(&self.dlse), &outs, &lses, &out).unwrap()
    }

    fn in_f32(&self) -> (Array4<f64>, Array3<f64>, merge::Gradients<f64>) {
        let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
        let outs: Vec<_> = self.outs.iter().map(narrow).collect();
        let lses: Vec<_> = self.lses.iter().map(|x| x.mapv(|x| x as f32)).collect();
        let outs: Vec<&ArrayRef4<f32>> = outs.iter().map(|x| &**x).collect();
        let lses: Vec<&ArrayRef3<f32>> = lses.iter().map(|x| &**x).collect();
        let (out, lse) = merge::forward(&outs, &lses).unwrap();
        let dlse = self.dlse.mapv(|x| x as f32);
        let gradients =
            merge::backward(&narrow(&self.dout), Some(&dlse), &outs, &lses, &out).unwrap();
        let merge::Gradients { douts, dlses, .. } = gradients;
        let gradients = merge::Gradients {
            douts: douts.into_iter().map(|x| x.mapv(f64::from)).collect(),
            dlses: dlses.into_iter().map(|x| x.mapv(f64::from)).collect(),
        };
        (out.mapv(f64::from), lse.mapv(f64::from), gradients)
    }

    /// Whether a piece saw a key of a row.
    fn sees(&self, p: usize, row: [usize; 3]) -> bool {
        self.lses[p][row] != f64::NEG_INFINITY
    }
}

/// Up to five pieces of any sizes, zero included; log-sum-exps close together, far apart,
/// and so far that weights underflow; in some, pieces that saw nothing.
fn pieces() -> impl Strategy<Value = Pieces> {
    let shape = [0_usize..3, 0_usize..4, 0_usize..6, 0_usize..8];
    let spread = prop_oneof![Just(1.0), Just(30.0), Just(1000.0)];
    let blind = prop_oneof![Just(0_u32), Just(4), Just(2), Just(1)];
    (1_usize..6, shape, spread, blind, any::<u64>())
        .prop_map(|(n, shape, spread, blind, key)| Pieces::new(n, shape, spread, blind, key))
}

fn close_gradients(
    got: &merge::Gradients<f64>,
    want: &merge::Gradients<f64>,
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.douts.len(), want.douts.len());
    prop_assert_eq!(got.dlses.len(), want.dlses.len());
    for (got, want) in got.douts.iter().zip(&want.douts) {
        close(got, want, tolerance)?;
    }
    for (got, want) in got.dlses.iter().zip(&want.dlses) {
        close(got, want, tolerance)?;
    }
    Ok(())
}

fn same_bits<'a>(
    got: impl IntoIterator<Item = &'a f64>,
    want: impl IntoIterator<Item = &'a f64>,
) -> bool {
    let bits = |x: &f64| x.to_bits();
    got.into_iter().map(bits).eq(want.into_iter().map(bits))
}

/// `q`, `k`, `v`, and where to cut the keys; pieces may have no keys.
fn cut_cases() -> impl Strategy<Value = (cases::Case, Vec<usize>)> {
    let cuts = proptest::collection::vec(0_usize..20, 0..4);
    (cases::non_empty_cases(), cuts).prop_map(|(mut case, cuts)| {
        case.config.mask = Mask::Full;
        let kv_seq = case.k.dim().2;
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(kv_seq)).collect();
        cuts.extend([0, kv_seq]);
        cuts.sort_unstable();
        (case, cuts)
    })
}

proptest! {
    /// The fast path equals the definition, forward and backward, in f64 and f32.
    #[test]
    fn equals_the_reference(pieces in pieces()) {
        let (outs, lses) = (of4(&pieces.outs), of3(&pieces.lses));
        let (want, want_lse) = reference::merge::forward(&outs, &lses).unwrap();
        let (out, lse) = pieces.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let dlse = Some(&*pieces.dlse);
        let want_grads = reference::merge::backward(&pieces.dout, dlse, &outs, &lses).unwrap();
        close_gradients(&pieces.backward(), &want_grads, F64)?;
        let without = merge::backward(&pieces.dout, None, &outs, &lses, &out).unwrap();
        let want_without = reference::merge::backward(&pieces.dout, None, &outs, &lses).unwrap();
        close_gradients(&without, &want_without, F64)?;
        let (out, lse, grads) = pieces.in_f32();
        close(&out, &want, F32)?;
        close(&lse, &want_lse, F32)?;
        close_gradients(&grads, &want_grads, F32)?;
    }

    /// Attention over all keys is the merge of attention over pieces of them, in f64 and f32.
    #[test]
    fn pieces_make_the_whole((case, cuts) in cut_cases()) {
        let (want, want_lse) = case.forward();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| {
            let piece = s![.., .., cut[0]..cut[1], ..];
            let (k, v) = (case.k.slice(piece), case.v.slice(piece));
            flash::forward_with_lse(&case.q, &k, &v, &case.config).unwrap()
        }).collect();
        let (outs, lses): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        let (out, lse) = merge::forward(&of4(&outs), &of3(&lses)).unwrap();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
    }

    /// Ring blocks backward: each piece, with the merged output and log-sum-exp, gets its own
    /// share of the gradients.
    #[test]
    fn pieces_share_the_gradient((case, cuts) in cut_cases()) {
        let want = case.backward();
        let (q, config) = (&case.q, &case.config);
        let (mut outs, mut lses) = (Vec::new(), Vec::new());
        for cut in cuts.windows(2) {
            let piece = s![.., .., cut[0]..cut[1], ..];
            let (k, v) = (case.k.slice(piece), case.v.slice(piece));
            let (out, lse) = flash::forward_with_lse(q, &k, &v, config).unwrap();
            outs.push(out);
            lses.push(lse);
        }
        let (out, lse) = merge::forward(&of4(&outs), &of3(&lses)).unwrap();
        // Scores of 100 and value gradients of 100 times 20 terms.
        let tolerance = Tolerance::new(1e-10, 1e-10);
        let mut dq = Array4::zeros(q.dim());
        for cut in cuts.windows(2) {
            let piece = s![.., .., cut[0]..cut[1], ..];
            let (k, v) = (case.k.slice(piece), case.v.slice(piece));
            let got = flash::backward(&case.dout, q, &k, &v, &out, &lse, config).unwrap();
            close(&got.dk, &want.dk.slice(piece).to_owned(), tolerance)?;
            close(&got.dv, &want.dv.slice(piece).to_owned(), tolerance)?;
            dq += &got.dq;
        }
        close(&dq, &want.dq, tolerance)?;
    }

    /// The order of the pieces changes rounding only.
    #[test]
    fn pieces_have_no_order(pieces in pieces(), shift in 0_usize..5) {
        let (want, want_lse) = pieces.forward();
        let want_grads = pieces.backward();
        let mut turned = pieces;
        let n = turned.outs.len();
        let shift = shift % n;
        turned.outs.reverse();
        turned.lses.reverse();
        turned.outs.rotate_left(shift);
        turned.lses.rotate_left(shift);
        let (out, lse) = turned.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let mut grads = turned.backward();
        grads.douts.rotate_right(shift);
        grads.dlses.rotate_right(shift);
        grads.douts.reverse();
        grads.dlses.reverse();
        close_gradients(&grads, &want_grads, F64)?;
    }

    /// Merging what is merged already: a result stands for its pieces.
    #[test]
    fn merging_is_associative(pieces in pieces(), cut in 0_usize..5) {
        let (want, want_lse) = pieces.forward();
        let n = pieces.outs.len();
        let cut = cut % n;
        let mut outs = Vec::new();
        let mut lses = Vec::new();
        for range in [0..cut, cut..n].into_iter().filter(|range| !range.is_empty()) {
            let (out, lse) =
                merge::forward(&of4(&pieces.outs[range.clone()]), &of3(&pieces.lses[range])).unwrap();
            outs.push(out);
            lses.push(lse);
        }
        let (out, lse) = merge::forward(&of4(&outs), &of3(&lses)).unwrap();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
    }

    /// One piece comes out bit for bit, the sign of zero included; so does a row that one
    /// piece alone saw, whatever the others hold.
    #[test]
    fn one_piece_is_the_identity(pieces in pieces(), zero in prop_oneof![Just(0.0), Just(-0.0)]) {
        let mut pieces = pieces;
        let seen = pieces.lses[0].mapv(|x| x != f64::NEG_INFINITY);
        let (mut out, mut lse) = (pieces.outs[0].clone(), pieces.lses[0].clone());
        out.indexed_iter_mut().for_each(|((b, h, i, d), x)| {
            *x = if !seen[[b, h, i]] { 0.0 } else if d % 2 == 0 { zero } else { *x };
        });
        lse.indexed_iter_mut().for_each(|((_, _, i), x)| if i == 0 && x.is_finite() { *x = zero; });
        let (got, got_lse) = merge::forward(&[&out], &[&lse]).unwrap();
        prop_assert!(same_bits(&got, &out) && same_bits(&got_lse, &lse));
        pieces.outs.iter_mut().for_each(|out| out.fill(f64::NAN));
        pieces.lses.iter_mut().for_each(|lse| lse.fill(f64::NEG_INFINITY));
        for at in 0..=pieces.outs.len() {
            let (mut outs, mut lses) = (of4(&pieces.outs), of3(&pieces.lses));
            outs.insert(at, &out);
            lses.insert(at, &lse);
            let (got, got_lse) = merge::forward(&outs, &lses).unwrap();
            prop_assert!(same_bits(&got, &out) && same_bits(&got_lse, &lse));
        }
    }

    /// Weights are positive and sum to one: equal rows come out as they are, and a number
    /// added to all log-sum-exps comes out with the result and changes nothing else.
    #[test]
    fn rows_are_means_of_the_pieces(pieces in pieces(), shift in -300.0_f64..300.0) {
        let (want, want_lse) = pieces.forward();
        for ((b, h, i, d), &x) in want.indexed_iter() {
            let seen = (0..pieces.outs.len()).filter(|&p| pieces.sees(p, [b, h, i]));
            let values: Vec<f64> = seen.map(|p| pieces.outs[p][[b, h, i, d]]).collect();
            let low = values.iter().copied().reduce(f64::min).unwrap_or(0.0);
            let high = values.iter().copied().reduce(f64::max).unwrap_or(0.0);
            prop_assert!(low - 1e-12 <= x && x <= high + 1e-12, "{low} {x} {high}");
        }
        let mut shifted = pieces.clone();
        for lse in &mut shifted.lses {
            *lse += shift;
        }
        let (out, lse) = shifted.forward();
        close(&out, &want, F64)?;
        close(&lse, &(&want_lse + shift), F64)?;
        close_gradients(&shifted.backward(), &pieces.backward(), F64)?;
        let mut equal = pieces.clone();
        for p in 0..equal.outs.len() {
            equal.outs[p] = pieces.outs[0].clone();
        }
        let (out, lse) = equal.forward();
        let want = Array4::from_shape_fn(out.dim(), |(b, h, i, d)| {
            let is_blind = lse[[b, h, i]] == f64::NEG_INFINITY;
            if is_blind { 0.0 } else { pieces.outs[0][[b, h, i, d]] }
        });
        close(&out, &want, F64)?;
    }

    /// A piece that saw no key: not read, and no gradient. If none did: zero and `-inf`.
    #[test]
    fn pieces_that_saw_nothing_are_not_read(
        mut pieces in pieces(),
        junk in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(1e300)],
    ) {
        let (want, want_lse) = pieces.forward();
        let want_grads = pieces.backward();
        for p in 0..pieces.outs.len() {
            for ((b, h, i), &lse) in pieces.lses[p].indexed_iter() {
                if lse == f64::NEG_INFINITY {
                    pieces.outs[p].slice_mut(s![b, h, i, ..]).fill(junk);
                    prop_assert!(want_grads.douts[p].slice(s![b, h, i, ..]).iter().all(|x| *x == 0.0));
                    prop_assert_eq!(want_grads.dlses[p][[b, h, i]], 0.0);
                }
            }
        }
        let (outs, lses) = (of4(&pieces.outs), of3(&pieces.lses));
        let (out, lse) = pieces.forward();
        prop_assert!(same_bits(&out, &want) && same_bits(&lse, &want_lse));
        prop_assert_eq!(pieces.backward(), want_grads.clone());
        let (out, lse) = reference::merge::forward(&outs, &lses).unwrap();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let dlse = Some(&*pieces.dlse);
        let got = reference::merge::backward(&pieces.dout, dlse, &outs, &lses).unwrap();
        close_gradients(&got, &want_grads, F64)?;
        for ((b, h, i), &x) in lse.indexed_iter() {
            let is_blind = (0..pieces.outs.len()).all(|p| !pieces.sees(p, [b, h, i]));
            prop_assert_eq!(x == f64::NEG_INFINITY, is_blind);
            prop_assert!(!is_blind || out.slice(s![b, h, i, ..]).iter().all(|x| *x == 0.0));
        }
    }

    /// NaN and infinity are not swallowed, and stay in the elements that they reach.
    #[test]
    fn nan_stays_where_it_belongs(
        pieces in pieces(),
        p in 0_usize..5,
        junk in prop_oneof![Just(f64::NAN), Just(f64::INFINITY)],
    ) {
        let p = p % pieces.outs.len();
        let (want, want_lse) = pieces.forward();
        // In the first feature of the outputs of piece p.
        let mut bad = pieces.clone();
        for mut row in bad.outs[p].rows_mut() {
            if let Some(x) = row.first_mut() {
                *x = junk;
            }
        }
        let (out, lse) = bad.forward();
        prop_assert!(same_bits(&lse, &want_lse));
        for ((b, h, i, d), x) in out.indexed_iter() {
            let is_reached = d == 0 && bad.sees(p, [b, h, i]);
            prop_assert_eq!(!x.is_finite(), is_reached);
            prop_assert!(is_reached || x.to_bits() == want[[b, h, i, d]].to_bits());
        }
        // In the log-sum-exp of the first query of piece p.
        let mut bad = pieces.clone();
        let first = bad.lses[p].dim().2.min(1);
        bad.lses[p].slice_mut(s![.., .., ..first]).fill(junk);
        let (outs, lses) = (of4(&bad.outs), of3(&bad.lses));
        for (out, lse) in [bad.forward(), reference::merge::forward(&outs, &lses).unwrap()] {
            for ((_, _, i), x) in lse.indexed_iter() {
                prop_assert_eq!(x.is_nan(), i == 0);
            }
            for ((_, _, i, _), x) in out.indexed_iter() {
                prop_assert_eq!(x.is_nan(), i == 0);
            }
        }
    }

    /// Any strides give the same bits.
    #[test]
    fn strides_do_not_matter(pieces in pieces()) {
        let (want, want_lse) = pieces.forward();
        let want_grads = pieces.backward();
        let fortran = |x: &Array4<f64>| {
            let mut y = Array4::zeros(x.dim().f());
            y.assign(x);
            y
        };
        let outs: Vec<_> = pieces.outs.iter().map(fortran).collect();
        // Every second row of something longer, and backwards.
        let lses: Vec<_> = pieces.lses.iter().map(|lse| {
            let (b, h, n) = lse.dim();
            let mut y = Array3::from_elem((b, h, 2 * n), f64::NAN);
            y.slice_mut(s![.., .., ..;-2]).assign(lse);
            y
        }).collect();
        let views: Vec<_> = lses.iter().map(|lse| lse.slice(s![.., .., ..;-2])).collect();
        let lses: Vec<&ArrayRef3<f64>> = views.iter().map(|lse| &**lse).collect();
        let (out, lse) = merge::forward(&of4(&outs), &lses).unwrap();
        prop_assert!(same_bits(&out, &want) && same_bits(&lse, &want_lse));
        let (dout, out) = (fortran(&pieces.dout), fortran(&out));
        let got = merge::backward(&dout, Some(&pieces.dlse), &of4(&outs), &lses, &out).unwrap();
        prop_assert_eq!(got, want_grads);
    }
}

// Weights 1/4 and 3/4: out = 1 + 6 = 7, lse = ln 4. With dout = 1 and dlse = 2:
// dlse_0 = 1/4 (4 - 7 + 2) = -1/4, dlse_1 = 3/4 (8 - 7 + 2) = 9/4.
#[test]
fn two_pieces_by_hand() {
    let tolerance = Tolerance::new(1e-15, 1e-15);
    let (a, b) = (array![[[[4.0]]]], array![[[[8.0]]]]);
    let (lse_a, lse_b) = (array![[[0.0]]], array![[[3_f64.ln()]]]);
    let (outs, lses): ([&ArrayRef4<f64>; 2], [&ArrayRef3<f64>; 2]) = ([&a, &b], [&lse_a, &lse_b]);
    let (out, lse) = merge::forward(&outs, &lses).unwrap();
    assert_close(&out, &array![[[[7.0]]]], tolerance);
    assert_close(&lse, &array![[[4_f64.ln()]]], tolerance);
    let dlse = array![[[2.0]]];
    let dout = array![[[[1.0]]]];
    let got = merge::backward(&dout, Some(&dlse), &outs, &lses, &out).unwrap();
    assert_close(&got.douts[0], &array![[[[0.25]]]], tolerance);
    assert_close(&got.douts[1], &array![[[[0.75]]]], tolerance);
    assert_close(&got.dlses[0], &array![[[-0.25]]], tolerance);
    assert_close(&got.dlses[1], &array![[[2.25]]], tolerance);
}

// e^(1e4) overflows; 1e4 and 1e4 + 1 weigh 1/(1 + e) and e/(1 + e). In f32 the log-sum-exp
// 10001.313 is known to 1e-3 only: weights made of it would be off by 5e-4.
#[test]
fn large_log_sum_exps_neither_overflow_nor_cost_digits() {
    let (a, b) = (array![[[[0.0_f32]]]], array![[[[1.0_f32]]]]);
    for base in [1e4_f32, -1e4] {
        let (lse_a, lse_b) = (array![[[base]]], array![[[base + 1.0]]]);
        let (out, lse) = merge::forward(&[&a, &b], &[&lse_a, &lse_b]).unwrap();
        let want = 1.0 / (1.0 + (-1_f64).exp());
        assert!((f64::from(out[[0, 0, 0, 0]]) - want).abs() < 2e-7);
        let want = f64::from(base) + (1.0 + 1_f64.exp()).ln();
        assert!((f64::from(lse[[0, 0, 0]]) - want).abs() < 1e-3);
    }
    let (lse_a, lse_b) = (array![[[f32::MAX]]], array![[[-f32::MAX]]]);
    let (out, lse) = merge::forward(&[&b, &a], &[&lse_a, &lse_b]).unwrap();
    assert_eq!((out[[0, 0, 0, 0]], lse[[0, 0, 0]]), (1.0, f32::MAX));
}

#[test]
fn gradients_equal_finite_differences() {
    for spread in [1.0, 3.0] {
        let pieces = Pieces::new(3, [2, 2, 3, 4], spread, 0, 17);
        let settings = GradientCheck::new();
        let loss = |outs: &[Array4<f64>], lses: &[Array3<f64>], with_lse: bool| {
            let (out, lse) = reference::merge::forward(&of4(outs), &of3(lses)).unwrap();
            let of_lse = if with_lse {
                (lse * &pieces.dlse).sum()
            } else {
                0.0
            };
            (out * &pieces.dout).sum() + of_lse
        };
        let (outs, lses) = (of4(&pieces.outs), of3(&pieces.lses));
        let (out, _) = pieces.forward();
        for with_lse in [false, true] {
            let dlse = with_lse.then_some(&*pieces.dlse);
            for got in [
                merge::backward(&pieces.dout, dlse, &outs, &lses, &out).unwrap(),
                reference::merge::backward(&pieces.dout, dlse, &outs, &lses).unwrap(),
            ] {
                for p in 0..3 {
                    let mut moved = pieces.clone();
                    let of_out = |x: &Array4<f64>| {
                        moved.outs[p].assign(x);
                        loss(&moved.outs, &pieces.lses, with_lse)
                    };
                    assert_gradient(of_out, &pieces.outs[p], &got.douts[p], &settings);
                    let mut moved = pieces.clone();
                    let of_lse = |x: &Array3<f64>| {
                        moved.lses[p].assign(x);
                        loss(&pieces.outs, &moved.lses, with_lse)
                    };
                    assert_gradient(of_lse, &pieces.lses[p], &got.dlses[p], &settings);
                }
            }
        }
    }
}

/// Large enough to wake threads, and not a multiple of what one task takes.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let pieces = Pieces::new(3, [2, 3, 300, 150], 2.0, 4, 5);
    assert!(pieces.dout.len() >= 1 << 18); // merge::PARALLEL, reached by backward too
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap();
        pool.install(|| (pieces.forward(), pieces.backward()))
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
    let (outs, lses) = (of4(&pieces.outs), of3(&pieces.lses));
    let (out, _) = reference::merge::forward(&outs, &lses).unwrap();
    assert_close(&want.0.0, &out, F64);
}
