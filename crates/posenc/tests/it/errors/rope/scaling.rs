//! One test for each error variant of the scalings.

use llm_posenc::PosencError;
use llm_posenc::rope::{
    self, LongRopeConfig, MAX_ROTARY_DIM, RopeConfig, RopePairing, RopeScaling, YarnAttention,
    YarnConfig, YarnDialect,
};

const CONFIG: RopeConfig = RopeConfig::new(4, RopePairing::HalfSplit);
const BAD: [f64; 5] = [0.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];

fn refused(scaling: RopeScaling) -> PosencError {
    rope::frequencies(&CONFIG, &scaling, None).unwrap_err()
}

/// Each bad value of a setting is refused under its name.
fn each_bad(name: &str, scaling: impl Fn(f64) -> RopeScaling) {
    for bad in BAD {
        let error = refused(scaling(bad));
        let is_right = matches!(error, PosencError::ScalingNumber { name: found, got }
            if found == name && got.to_bits() == bad.to_bits());
        assert!(is_right, "{name} {bad}: {error}");
    }
}

#[test]
fn factors_must_be_finite_and_positive() {
    each_bad("factor", |factor| RopeScaling::Linear { factor });
    each_bad("factor", |factor| RopeScaling::DynamicNtk {
        factor,
        max_position_embeddings: 8,
    });
    each_bad("alpha", |alpha| RopeScaling::StaticNtk { alpha });
    each_bad("factor", |factor| RopeScaling::Proportional {
        head_dim: 8,
        factor,
    });
    let llama3 = |[factor, low_freq_factor, high_freq_factor]: [f64; 3]| RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: 8,
    };
    each_bad("factor", |bad| llama3([bad, 1.0, 4.0]));
    each_bad("low_freq_factor", |bad| llama3([8.0, bad, 4.0]));
    each_bad("high_freq_factor", |bad| llama3([8.0, 1.0, bad]));
    let yarn = |factor, fast, slow| {
        RopeScaling::Yarn(YarnConfig::hugging_face(factor, 8).with_betas(fast, slow))
    };
    each_bad("factor", |bad| yarn(bad, 32.0, 1.0));
    each_bad("beta_fast", |bad| yarn(2.0, bad, 1.0));
    each_bad("beta_slow", |bad| yarn(2.0, 32.0, bad));
    let long_rope = |short: f64, long: f64, factor| {
        LongRopeConfig::new(vec![1.0, short], vec![1.0, long], 8, factor)
    };
    for bad in BAD {
        for (list, short, long) in [("short_factor", bad, 1.0), ("long_factor", 1.0, bad)] {
            let error = refused(RopeScaling::LongRope(long_rope(short, long, 2.0)));
            let is_right = matches!(error, PosencError::ScalingFactor { name, index: 1, got }
                if name == list && got.to_bits() == bad.to_bits());
            assert!(is_right, "{list} {bad}: {error}");
        }
    }
    each_bad("factor", |bad| {
        RopeScaling::LongRope(long_rope(1.0, 1.0, bad))
    });
    each_bad("attention_factor", |bad| {
        RopeScaling::LongRope(long_rope(1.0, 1.0, 2.0).with_attention_factor(bad))
    });
}

#[test]
fn yarn_attention_must_be_finite_and_positive() {
    let yarn = |attention| {
        let dialect = YarnDialect::HuggingFace {
            truncate: true,
            attention,
        };
        RopeScaling::Yarn(YarnConfig::hugging_face(2.0, 8).with_dialect(dialect))
    };
    each_bad("attention_factor", |bad| yarn(YarnAttention::Given(bad)));
    each_bad("mscale", |mscale| {
        yarn(YarnAttention::Mscale {
            mscale,
            mscale_all_dim: 1.0,
        })
    });
    each_bad("mscale_all_dim", |mscale_all_dim| {
        yarn(YarnAttention::Mscale {
            mscale: 1.0,
            mscale_all_dim,
        })
    });
    let llama_cpp = |ext_factor, attn_factor| {
        let dialect = YarnDialect::LlamaCpp {
            ext_factor,
            attn_factor,
        };
        RopeScaling::Yarn(YarnConfig::llama_cpp(2.0, 8).with_dialect(dialect))
    };
    each_bad("attn_factor", |bad| llama_cpp(1.0, bad));
    for got in [-0.1, 1.5, f64::INFINITY] {
        let error = refused(llama_cpp(got, 1.0));
        assert_eq!(error, PosencError::YarnExtFactor { got });
    }
    let error = refused(llama_cpp(f64::NAN, 1.0));
    assert!(matches!(error, PosencError::YarnExtFactor { got } if got.is_nan()));
}

#[test]
fn lengths_must_not_be_zero() {
    let length = |name, min, got| PosencError::ScalingLength { name, min, got };
    let original = "original_max_position_embeddings";
    let dynamic = RopeScaling::DynamicNtk {
        factor: 2.0,
        max_position_embeddings: 0,
    };
    assert_eq!(refused(dynamic), length("max_position_embeddings", 1, 0));
    let llama3 = RopeScaling::Llama3 {
        factor: 2.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 0,
    };
    assert_eq!(refused(llama3), length(original, 1, 0));
    let yarn = RopeScaling::Yarn(YarnConfig::hugging_face(2.0, 0));
    assert_eq!(refused(yarn), length(original, 1, 0));
    let long_rope = |original, factor| {
        RopeScaling::LongRope(LongRopeConfig::new(
            vec![1.0; 2],
            vec![1.0; 2],
            original,
            factor,
        ))
    };
    assert_eq!(refused(long_rope(0, 1.0)), length(original, 1, 0));
    // The logarithm of one is zero, and divides.
    assert_eq!(refused(long_rope(1, 2.0)), length(original, 2, 1));
    assert_eq!(rope::length_factor(8, 0), Err(length(original, 1, 0)));
    let max = "max_position_embeddings";
    assert_eq!(rope::length_factor(0, 8), Err(length(max, 1, 0)));
    assert_eq!(rope::length_factor(8, 2), Ok(4.0));
}

#[test]
fn bounds_must_be_in_order() {
    let llama3 = |low_freq_factor, high_freq_factor| RopeScaling::Llama3 {
        factor: 2.0,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: 8,
    };
    for low_value in [4.0, 5.0] {
        let want = PosencError::ScalingOrder {
            relation: "below",
            low: "low_freq_factor",
            low_value,
            high: "high_freq_factor",
            high_value: 4.0,
        };
        assert_eq!(refused(llama3(low_value, 4.0)), want);
    }
    let yarn = YarnConfig::hugging_face(2.0, 8).with_betas(1.0, 2.0);
    let want = PosencError::ScalingOrder {
        relation: "at most",
        low: "beta_slow",
        low_value: 2.0,
        high: "beta_fast",
        high_value: 1.0,
    };
    assert_eq!(
        want.to_string(),
        "beta_slow must be at most beta_fast = 1.0, got 2.0"
    );
    assert_eq!(refused(RopeScaling::Yarn(yarn)), want);
    let equal = YarnConfig::hugging_face(2.0, 8).with_betas(2.0, 2.0);
    rope::frequencies(&CONFIG, &RopeScaling::Yarn(equal), None).unwrap();
}

#[test]
fn longrope_needs_a_factor_for_each_plane() {
    let list = |name, got| PosencError::ScalingLen {
        name,
        expected: 2,
        got,
    };
    let long_rope = |short, long| {
        RopeScaling::LongRope(LongRopeConfig::new(
            vec![1.0; short],
            vec![1.0; long],
            8,
            2.0,
        ))
    };
    assert_eq!(refused(long_rope(3, 2)), list("short_factor", 3));
    assert_eq!(refused(long_rope(2, 0)), list("long_factor", 0));
}

#[test]
fn ntk_needs_more_than_one_plane_and_a_base() {
    let one = RopeConfig::new(2, RopePairing::HalfSplit);
    let fixed = RopeScaling::StaticNtk { alpha: 2.0 };
    let want = PosencError::NtkRotaryDim { got: 2 };
    assert_eq!(rope::frequencies(&one, &fixed, None), Err(want.clone()));
    let dynamic = RopeScaling::DynamicNtk {
        factor: 2.0,
        max_position_embeddings: 8,
    };
    assert_eq!(
        rope::frequencies(&one, &dynamic, Some(9)),
        Err(want.clone())
    );
    let alpha = 1e200; // its square is not finite
    let got = f64::INFINITY;
    assert_eq!(
        refused(RopeScaling::StaticNtk { alpha }),
        PosencError::ScaledBase { got }
    );
    let alpha = 0.01; // 10 000 * 0.01^2 = 1
    assert!(matches!(
        refused(RopeScaling::StaticNtk { alpha }),
        PosencError::ScaledBase { got } if got <= 1.000_001
    ));
}

#[test]
fn proportional_needs_a_head_for_its_planes() {
    let scaling = |head_dim| RopeScaling::Proportional {
        head_dim,
        factor: 1.0,
    };
    for got in [0, 7, MAX_ROTARY_DIM + 2] {
        let (multiple, max) = (2, MAX_ROTARY_DIM);
        let want = PosencError::HeadDim { multiple, max, got };
        assert_eq!(refused(scaling(got)), want);
    }
    assert_eq!(
        refused(scaling(7)).to_string(),
        "head_dim must be a multiple of 2 in 2..=65536, got 7"
    );
    let (rotary_dim, head_dim) = (4, 2);
    let want = PosencError::RotaryDimAboveHeadDim {
        rotary_dim,
        head_dim,
    };
    assert_eq!(refused(scaling(2)), want);
}

#[test]
fn results_must_be_finite() {
    let tiny = 1e-310; // its inverse is not finite
    let error = refused(RopeScaling::Linear { factor: tiny });
    let (index, got) = (0, f64::INFINITY);
    assert_eq!(error, PosencError::InvFreq { index, got });
    let attention = YarnAttention::Mscale {
        mscale: f64::MAX,
        mscale_all_dim: 1.0,
    };
    let dialect = YarnDialect::HuggingFace {
        truncate: true,
        attention,
    };
    let yarn = YarnConfig::hugging_face(1e200, 8).with_dialect(dialect);
    let got = f64::INFINITY;
    assert_eq!(
        refused(RopeScaling::Yarn(yarn)),
        PosencError::AttentionFactor { got }
    );
    let got = 1e39; // finite, but not as the `f32` of a table
    let long_rope = LongRopeConfig::new(vec![1.0; 2], vec![1.0; 2], 8, 1.0);
    let scaling = RopeScaling::LongRope(long_rope.with_attention_factor(got));
    assert_eq!(refused(scaling), PosencError::AttentionFactor { got });
    let message = PosencError::AttentionFactor { got: 1e300 }.to_string();
    assert_eq!(message, "attention_factor must be finite in f32, got 1e300");
}

#[test]
fn every_scaling_checks_the_config() {
    let odd = RopeConfig::new(3, RopePairing::HalfSplit);
    let linear = RopeScaling::Linear { factor: 2.0 };
    let want = PosencError::RotaryDim { got: 3 };
    assert_eq!(rope::frequencies(&odd, &linear, None), Err(want.clone()));
    assert_eq!(
        rope::update_sequence(&odd, &linear, &[1]),
        Err(want.clone())
    );
    let flat = CONFIG.with_base(1.0);
    let want = PosencError::Base { got: 1.0 };
    assert_eq!(
        rope::frequencies(&flat, &RopeScaling::Default, None),
        Err(want.clone())
    );
}
