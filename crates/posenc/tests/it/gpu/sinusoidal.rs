//! The sinusoidal encoding on the GPU equals sines and cosines in f64.

use llm_numerics::testing::Tolerance;
use llm_posenc::gpu::sinusoidal as gpu_sinusoidal;
use llm_posenc::reference;
use llm_posenc::sinusoidal::{SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use ndarray::Array1;
use proptest::prelude::*;

use super::{close, config, gpu, run};

fn configs() -> impl Strategy<Value = SinusoidalConfig> {
    let layout = prop_oneof![
        Just(SinusoidalLayout::Interleaved),
        Just(SinusoidalLayout::HalfSplit)
    ];
    let exponent = prop_oneof![
        (1_usize..40).prop_map(|dim| (dim, SinusoidalExponent::TwoIOverDim)),
        (4_usize..40).prop_map(|dim| (dim, SinusoidalExponent::IOverHalfDimMinusOne)),
    ];
    (layout, exponent, 1.5_f64..1e6, prop::option::of(0_usize..4)).prop_map(
        |(layout, (dim, exponent), base, padding_idx)| {
            let config = SinusoidalConfig::new(dim, layout, exponent).with_base(base);
            match padding_idx {
                Some(padding_idx) => config.with_padding_idx(padding_idx),
                None => config,
            }
        },
    )
}

#[test]
fn equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(
        config in configs(),
        positions in prop::collection::vec(prop_oneof![0_usize..8, 0_usize..1_000_000], 0..9),
    )| {
        let words: Vec<u32> = positions.iter().map(|&p| p as u32).collect();
        let device = gpu.upload_slice(&[words.len()], &words).unwrap();
        let got = run(&gpu, |r| gpu_sinusoidal::encode(r, &device, &config));
        let want = reference::sinusoidal::encode(&Array1::from(positions), &config);
        close(&got, &want, Tolerance::new(3e-7, 0.0))?;

    });
}
