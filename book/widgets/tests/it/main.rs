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

/// The norm of the fixed vector in plane `i`, squared, written out.
fn norm(i: usize, pairing: &str) -> f64 {
    match (pairing, i < 16) {
        ("half-split", _) => 1.25,     // (1, 0.5) in each plane
        ("interleaved", true) => 2.0,  // (1, 1) in the first half
        ("interleaved", false) => 0.5, // (0.5, 0.5) in the second
        _ => f64::NAN,
    }
}

/// `Σ |q_i|² cos(m θ_i) / Σ |q_i|²` over the planes.
fn formula(position: usize, pairing: &str, inv_freq: impl Fn(f64) -> f64) -> f64 {
    let terms = (0..32).map(|i| norm(i, pairing) * (position as f64 * inv_freq(i as f64)).cos());
    terms.sum::<f64>() / 40.0
}

/// The scalings change what they should: by hand where the formula is one line. Others are compared with
/// transformers in the tests of `llm-posenc`.
#[test]
fn scalings_are_those_of_their_names() {
    let got = |position: usize, scaling: &str| {
        let settings = Settings::new(position as f64, 10_000.0, "half-split", scaling).unwrap();
        score(&settings).unwrap()
    };
    let with_base =
        |position: usize, base: f64| formula(position, "half-split", |i| base.powf(-i / 32.0));
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-7, "{got} {want}");
    // Four times the distance at a quarter of the frequency.
    close(got(400, "linear"), got(100, "none"));
    // The base times 4^(64/62).
    close(
        got(100, "static-ntk"),
        with_base(100, 10_000.0 * 4_f64.powf(64.0 / 62.0)),
    );
    // 4096 tokens, twice as many as trained: the base times (4 * 2 - 3)^(64/62). Up to 2048 it stays.
    close(
        got(4095, "dynamic-ntk"),
        with_base(4095, 10_000.0 * 5_f64.powf(64.0 / 62.0)),
    );
    close(got(2047, "dynamic-ntk"), got(2047, "none"));
    // Scores grow by the square of 0.1 ln 4 + 1, the attention factor of YaRN.
    close(got(0, "yarn"), (0.1 * 4_f64.ln() + 1.0).powi(2));
    // Llama 3.1: waves below 8192 / 4 tokens stay, those above 8192 / 1 become 8 times longer, a blend between.
    let llama3 = |i: f64| {
        let w = 10_000_f64.powf(-i / 32.0);
        let kept = ((8192.0 * w / std::f64::consts::TAU - 1.0) / (4.0 - 1.0)).clamp(0.0, 1.0);
        (1.0 - kept) * w / 8.0 + kept * w
    };
    close(got(9000, "llama3"), formula(9000, "half-split", llama3));
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
        let want = formula(position, pairing, |i| base.powf(-i / 32.0));
        prop_assert!((got - want).abs() < 1e-7, "{got} {want}");
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
