//! Strategies for property tests: settings over the whole documented domain.
//!
//! Behind the feature `testing`, for this crate's tests and for those of anybody who compares a kernel with
//! [`reference`](crate::reference). All that they draw is accepted by the functions of this crate.
//!
//! ```
//! use llm_posenc::{reference, rope, testing};
//! use proptest::prelude::*;
//!
//! proptest!(|(config in testing::rope_configs())| {
//!     let got = rope::inv_freq(&config).unwrap();
//!     let want = reference::rope::inv_freq(&config);
//!     prop_assert!((got - want).iter().all(|x| x.abs() < 1e-12));
//! });
//! ```

use proptest::prelude::*;

use crate::alibi::AlibiOrigin;
use crate::kerple::KerpleKernel;
use crate::learned::PositionConvention;
use crate::rope::{
    LongRopeConfig, RopeConfig, RopePairing, RopeScaling, YarnAttention, YarnConfig, YarnDialect,
};
use crate::sinusoidal::{SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use crate::t5::{T5Config, T5Direction};

/// Every pair layout.
pub fn rope_pairings() -> impl Strategy<Value = RopePairing> {
    prop_oneof![
        Just(RopePairing::Interleaved),
        Just(RopePairing::HalfSplit),
        Just(RopePairing::ReadInterleavedWriteHalfSplit)
    ]
}

/// Any size of base up to 1e7, small ones as likely as large ones.
pub fn rope_configs() -> impl Strategy<Value = RopeConfig> {
    (1_usize..36, 0.001_f64..16.1, rope_pairings()).prop_map(|(planes, log_base, pairing)| {
        RopeConfig::new(2 * planes, pairing).with_base(log_base.exp())
    })
}

/// Lengths of sequences in tokens, short ones as likely as long ones.
pub fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..64, 64_usize..1 << 20]
}

/// Every rule, for a config of more than two rotated features.
pub fn rope_scalings(config: RopeConfig) -> impl Strategy<Value = RopeScaling> {
    let n = config.rotary_dim / 2;
    let list = || prop::collection::vec(0.5_f64..70.0, n);
    let long_rope = (
        list(),
        list(),
        2_usize..1 << 20,
        factors(),
        prop::option::of(0.1_f64..3.0),
    )
        .prop_map(|(short, long, original, factor, given)| {
            let mut config = LongRopeConfig::new(short, long, original, factor);
            config.attention_factor = given;
            RopeScaling::LongRope(config)
        });
    let rotary_dim = config.rotary_dim;
    prop_oneof![
        Just(RopeScaling::Default),
        factors().prop_map(|factor| RopeScaling::Linear { factor }),
        (factors(), lengths()).prop_map(|(factor, max)| RopeScaling::DynamicNtk {
            factor,
            max_position_embeddings: max,
        }),
        (1.0_f64..100.0).prop_map(|alpha| RopeScaling::StaticNtk { alpha }),
        yarn_configs().prop_map(RopeScaling::Yarn),
        long_rope,
        (factors(), 0.1_f64..4.0, 0.01_f64..10.0, lengths()).prop_map(
            |(factor, low, width, original)| RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: low + width,
                original_max_position_embeddings: original,
            }
        ),
        (0_usize..8, factors()).prop_map(move |(more, factor)| RopeScaling::Proportional {
            head_dim: rotary_dim + 2 * more,
            factor,
        }),
    ]
}

fn factors() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1.0), 0.1_f64..1.0, 1.0_f64..100.0]
}

fn dialects() -> impl Strategy<Value = YarnDialect> {
    let attention = prop_oneof![
        Just(YarnAttention::Recommended),
        (0.1_f64..2.0).prop_map(YarnAttention::Given),
        (0.1_f64..2.0, 0.1_f64..2.0).prop_map(|(mscale, mscale_all_dim)| YarnAttention::Mscale {
            mscale,
            mscale_all_dim
        }),
    ];
    prop_oneof![
        (any::<bool>(), attention).prop_map(|(truncate, attention)| YarnDialect::HuggingFace {
            truncate,
            attention
        }),
        (
            prop_oneof![Just(0.0), Just(1.0), 0.0_f64..1.0],
            0.1_f64..2.0
        )
            .prop_map(|(ext_factor, attn_factor)| YarnDialect::LlamaCpp {
                ext_factor,
                attn_factor
            }),
    ]
}

/// YaRN in both dialects.
pub fn yarn_configs() -> impl Strategy<Value = YarnConfig> {
    let betas = (0.1_f64..64.0, 0.0_f64..1.0).prop_map(|(fast, part)| (fast, fast * (1.0 - part)));
    (factors(), lengths(), betas, dialects()).prop_map(|(factor, original, betas, dialect)| {
        YarnConfig::hugging_face(factor, original)
            .with_betas(betas.0, betas.1.max(0.01))
            .with_dialect(dialect)
    })
}

/// Both layouts of a sinusoidal table.
pub fn sinusoidal_layouts() -> impl Strategy<Value = SinusoidalLayout> {
    use SinusoidalLayout::{HalfSplit, Interleaved};
    prop_oneof![Just(Interleaved), Just(HalfSplit)]
}

/// Any width from the smallest, odd ones too, without a padding row.
pub fn sinusoidal_configs() -> impl Strategy<Value = SinusoidalConfig> {
    let dims = sinusoidal_exponents().prop_flat_map(|exponent| {
        let smallest = match exponent {
            SinusoidalExponent::TwoIOverDim => 1_usize,
            _ => 4,
        };
        (smallest..40, Just(exponent))
    });
    (dims, sinusoidal_layouts(), 1.001_f64..1e7).prop_map(|((dim, exponent), layout, base)| {
        SinusoidalConfig::new(dim, layout, exponent).with_base(base)
    })
}

/// Both spacings of frequencies.
pub fn sinusoidal_exponents() -> impl Strategy<Value = SinusoidalExponent> {
    use SinusoidalExponent::{IOverHalfDimMinusOne, TwoIOverDim};
    prop_oneof![Just(TwoIOverDim), Just(IOverHalfDimMinusOne)]
}

/// Where counting starts, and whether padding counts.
pub fn position_conventions() -> impl Strategy<Value = PositionConvention> {
    prop_oneof![
        (0_usize..5).prop_map(|offset| PositionConvention::Index { offset }),
        Just(PositionConvention::TokenCount),
        (1_usize..5).prop_map(|offset| PositionConvention::Opt { offset }),
        (0_usize..5).prop_map(|padding_idx| PositionConvention::Roberta { padding_idx }),
    ]
}

/// Every origin of ALiBi.
pub fn alibi_origins() -> impl Strategy<Value = AlibiOrigin> {
    prop_oneof![
        Just(AlibiOrigin::KeyIndex),
        Just(AlibiOrigin::LastKeyZero),
        Just(AlibiOrigin::AbsoluteDistance),
        Just(AlibiOrigin::SignedDistance),
        Just(AlibiOrigin::PastDistance),
    ]
}

/// Buckets of T5 in one direction or both.
pub fn t5_configs() -> impl Strategy<Value = T5Config> {
    (any::<bool>(), 2_usize..80, 1_usize..2000).prop_filter_map(
        "T5Config::new takes it",
        |(is_split, n, more)| {
            let (direction, n_buckets) = match is_split {
                true => (T5Direction::Bidirectional, 2 * n),
                false => (T5Direction::Causal, n),
            };
            T5Config::new(n_buckets, n / 2 + more, direction).ok()
        },
    )
}

/// Both kernels of KERPLE.
pub fn kerple_kernels() -> impl Strategy<Value = KerpleKernel> {
    prop_oneof![Just(KerpleKernel::Logarithmic), Just(KerpleKernel::Power)]
}
