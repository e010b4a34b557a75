//! The tournament watermark: the distribution stays on average, and the mark is found.

use llm_numerics::philox::Philox4x32;
use llm_sampling::synthid::{SynthId, tournament_inplace};
use llm_sampling::{Candidates, Context, Processor, SamplingError, categorical, reference};
use ndarray::{Array2, Array3, ArrayView1, array};
use proptest::prelude::*;

/// Draws tokens of a uniform model over 50 ids.
fn text(n: usize, seed: u64, synthid: Option<&SynthId>) -> Vec<u32> {
    let random = Philox4x32::new(seed);
    let mut tokens = vec![7, 8, 9];
    let mut candidates = Candidates::new();
    while tokens.len() < n {
        candidates.fill(&[0.0_f32; 50]).unwrap();
        if let Some(synthid) = synthid {
            synthid
                .apply(&mut candidates, &Context::new(&tokens, &[]))
                .unwrap();
        }
        let u = random.uniform_f64(0, tokens.len() as u64);
        let draw = categorical::draw(&ArrayView1::from(candidates.logits()), u).unwrap();
        tokens.extend(candidates.token(draw.token as usize));
    }
    tokens
}

/// A round gives its coin (1 - c) / 4 more than a half, where c, the chance that two draws are the same token, starts at 1/50 and grows by about
/// 5/4 each round: some 3 coins of 30 in all, so z is near 2 * 3 * 400 / sqrt(30 * 400) = 22 for 400 tokens. Without the mark, or with another key, z is that of chance: beyond 4 once in 30,000.
#[test]
fn marked_text_is_found_and_other_text_is_not() {
    for context in [2, 4] {
        let synthid = SynthId::new(42, 30, context, 1024).unwrap();
        let marked = synthid.detect(&text(400, 1, Some(&synthid))).unwrap();
        assert!(marked.z_score > 10.0, "{context}: {marked:?}");
        let plain = synthid.detect(&text(400, 1, None)).unwrap();
        assert!(plain.z_score.abs() < 4.0, "{context}: {plain:?}");
        let other = SynthId::new(43, 30, context, 1024).unwrap();
        let stranger = other.detect(&text(400, 1, Some(&synthid))).unwrap();
        assert!(stranger.z_score.abs() < 4.0, "{context}: {stranger:?}");
    }
}

#[test]
fn repeated_places_do_not_count() {
    let synthid = SynthId::new(1, 30, 1, 100).unwrap();
    let once = synthid.detect(&[1, 2, 3, 1]).unwrap();
    let often = synthid.detect(&[1, 2, 3].repeat(20)).unwrap();
    assert_eq!((once.scored, often), (3, once));
    let ones = once.mean * 90.0;
    assert!((once.z_score - (ones - 45.0) / 22.5_f64.sqrt()).abs() < 1e-12);
    // Without a history all places count.
    let forgetful = SynthId::new(1, 30, 1, 0).unwrap();
    assert_eq!(forgetful.detect(&[1, 2].repeat(20)).unwrap().scored, 39);
}

/// After one token of context that came before, within the history or not; and with too few tokens.
#[test]
fn repeated_and_short_contexts_are_left_alone() {
    let marks = |tokens: &[u32], context: usize, history: usize| {
        let mut candidates = Candidates::new();
        candidates.fill(&[0.5_f32; 20]).unwrap();
        let synthid = SynthId::new(1, 30, context, history).unwrap();
        synthid
            .apply(&mut candidates, &Context::new(tokens, &[]))
            .unwrap();
        candidates.make_dense();
        candidates.logits() != [0.5; 20]
    };
    assert!(marks(&[1, 2, 3], 1, 10));
    assert!(!marks(&[3, 2, 3], 1, 10));
    assert!(!marks(&[3, 2, 3], 1, 2));
    assert!(marks(&[3, 2, 3], 1, 1)); // forgotten
    assert!(marks(&[3, 3], 1, 0)); // no history
    assert!(marks(&[3, 1, 3], 2, 10)); // (1, 3) is not (3, 1)
    assert!(!marks(&[1, 3, 1, 3], 2, 10));
    assert!(!marks(&[1, 3], 3, 10));
    assert!(marks(&[1, 3, 5], 3, 10));
}

#[test]
fn settings_and_shapes_that_do_not_fit_are_refused() {
    for depth in [0, 129] {
        assert_eq!(
            SynthId::new(1, depth, 1, 1),
            Err(SamplingError::TournamentDepth(depth))
        );
    }
    assert_eq!(
        SynthId::new(1, 1, 0, 1),
        Err(SamplingError::WatermarkContext(0))
    );
    let synthid = SynthId::new(1, 128, 2, 1).unwrap();
    let error = SamplingError::WatermarkTokens { needed: 3, got: 2 };
    assert_eq!(synthid.detect(&[1, 2]), Err(error));
    let mut logits = array![[1.0, 2.0], [1.0, f64::NAN]];
    let error = SamplingError::Coins {
        expected: (2, 2),
        got: (2, 3),
    };
    let coins = |vocab| Array3::from_elem([2, vocab, 1], true);
    assert_eq!(tournament_inplace(&mut logits, &coins(3)), Err(error));
    let error = SamplingError::NanLogits { row: 1, token: 1 };
    assert_eq!(tournament_inplace(&mut logits, &coins(2)), Err(error));
    assert_eq!(logits[[0, 0]], 1.0);
}

proptest! {
    #[test]
    fn tournaments_match_the_reference(
        rows in prop::collection::vec(prop::collection::vec(prop_oneof![1 => Just(f64::NEG_INFINITY), 5 => -4.0..4.0], 6), 2),
        coins in prop::collection::vec(any::<bool>(), 2 * 6 * 5),
        depth in 0..6_usize,
    ) {
        prop_assume!(rows.iter().all(|row| row.iter().any(|x| *x > f64::NEG_INFINITY)));
        let coins = Array3::from_shape_fn([2, 6, depth], |(b, i, l)| coins[(b * 6 + i) * 5 + l]);
        let mut logits = Array2::from_shape_fn([2, 6], |(b, i)| rows[b][i]);
        tournament_inplace(&mut logits, &coins).unwrap();
        for (b, row) in rows.iter().enumerate() {
            let g: Vec<Vec<f64>> = (0..depth).map(|l| (0..6).map(|i| f64::from(u8::from(coins[[b, i, l]]))).collect()).collect();
            let expected = reference::synthid::tournament(row, &g);
            for (x, y) in logits.row(b).iter().zip(expected) {
                prop_assert!((x.exp() - y.exp()).abs() < 1e-13);
                prop_assert!(*x == y || (x - y).abs() < 1e-9 || y < -20.0, "{x} {y}");
            }
        }
    }

    /// Over all coins of a round a token is as likely as before.
    #[test]
    fn a_round_does_not_change_the_mean(row in prop::collection::vec(-3.0..3.0_f64, 5)) {
        let mut mean = [0.0; 5];
        for coins in 0..32_u32 {
            let mut logits = Array2::from_shape_vec([1, 5], row.clone()).unwrap();
            let coins = Array3::from_shape_fn([1, 5, 1], |(_, i, _)| coins >> i & 1 == 1);
            tournament_inplace(&mut logits, &coins).unwrap();
            for (mean, x) in mean.iter_mut().zip(&logits) {
                *mean += x.exp() / 32.0;
            }
        }
        for (mean, x) in mean.iter().zip(reference::categorical::log_softmax(&row)) {
            prop_assert!((mean - x.exp()).abs() < 1e-14);
        }
    }

    /// The processor on a compacted row, and with the context cut anywhere.
    #[test]
    fn marks_do_not_depend_on_the_form(row in prop::collection::vec(prop_oneof![1 => Just(f64::NEG_INFINITY), 3 => -4.0..4.0], 9), cut in 0..5_usize) {
        prop_assume!(row.iter().any(|x| *x > f64::NEG_INFINITY));
        let synthid = SynthId::new(5, 20, 2, 8).unwrap();
        let tokens = [1, 2, 3, 4, 5];
        let mut dense = Candidates::new();
        dense.fill(&row).unwrap();
        synthid.apply(&mut dense, &Context::new(&tokens, &[])).unwrap();
        let mut compacted = Candidates::new();
        compacted.fill(&row).unwrap();
        compacted.compact();
        synthid.apply(&mut compacted, &Context::new(&tokens[..cut], &tokens[cut..])).unwrap();
        dense.make_dense();
        compacted.make_dense();
        prop_assert_eq!(dense.logits(), compacted.logits());
    }
}
