//! `RopeConfig` with any size and any base: frequencies as documented, or a refusal for the documented reason.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::PosencError;
use llm_posenc::rope::{self, MAX_ROTARY_DIM, RopeConfig, RopePairing, RopeTable};
use ndarray::arr1;

fuzz_target!(|input: (usize, f64, usize)| {
    let (rotary_dim, base, position) = input;
    let config = RopeConfig::new(rotary_dim, RopePairing::Interleaved).with_base(base);
    let dim_is_right = (2..=MAX_ROTARY_DIM).contains(&rotary_dim) && rotary_dim % 2 == 0;
    match rope::inv_freq(&config) {
        Ok(inv_freq) => {
            assert!(dim_is_right && base.is_finite() && base > 1.0);
            assert_eq!(inv_freq.len(), rotary_dim / 2);
            assert!(inv_freq.iter().all(|x| (0.0..=1.0).contains(x)));
        }
        Err(PosencError::RotaryDim { got }) => assert!(got == rotary_dim && !dim_is_right),
        Err(PosencError::Base { .. }) => assert!(!(base.is_finite() && base > 1.0)),
        Err(other) => panic!("undocumented: {other}"),
    }
    if let Ok(table) = RopeTable::from_config(&config, &arr1(&[position])) {
        assert_eq!((table.rows(), table.rotary_dim()), (1, rotary_dim));
        assert!(position as u64 <= 1 << 53);
    }
});
