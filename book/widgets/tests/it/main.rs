//! The pictures of the pages are those of the functions, and the number is that of the formula.

use llm_blocks_widgets::WidgetError;
use llm_blocks_widgets::rope::{
    LAST_POSITION, PAIRINGS, SCALINGS, Settings, decay_svg, planes_svg, score,
};
use llm_posenc::PosencError;
use proptest::prelude::*;

/// The pictures that `examples/static_figures.rs` writes.
fn still() -> Settings {
    Settings::new(12.0, 10_000.0, "half-split", "none").expect("valid settings")
}

#[test]
fn the_pictures_without_javascript_are_the_first_ones_with_it() {
    let hint = "run `cargo run -p llm-blocks-widgets --example static_figures`";
    let planes = include_str!("../../static/rope-planes.svg");
    assert_eq!(planes_svg(&still()).unwrap(), planes, "{hint}");
    let decay = include_str!("../../static/rope-decay.svg");
    assert_eq!(decay_svg(&still()).unwrap(), decay, "{hint}");
}

#[test]
fn the_demonstration_begins_with_these_settings() {
    let page = include_str!("../../demo.html");
    let settings =
        r#"data-position="12" data-base="10000" data-pairing="half-split" data-scaling="none""#;
    assert!(page.contains(settings));
}

#[test]
fn at_distance_zero_the_score_is_one() {
    for pairing in PAIRINGS {
        let settings = Settings::new(0.0, 10_000.0, pairing, "none").unwrap();
        // 64 products of cosines rounded to f32, here of 1 exactly.
        assert!((score(&settings).unwrap() - 1.0).abs() < 1e-15);
    }
}

#[test]
fn what_is_no_position_is_refused() {
    for got in [-1.0, 0.5, LAST_POSITION as f64 + 1.0, f64::INFINITY] {
        let error = Settings::new(got, 10_000.0, "interleaved", "none").unwrap_err();
        let most = LAST_POSITION;
        assert_eq!(error, WidgetError::Position { got, most });
    }
    let error = Settings::new(f64::NAN, 10_000.0, "interleaved", "none").unwrap_err();
    assert!(matches!(error, WidgetError::Position { got, .. } if got.is_nan()));
}

#[test]
fn what_is_no_choice_is_refused() {
    let choice = |control, known| WidgetError::Choice {
        control,
        got: "other".to_owned(),
        known,
    };
    let pairing = Settings::new(1.0, 10_000.0, "other", "none").unwrap_err();
    assert_eq!(pairing, choice("pairing", PAIRINGS));
    let scaling = Settings::new(1.0, 10_000.0, "interleaved", "other").unwrap_err();
    assert_eq!(scaling, choice("scaling", SCALINGS));
}

#[test]
fn a_base_that_the_crate_refuses_is_refused_by_everything() {
    let settings = Settings::new(1.0, 1.0, "interleaved", "none").unwrap();
    let error = WidgetError::Posenc(PosencError::Base { got: 1.0 });
    assert_eq!(score(&settings), Err(error.clone()));
    assert_eq!(planes_svg(&settings), Err(error.clone()));
    assert_eq!(decay_svg(&settings), Err(error));
}

/// `Σ |q_i|² cos(m θ_i) / Σ |q_i|²` over the planes, with the norms of the fixed vector written out.
fn formula(position: usize, base: f64, pairing: &str) -> f64 {
    let norm = |i: usize| match (pairing, i < 16) {
        ("half-split", _) => 1.25,     // (1, 0.5) in each plane
        ("interleaved", true) => 2.0,  // (1, 1) in the first half
        ("interleaved", false) => 0.5, // (0.5, 0.5) in the second
        _ => f64::NAN,
    };
    let terms = (0..32).map(|i| {
        let inv_freq = base.powf(-(i as f64) / 32.0);
        norm(i) * (position as f64 * inv_freq).cos()
    });
    terms.sum::<f64>() / 40.0
}

proptest! {
    /// The number of the widget is the textbook's sum of cosines.
    #[test]
    fn the_score_is_the_sum_of_cosines(
        position in 0..=LAST_POSITION,
        base in 1.5..1e7,
        pairing in proptest::sample::select(PAIRINGS),
    ) {
        let settings = Settings::new(position as f64, base, pairing, "none").unwrap();
        let got = score(&settings).unwrap();
        // A cosine rounded to f32 is off by 2^-25, and the weights of the planes add up to one.
        prop_assert!((got - formula(position, base, pairing)).abs() < 1e-7, "{got}");
    }

    /// Whatever the settings, a picture is one piece of HTML without an empty line or a number that is none.
    #[test]
    fn pictures_are_whole(
        position in 0..=LAST_POSITION,
        base in 1.5..1e300,
        pairing in proptest::sample::select(PAIRINGS),
        scaling in proptest::sample::select(SCALINGS),
    ) {
        let settings = Settings::new(position as f64, base, pairing, scaling).unwrap();
        for picture in [planes_svg(&settings).unwrap(), decay_svg(&settings).unwrap()] {
            prop_assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
            prop_assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
            prop_assert!(picture.lines().all(|line| line.starts_with('<')), "{picture}");
            prop_assert_eq!(picture.matches('<').count(), picture.matches('>').count());
        }
    }
}
