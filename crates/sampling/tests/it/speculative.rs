//! Speculative decoding: known answers and laws.

mod exact;

use llm_sampling::search::speculative::{
    self, ACCEPT_DRAW, DraftSchedule, RowMode, Verified, verify,
};
use llm_sampling::{Candidates, Context, RowRandom, SamplingError, categorical, reference};
use ndarray::{Array2, Array3, Axis, array, s};
use proptest::prelude::*;

/// Logits `[batch, draft + 1, vocab]`, `[batch, draft, vocab]`, drafted tokens that the draft allows, ragged lengths, and numbers.
#[derive(Clone, Debug)]
struct Batch {
    target: Array3<f64>,
    draft: Array3<f64>,
    tokens: Array2<u32>,
    lens: Vec<usize>,
    accept: Array2<f64>,
    choose: Array2<f64>,
}

fn logit() -> impl Strategy<Value = f64> {
    prop_oneof![6 => -4.0..4.0, 2 => (-2..3_i32).prop_map(f64::from), 1 => Just(f64::NEG_INFINITY)]
}

fn uniform() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..1.0, 1 => Just(0.0), 1 => Just(1.0 - f64::EPSILON / 2.0)]
}

fn batch() -> impl Strategy<Value = Batch> {
    (1..4_usize, 0..5_usize, 1..8_usize).prop_flat_map(|(batch, draft, vocab)| {
        (
            prop::collection::vec(logit(), batch * (draft + 1) * vocab),
            prop::collection::vec(logit(), batch * draft * vocab),
            prop::collection::vec(0..vocab as u32, batch * draft),
            prop::collection::vec(0..=draft, batch),
            prop::collection::vec(uniform(), batch * draft),
            prop::collection::vec(uniform(), batch * (draft + 1)),
        )
            .prop_map(move |(target, q, tokens, lens, accept, choose)| {
                let mut target = Array3::from_shape_vec([batch, draft + 1, vocab], target).unwrap();
                let mut q = Array3::from_shape_vec([batch, draft, vocab], q).unwrap();
                let tokens = Array2::from_shape_vec([batch, draft], tokens).unwrap();
                for row in target.lanes_mut(Axis(2)) {
                    let mut row = row;
                    if row.iter().all(|x| *x == f64::NEG_INFINITY) {
                        row[0] = 0.0;
                    }
                }
                for ((row, i), &token) in tokens.indexed_iter() {
                    let x = &mut q[[row, i, token as usize]];
                    if *x == f64::NEG_INFINITY {
                        *x = -1.0;
                    }
                }
                Batch {
                    target,
                    draft: q,
                    tokens,
                    lens,
                    accept: Array2::from_shape_vec([batch, draft], accept).unwrap(),
                    choose: Array2::from_shape_vec([batch, draft + 1], choose).unwrap(),
                }
            })
    })
}

impl Batch {
    fn uniforms(&self, row: usize) -> RowMode<'_> {
        RowMode::Uniforms {
            accept: self.accept.row(row).to_slice().unwrap(),
            choose: self.choose.row(row).to_slice().unwrap(),
        }
    }

    /// Greedy rows and sampled ones.
    fn modes(&self) -> Vec<RowMode<'_>> {
        let mode = |row| match row % 3 {
            0 => self.uniforms(row),
            1 => RowMode::Greedy,
            _ => RowMode::Sample(RowRandom::new(5, row as u64, 3)),
        };
        (0..self.lens.len()).map(mode).collect()
    }

    fn verify(&self, modes: &[RowMode<'_>]) -> Vec<Verified> {
        verify(
            &self.target,
            Some(&self.draft),
            &self.tokens,
            &self.lens,
            modes,
        )
        .unwrap()
    }

    fn p(&self, row: usize) -> Vec<Vec<f64>> {
        let row = self.target.index_axis(Axis(0), row);
        row.rows()
            .into_iter()
            .map(|x| reference::speculative::softmax(&x.to_vec()))
            .collect()
    }

    fn q(&self, row: usize) -> Vec<Vec<f64>> {
        let row = self.draft.index_axis(Axis(0), row);
        row.rows()
            .into_iter()
            .map(|x| reference::speculative::softmax(&x.to_vec()))
            .collect()
    }

    /// True if no number is so near an edge that rounding decides.
    fn clear(&self, row: usize) -> bool {
        let far = |cdf: &[f64], u: f64| {
            let mut sum = 0.0_f64;
            cdf.iter().all(|p| {
                sum += p;
                (sum - u).abs() > 1e-9 || *p == 0.0 || sum > 1.0 - 1e-9
            })
        };
        let (p, q) = (self.p(row), self.q(row));
        (0..self.lens[row]).all(|i| {
            let token = self.tokens[[row, i]] as usize;
            let ratio = p[i][token] / q[i][token];
            let residual = reference::speculative::residual(&p[i], &q[i]);
            (ratio - self.accept[[row, i]]).abs() > 1e-9
                && (ratio - 1.0).abs() > 1e-9
                && far(&residual, self.choose[[row, i]])
        }) && far(&p[self.lens[row]], self.choose[[row, self.lens[row]]])
    }
}

proptest! {
    #[test]
    fn sampled_rows_match_the_reference(batch in batch()) {
        let modes: Vec<_> = (0..batch.lens.len()).map(|row| batch.uniforms(row)).collect();
        for (row, verified) in batch.verify(&modes).into_iter().enumerate() {
            prop_assume!(batch.clear(row));
            let n = batch.lens[row];
            let drafted: Vec<usize> = (0..n).map(|i| batch.tokens[[row, i]] as usize).collect();
            let (p, q) = (batch.p(row), batch.q(row));
            let accept = batch.accept.row(row).to_vec();
            let expected = reference::speculative::verify(&p, &q, &drafted, &accept, &batch.choose.row(row).to_vec());
            let tokens: Vec<usize> = verified.tokens.iter().map(|token| *token as usize).collect();
            prop_assert_eq!(&tokens, &expected);
            prop_assert_eq!(verified.accepted + 1, expected.len());
            prop_assert_eq!(verified.drafted, n);
            for (i, (token, found)) in tokens.iter().zip(&verified.log_probabilities).enumerate() {
                prop_assert!((found - p[i][*token].ln()).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn greedy_rows_take_the_longest_equal_prefix(batch in batch()) {
        let modes = vec![RowMode::Greedy; batch.lens.len()];
        // The draft's logits are not looked at.
        let mut unread = batch.clone();
        unread.draft.fill(f64::NAN);
        prop_assert_eq!(unread.verify(&modes), batch.verify(&modes));
        for (row, verified) in batch.verify(&modes).into_iter().enumerate() {
            let n = batch.lens[row];
            let best: Vec<usize> = (0..=n)
                .map(|i| reference::greedy::argmax(&batch.target.slice(s![row, i, ..]).to_vec()))
                .collect();
            let drafted: Vec<usize> = (0..n).map(|i| batch.tokens[[row, i]] as usize).collect();
            let expected = reference::speculative::verify_greedy(&best, &drafted);
            let tokens: Vec<usize> = verified.tokens.iter().map(|token| *token as usize).collect();
            prop_assert_eq!(verified.accepted + 1, expected.len());
            prop_assert_eq!(tokens, expected);
            for (i, found) in verified.log_probabilities.iter().enumerate() {
                prop_assert!((found - batch.p(row)[i][best[i]].ln()).abs() < 1e-12);
            }
        }
    }

    /// What a row gets does not depend on the others, on strides, nor on what lies beyond its draft.
    #[test]
    fn packing_into_batches_does_not_matter(batch in batch()) {
        let modes = batch.modes();
        let together = batch.verify(&modes);
        let mut backwards = batch.clone();
        backwards.target.swap_axes(0, 2);
        backwards.target = backwards.target.as_standard_layout().into_owned();
        backwards.target.swap_axes(0, 2); // other strides
        for (row, &n) in batch.lens.iter().enumerate() {
            backwards.target.slice_mut(s![row, n + 1.., ..]).fill(f64::NAN);
            backwards.draft.slice_mut(s![row, n.., ..]).fill(f64::NAN);
            backwards.tokens.slice_mut(s![row, n..]).fill(u32::MAX);
        }
        prop_assert_eq!(&backwards.verify(&modes), &together);
        for (row, mode) in modes.iter().enumerate() {
            let n = batch.lens[row];
            let alone = verify(
                &batch.target.slice(s![row..=row, ..=n, ..]),
                Some(&batch.draft.slice(s![row..=row, ..n, ..])),
                &batch.tokens.slice(s![row..=row, ..n]),
                &[n],
                &[*mode],
            ).unwrap();
            prop_assert_eq!(&alone[0], &together[row]);
        }
    }

    /// A draft without logits is one that was certain of each token.
    #[test]
    fn no_draft_logits_mean_certainty(mut batch in batch()) {
        batch.draft.fill(f64::NEG_INFINITY);
        for ((row, i), &token) in batch.tokens.indexed_iter() {
            batch.draft[[row, i, token as usize]] = 0.0;
        }
        let modes = batch.modes();
        let without = verify(&batch.target, None, &batch.tokens, &batch.lens, &modes).unwrap();
        prop_assert_eq!(without, batch.verify(&modes));
    }

    /// Numbers of a seed, a stream and a step are the caller's numbers at the places that the documentation names.
    #[test]
    fn numbers_come_from_the_step_of_each_token(batch in batch(), seed in any::<u64>(), stream in any::<u64>(), step in 0..1_u64 << 40) {
        for row in 0..batch.lens.len() {
            let n = batch.lens[row];
            let of = |i: usize, draw| RowRandom::new(seed, stream, step + i as u64).uniform(draw);
            let accept: Vec<f64> = (0..n).map(|i| of(i, ACCEPT_DRAW)).collect();
            let choose: Vec<f64> = (0..=n).map(|i| of(i, 0)).collect();
            let given = vec![RowMode::Uniforms { accept: &accept, choose: &choose }; batch.lens.len()];
            let counted = vec![RowMode::Sample(RowRandom::new(seed, stream, step)); batch.lens.len()];
            let alone = |modes: &[RowMode<'_>]| verify(
                &batch.target.slice(s![row..=row, .., ..]), Some(&batch.draft.slice(s![row..=row, .., ..])),
                &batch.tokens.slice(s![row..=row, ..]), &[n], &modes[..1]).unwrap();
            prop_assert_eq!(alone(&given), alone(&counted));
        }
    }

    /// Without a draft, speculative decoding is decoding.
    #[test]
    fn no_draft_is_a_plain_draw(row in prop::collection::vec(-5.0..5.0_f64, 1..20), seed in any::<u64>(), step in 0..1000_u64) {
        let random = RowRandom::new(seed, 1, step);
        let target = Array3::from_shape_vec([1, 1, row.len()], row.clone()).unwrap();
        let verified = verify(&target, None, &Array2::zeros([1, 0]), &[0], &[RowMode::Sample(random)]).unwrap();
        let draw = categorical::draw(&ndarray::Array1::from(row), random.uniform(0)).unwrap();
        prop_assert_eq!(&verified[0].tokens, &vec![draw.token]);
        prop_assert_eq!(&verified[0].log_probabilities, &vec![draw.log_probability]);
    }

    /// A draft that comes from the target itself is accepted whole.
    #[test]
    fn equal_distributions_reject_nothing(mut batch in batch()) {
        batch.draft.assign(&batch.target.slice(s![.., ..-1, ..]));
        for (row, i) in ndarray::indices(batch.tokens.dim()) {
            let token = reference::greedy::argmax(&batch.draft.slice(s![row, i, ..]).to_vec());
            batch.tokens[[row, i]] = token as u32;
        }
        let modes: Vec<_> = (0..batch.lens.len()).map(|row| batch.uniforms(row)).collect();
        for (row, verified) in batch.verify(&modes).into_iter().enumerate() {
            prop_assert_eq!(verified.accepted, batch.lens[row]);
        }
    }

    /// The rule on probabilities is the reference's, and keeps the target's distribution: `q a + (1 - rate) r = p`.
    #[test]
    fn accepted_and_rejected_tokens_add_up_to_the_target(x in prop::collection::vec(-4.0..4.0_f64, 1..12), y in prop::collection::vec(-4.0..4.0_f64, 12)) {
        let p = ndarray::Array1::from(reference::speculative::softmax(&x));
        let q = ndarray::Array1::from(reference::speculative::softmax(&y[..x.len()]));
        let accept = speculative::accept_probabilities(&p, &q).unwrap();
        let rate = speculative::accept_rate(&p, &q).unwrap();
        let residual = speculative::residual(&p, &q).unwrap();
        prop_assert_eq!(accept.to_vec(), reference::speculative::accept_probabilities(&p.to_vec(), &q.to_vec()));
        for i in 0..x.len() {
            prop_assert!((q[i] * accept[i] + (1.0 - rate) * residual[i] - p[i]).abs() < 1e-14);
        }
        prop_assert!((residual.sum() - 1.0).abs() < 1e-14);
    }
}

/// The arithmetic of caches, on `[.., last]` with three drafted tokens `a b c`.
///
/// ```text
/// target was fed  last a b c      (4),   draft was fed  last a b  (3)
/// accepted 1:     last a | x      keep 2, crop 2;       keep 2 (last a), feed x
/// accepted 3:     last a b c | x  keep 4, crop 0;       keep 3 (all),    feed c x
/// ```
#[test]
fn caches_keep_what_was_accepted() {
    let target = array![[
        [0.0, 9.0, 0.0, 0.0],
        [0.0, 0.0, 9.0, 0.0],
        [0.0, 0.0, 0.0, 9.0],
        [9.0, 0.0, 0.0, 0.0]
    ]];
    let run = |tokens: [u32; 3]| {
        verify(&target, None, &array![tokens], &[3], &[RowMode::Greedy])
            .unwrap()
            .remove(0)
    };
    let some = run([1, 1, 3]);
    assert_eq!(
        (some.tokens.as_slice(), some.accepted),
        ([1, 2].as_slice(), 1)
    );
    assert_eq!((some.keep(), some.crop(), some.draft_keep()), (2, 2, 2));
    let all = run([1, 2, 3]);
    assert_eq!(
        (all.tokens.as_slice(), all.accepted),
        ([1, 2, 3, 0].as_slice(), 3)
    );
    assert_eq!((all.keep(), all.crop(), all.draft_keep()), (4, 0, 3));
    let none = run([0, 2, 3]);
    assert_eq!((none.tokens.as_slice(), none.accepted), ([1].as_slice(), 0));
    assert_eq!((none.keep(), none.crop(), none.draft_keep()), (1, 3, 1));

    // A stop token in the accepted part ends it: the newest token is not in the cache.
    let mut stopped = all.clone();
    assert_eq!(stopped.end_at(&[7, 2]), Some(2));
    assert_eq!(
        (stopped.tokens.as_slice(), stopped.accepted),
        ([1, 2].as_slice(), 2)
    );
    assert_eq!(
        (
            stopped.keep(),
            stopped.crop(),
            stopped.log_probabilities.len()
        ),
        (2, 2, 2)
    );
    assert_eq!(all.clone().end_at(&[7]), None);
    let mut limited = all;
    limited.limit(5);
    assert_eq!(limited.tokens.len(), 4);
    limited.limit(1);
    assert_eq!(
        (limited.tokens.as_slice(), limited.accepted, limited.crop()),
        ([1].as_slice(), 1, 3)
    );
}

/// p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): token 1 is accepted with 1/2, and replaced by 0 only.
#[test]
fn a_rejected_token_is_replaced_from_the_excess() {
    let target = array![[
        [0.5_f64.ln(), 0.25_f64.ln(), 0.25_f64.ln()],
        [0.0, 0.0, 0.0]
    ]];
    let draft = array![[[0.25_f64.ln(), 0.5_f64.ln(), 0.25_f64.ln()]]];
    let run = |token, accept, choose| {
        let modes = [RowMode::Uniforms {
            accept: &[accept],
            choose: &[choose, choose],
        }];
        verify(&target, Some(&draft), &array![[token]], &[1], &modes)
            .unwrap()
            .remove(0)
            .tokens
    };
    assert_eq!(run(1, 0.49, 0.5), [1, 1]);
    assert_eq!(run(1, 0.51, 0.0), [0]);
    assert_eq!(run(1, 0.51, 0.99), [0]);
    assert_eq!(run(0, 0.99, 0.99), [0, 2]);
    assert_eq!(run(2, 0.99, 0.0), [2, 0]);
}

#[test]
fn processors_see_the_draft_before_each_position() {
    let mut logits = Array3::from_elem([2, 3, 4], 1.0_f32);
    let tokens = array![[3, 2], [1, 0]];
    // Masks what came last, and notes the step in the logit of token 0 of the others.
    let last =
        |candidates: &mut Candidates<f32>, context: &Context<'_>| -> Result<(), SamplingError> {
            let token = context.tokens().next_back().unwrap();
            let note = (10 * context.row + context.len()) as f32 + context.random.step as f32 / 8.0;
            candidates.logits_mut().fill(note);
            *candidates.get_mut(token).unwrap() = f32::NEG_INFINITY;
            candidates.compact();
            Ok(())
        };
    let contexts = [
        Context::new(&[0, 0], &[1]).with_random(RowRandom::new(0, 0, 1)),
        Context::new(&[2], &[]),
    ];
    speculative::apply_inplace(&mut logits, &contexts, &tokens, &[2, 1], &last).unwrap();
    const MASKED: f32 = f32::NEG_INFINITY;
    assert_eq!(
        logits,
        array![
            [
                [3.125, MASKED, 3.125, 3.125],
                [4.25, 4.25, 4.25, MASKED],
                [5.375, 5.375, MASKED, 5.375]
            ],
            [
                [11.0, 11.0, MASKED, 11.0],
                [12.125, MASKED, 12.125, 12.125],
                [1.0, 1.0, 1.0, 1.0]
            ],
        ]
    );
}

#[test]
fn draft_lengths_follow_their_schedule() {
    let mut constant = DraftSchedule::constant(4).unwrap();
    constant.update(0, 4);
    constant.update(4, 4);
    assert_eq!(constant.len(usize::MAX), 4);
    assert!(constant.goes_on(0.0));
    assert_eq!(
        (constant.len(3), constant.len(1), constant.len(0)),
        (2, 0, 0)
    );
    assert!(constant.is_empty(1));

    let mut heuristic = DraftSchedule::heuristic(2).unwrap();
    let mut lens = Vec::new();
    for (accepted, drafted) in [(1, 2), (0, 1), (1, 1), (3, 3), (4, 5), (0, 0)] {
        heuristic.update(accepted, drafted);
        lens.push(heuristic.len(100));
    }
    assert_eq!(lens, [1, 1, 3, 5, 4, 6]);

    let confident = constant.with_confidence(0.4).unwrap();
    assert!(confident.goes_on(0.4) && !confident.goes_on(0.3999) && !confident.goes_on(f64::NAN));
}
