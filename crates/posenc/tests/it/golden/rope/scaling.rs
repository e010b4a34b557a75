//! Known frequencies, worked out by hand.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::rope::{
    self, LongRopeConfig, RopeConfig, RopeFrequencies, RopePairing, RopeScaling, YarnAttention,
    YarnConfig, YarnDialect, chatglm,
};
use ndarray::array;

/// Powers and logarithms in f64.
const F64: Tolerance = Tolerance::new(0.0, 1e-13);

/// Base 16: the frequencies of `d` features are `16^(-2 i / d)`; of eight, 1, 1/2, 1/4, 1/8.
fn base_16(rotary_dim: usize) -> RopeConfig {
    RopeConfig::new(rotary_dim, RopePairing::HalfSplit).with_base(16.0)
}

fn of(config: &RopeConfig, scaling: RopeScaling, seq_len: Option<usize>) -> RopeFrequencies {
    rope::frequencies(config, &scaling, seq_len).unwrap()
}

fn of_yarn(config: &RopeConfig, yarn: YarnConfig) -> RopeFrequencies {
    of(config, RopeScaling::Yarn(yarn), None)
}

// d = 4: the exponent d / (d - 2) is 2, so alpha 4 makes the base 256 and the frequencies 1, 256^(-1/2).
// The ExLlama formula, base * alpha^(head_dim / (head_dim - 2)).
#[test]
fn static_ntk_raises_the_base() {
    let got = of(&base_16(4), RopeScaling::StaticNtk { alpha: 4.0 }, None);
    assert_close(&got.inv_freq, &array![1.0, 1.0 / 16.0], F64);
    assert_eq!(got.attention_factor, 1.0);
}

// d = 4, 12 tokens for 8, factor 2: alpha = 2 * 12 / 8 - 1 = 2, base 16 * 2^2 = 64, frequencies 1, 1/8.
#[test]
fn dynamic_ntk_raises_the_base_with_the_length() {
    let scaling = RopeScaling::DynamicNtk {
        factor: 2.0,
        max_position_embeddings: 8,
    };
    let got = of(&base_16(4), scaling, Some(12));
    assert_close(&got.inv_freq, &array![1.0, 0.125], F64);
}

// 100 tokens hold 100 w / 2 pi = 15.9, 7.96, 3.98, 1.99 waves of the frequencies 1, 1/2, 1/4, 1/8. Above 5 they
// stay, below 3 they are halved; between, s = (3.9788736 - 3) / 2 and (1 - s) / 8 + s / 4.
#[test]
fn llama3_blends_between_its_bounds() {
    let scaling = RopeScaling::Llama3 {
        factor: 2.0,
        low_freq_factor: 3.0,
        high_freq_factor: 5.0,
        original_max_position_embeddings: 100,
    };
    let got = of(&base_16(8), scaling, None);
    let want = array![1.0, 0.5, 0.186_179_598_581_086_46, 0.0625];
    assert_close(&got.inv_freq, &want, F64);
}

// ln 8 / ln 64 = 1/2: the attention factor is sqrt 1.5. 64 tokens are short, 65 are long.
#[test]
fn longrope_switches_behind_the_original_length() {
    let config = LongRopeConfig::new(vec![1.0, 2.0], vec![4.0, 8.0], 64, 8.0);
    let scaling = RopeScaling::LongRope(config.clone());
    for (seq_len, want) in [
        (None, array![1.0, 0.125]),
        (Some(64), array![1.0, 0.125]),
        (Some(65), array![0.25, 0.03125]),
    ] {
        let got = of(&base_16(4), scaling.clone(), seq_len);
        assert_close(&got.inv_freq, &want, F64);
        assert!((got.attention_factor - 1.5_f64.sqrt()).abs() < 1e-15);
    }
    let given = RopeScaling::LongRope(config.with_attention_factor(1.25));
    assert_eq!(of(&base_16(4), given, None).attention_factor, 1.25);
}

// Gemma 4 turns a quarter of the planes; here half of four, with exponents over all eight features.
#[test]
fn proportional_leaves_planes_that_stand_still() {
    let config = RopeConfig::new(4, RopePairing::HalfSplit).with_base(16.0);
    let scaling = RopeScaling::Proportional {
        head_dim: 8,
        factor: 1.0,
    };
    assert_close(
        &of(&config, scaling, None).inv_freq,
        &array![1.0, 0.5, 0.0, 0.0],
        F64,
    );
}

// d = 64, base 10 000, 4096 tokens: dim(32) = 64 ln(4096 / 64 pi) / (2 ln 10 000) = 10.47, dim(1) = 22.51, so the
// ramp goes from plane 10 to 23. Plane 16 (frequency 0.01) lies at 6/13:
// 0.01 (6/13 / 4 + 7/13) = 0.0065384615. Without rounding it lies at (16 - 10.47224) / (22.51344 - 10.47224) = 0.4590704.
#[test]
fn yarn_mixes_along_the_ramp() {
    let config = RopeConfig::new(64, RopePairing::HalfSplit);
    let plain = rope::inv_freq(&config).unwrap();
    for yarn in [
        YarnConfig::hugging_face(4.0, 4096),
        YarnConfig::llama_cpp(4.0, 4096),
    ] {
        let got = of_yarn(&config, yarn);
        assert!((got.inv_freq[16] - 0.006_538_461_538_461_54).abs() < 1e-15);
        assert_close(
            &got.inv_freq.slice(ndarray::s![..=10]),
            &plain.slice(ndarray::s![..=10]),
            F64,
        );
        let slow = ndarray::s![23..];
        assert_close(&got.inv_freq.slice(slow), &(&plain.slice(slow) / 4.0), F64);
        // 0.1 ln 4 + 1
        assert!((got.attention_factor - 1.138_629_436_111_989).abs() < 1e-15);
    }
    let exact = YarnDialect::HuggingFace {
        truncate: false,
        attention: YarnAttention::Given(0.5),
    };
    let got = of_yarn(
        &config,
        YarnConfig::hugging_face(4.0, 4096).with_dialect(exact),
    );
    let ramp = 0.459_070_4;
    assert!((got.inv_freq[16] - 0.01 * (ramp / 4.0 + 1.0 - ramp)).abs() < 1e-9);
    assert_eq!(got.attention_factor, 0.5);
}

// One token: every plane turns less than once. transformers gets low = 0, high = ceil(8 ln(1 / 2 pi) / (2 ln 16)) = -2, a
// ramp that falls, and keeps all planes; ggml's ramp is 0.001 wide from plane 0 on, so that only plane 0 is kept.
#[test]
fn yarn_dialects_differ_where_all_planes_are_slow() {
    let config = base_16(8);
    let got = of_yarn(&config, YarnConfig::hugging_face(2.0, 1));
    assert_close(&got.inv_freq, &array![1.0, 0.5, 0.25, 0.125], F64);
    let got = of_yarn(&config, YarnConfig::llama_cpp(2.0, 1));
    assert_close(&got.inv_freq, &array![1.0, 0.25, 0.125, 0.0625], F64);
}

// 2^20 tokens of base 2: every plane turns more than 32 times. transformers gets low > high = d - 1 and divides all;
// ggml keeps all.
#[test]
fn yarn_dialects_differ_where_all_planes_are_fast() {
    let config = RopeConfig::new(8, RopePairing::HalfSplit).with_base(2.0);
    let plain = rope::inv_freq(&config).unwrap();
    let got = of_yarn(&config, YarnConfig::hugging_face(2.0, 1 << 20));
    assert_close(&got.inv_freq, &(&plain / 2.0), F64);
    let got = of_yarn(&config, YarnConfig::llama_cpp(2.0, 1 << 20));
    assert_close(&got.inv_freq, &plain, F64);
}

// Attention factors at factor 40, as DeepSeek-V3 has it, and below 1: (0.1 * 0.5 ln 40 + 1) / (0.1 ln 40 + 1);
// transformers stays at 1 for factor 1/2, ggml takes 0.75 (1 + 0.1 ln 0.5).
#[test]
fn yarn_attention_factors() {
    let config = RopeConfig::new(64, RopePairing::Interleaved);
    let of_dialect = |factor, dialect| {
        of_yarn(
            &config,
            YarnConfig::hugging_face(factor, 4096).with_dialect(dialect),
        )
        .attention_factor
    };
    let hugging_face = |attention| YarnDialect::HuggingFace {
        truncate: true,
        attention,
    };
    let mscale = YarnAttention::Mscale {
        mscale: 0.5,
        mscale_all_dim: 1.0,
    };
    let got = of_dialect(40.0, hugging_face(mscale));
    assert!(
        (got - 1.184_443_972_7 / 1.368_887_945_4).abs() < 1e-10,
        "{got}"
    );
    assert_eq!(
        of_dialect(0.5, hugging_face(YarnAttention::Recommended)),
        1.0
    );
    let llama_cpp = YarnDialect::LlamaCpp {
        ext_factor: 1.0,
        attn_factor: 0.75,
    };
    let got = of_dialect(0.5, llama_cpp);
    assert!(
        (got - 0.75 * 0.930_685_281_944_005_5).abs() < 1e-15,
        "{got}"
    );
}

// glm-4-9b-chat-1m: 128 features a head, base 10 000 * 10 000.
#[test]
fn glm_preset_rotates_half_of_each_head() {
    let config = chatglm::config_v2(128).with_rope_ratio(10_000.0);
    assert_eq!((config.rotary_dim, config.base), (64, 1e8));
    assert_eq!(config.pairing, RopePairing::Interleaved);
    // 1e8^(-2 * 16 / 64) = 1e-4
    let inv_freq = rope::inv_freq(&config).unwrap();
    assert!((inv_freq[16] - 1e-4).abs() < 1e-18);
}
