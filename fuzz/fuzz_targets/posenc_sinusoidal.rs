//! Sinusoidal encodings of any width, base and position: values within -1 and 1, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::sinusoidal::{
    self, MAX_D_MODEL, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout,
};
use ndarray::Array1;

fuzz_target!(
    |input: (u8, usize, f64, Option<usize>, Vec<usize>, Vec<f64>)| {
        let (flags, mut dim, base, padding_idx, positions, distances) = input;
        if flags & 4 != 0 {
            dim %= 128; // else nearly all are refused
        }
        let layout =
            [SinusoidalLayout::Interleaved, SinusoidalLayout::HalfSplit][usize::from(flags & 1)];
        let exponent = [
            SinusoidalExponent::TwoIOverDim,
            SinusoidalExponent::IOverHalfDimMinusOne,
        ];
        let mut config = SinusoidalConfig::new(dim, layout, exponent[usize::from(flags >> 1 & 1)])
            .with_base(base);
        if let Some(padding_idx) = padding_idx {
            config = config.with_padding_idx(padding_idx);
        }
        if let Ok(inv_freq) = sinusoidal::inv_freq(&config) {
            assert!(dim <= MAX_D_MODEL && base.is_finite() && base > 1.0);
            assert!(inv_freq.iter().all(|x| x.is_finite()));
        }
        if dim <= 128 {
            let positions = Array1::from(positions);
            if let Ok(rows) = sinusoidal::encode(&positions, &config) {
                assert_eq!(rows.dim(), (positions.len(), dim));
                assert!(rows.iter().all(|x| x.abs() <= 1.0));
            }
            if let Ok(decay) = sinusoidal::decay(&Array1::from(distances), &config) {
                assert!(decay.iter().all(|x| x.is_finite()));
            }
        }
    }
);
