//! Numbers, codes and block sizes.

use llm_quant::four_bit::{BLOCKS, FourBitCode, FourBitConfig};
use proptest::prelude::*;

/// Any finite `f32` whose block is not so small that scales are cut: zeros, ordinary numbers, and others up to 1e30.
pub(crate) fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        1 => Just(0.0),
        6 => -3.0..3.0_f32,
        1 => (-1.0..1.0_f32, -20..30_i32).prop_map(|(x, e)| x * 10_f32.powi(e)),
    ]
}

/// A few blocks with a rest, many of them odd; zero-length too.
pub(crate) fn numbers() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        prop::collection::vec(number(), 0..400),
        prop::collection::vec(number(), 0..40),
        Just(Vec::new()),
    ]
}

pub(crate) fn code() -> impl Strategy<Value = FourBitCode> {
    prop_oneof![Just(FourBitCode::Nf4), Just(FourBitCode::Fp4)]
}

pub(crate) fn block() -> impl Strategy<Value = usize> {
    // Half of them small, so that there is more than one.
    prop_oneof![32..=64_usize, 32..=4096_usize]
        .prop_map(|n| BLOCKS.into_iter().rfind(|&block| block <= n).unwrap())
}

pub(crate) fn config() -> impl Strategy<Value = FourBitConfig> {
    (code(), block()).prop_map(|(code, block)| FourBitConfig::new(code, block))
}
