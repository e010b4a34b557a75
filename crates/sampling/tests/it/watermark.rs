//! The watermark: its colors, and whether they are found.

use llm_numerics::philox::Philox4x32;
use llm_sampling::watermark::{Seeding, Watermark};
use llm_sampling::{Candidates, Context, Processor, categorical, reference};
use ndarray::ArrayView1;
use proptest::prelude::*;

const SEEDINGS: [Seeding; 2] = [Seeding::LeftHash, Seeding::SelfHash];

/// Draws tokens of a uniform model over 50 ids.
fn text(n: usize, seed: u64, watermark: Option<&Watermark>) -> Vec<u32> {
    let random = Philox4x32::new(seed);
    let mut tokens = vec![7, 8, 9];
    let mut candidates = Candidates::new();
    while tokens.len() < n {
        candidates.fill(&[0.0_f32; 50]).unwrap();
        if let Some(watermark) = watermark {
            watermark
                .apply(&mut candidates, &Context::new(&tokens, &[]))
                .unwrap();
        }
        let u = random.uniform_f64(0, tokens.len() as u64);
        let draw = categorical::draw(&ArrayView1::from(candidates.logits()), u).unwrap();
        tokens.push(draw.token);
    }
    tokens
}

/// A bias of 2 at a ratio of 1/4 makes green tokens e^2 / (e^2 + 3) = 71 % of a uniform model's text: 1.07 standard deviations for each token
/// (0.46 / 0.433), so z is near 1.07 sqrt(n). Without a watermark, or with another key, z is that of chance: beyond 4 once in 30,000.
#[test]
fn marked_text_is_found_and_other_text_is_not() {
    for seeding in SEEDINGS {
        for context in [1, 3] {
            let watermark = Watermark::new(0.25, 2.0, 42, seeding, context).unwrap();
            let marked = watermark.detect(&text(400, 1, Some(&watermark))).unwrap();
            assert!(marked.z_score > 12.0, "{seeding:?} {context}: {marked:?}");
            let plain = watermark.detect(&text(400, 1, None)).unwrap();
            assert!(
                plain.z_score.abs() < 4.0,
                "{seeding:?} {context}: {plain:?}"
            );
            let other = Watermark::new(0.25, 2.0, 43, seeding, context).unwrap();
            let stranger = other.detect(&text(400, 1, Some(&watermark))).unwrap();
            assert!(stranger.z_score.abs() < 4.0, "{seeding:?}: {stranger:?}");
        }
    }
}

/// Of 20,000 colors a ratio is green, within four standard deviations.
#[test]
fn colors_come_as_often_as_asked_for() {
    for seeding in SEEDINGS {
        for ratio in [0.1, 0.25, 0.5] {
            let watermark = Watermark::new(ratio, 1.0, 3, seeding, 2).unwrap();
            let green = (0..20_000_u32)
                .filter(|i| watermark.is_green(&[i % 97, i % 89], i % 1000))
                .count();
            let deviation = (20_000.0 * ratio * (1.0 - ratio)).sqrt();
            let z = (green as f64 - 20_000.0 * ratio) / deviation;
            assert!(z.abs() < 4.0, "{seeding:?} {ratio}: {z}");
        }
    }
}

#[test]
fn repeated_text_counts_once() {
    let watermark = Watermark::new(0.5, 1.0, 3, Seeding::LeftHash, 1).unwrap();
    let once = watermark.detect(&[1, 2, 3, 1]).unwrap();
    let often = watermark.detect(&[1, 2, 3].repeat(50)).unwrap();
    assert_eq!(once, often);
    assert_eq!(once.scored, 3);
    let z = (once.green as f64 - 1.5) / 0.75_f64.sqrt();
    assert!((once.z_score - z).abs() < 1e-15);
}

proptest! {
    #[test]
    fn colors_match_the_reference(
        before in prop::collection::vec(any::<u32>(), 0..6),
        ratio in 0.05..0.95,
        key in any::<u64>(),
        self_hash in 0..2_usize,
        context in 1..5_usize,
        bias in -3.0..3.0,
        masked in 0..20_usize,
    ) {
        let seeding = SEEDINGS[self_hash];
        let watermark = Watermark::new(ratio, bias, key, seeding, context).unwrap();
        let green = reference::watermark::green(20, &before, ratio, key, seeding, context);
        let mut row: Vec<f64> = (0..20).map(f64::from).collect();
        row[masked] = f64::NEG_INFINITY;
        let mut candidates = Candidates::new();
        candidates.fill(&row).unwrap();
        let (prompt, generated) = before.split_at(before.len() / 2);
        watermark.apply(&mut candidates, &Context::new(prompt, generated)).unwrap();
        for (i, &green) in green.iter().enumerate() {
            let expected = if green { row[i] + bias } else { row[i] };
            prop_assert_eq!(candidates.logits()[i], expected);
            prop_assert_eq!(watermark.is_green(&before, i as u32), green);
        }
    }
}
