//! KERPLE with any parameters: a bias of the right shape that is no NaN, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::kerple::{self, KerpleKernel};
use ndarray::Array1;

fuzz_target!(|input: (Vec<f32>, Vec<f32>, [u8; 3])| {
    let (r1, r2, [flags, seq, kv_seq]) = input;
    let kernel = if flags & 1 == 0 {
        KerpleKernel::Logarithmic
    } else {
        KerpleKernel::Power
    };
    let (seq, kv_seq) = (usize::from(seq % 32), usize::from(kv_seq % 32));
    let r1: Array1<f32> = r1.into_iter().take(16).collect();
    let mut r2: Array1<f32> = r2.into_iter().take(16).collect();
    if flags & 2 != 0 {
        r2 = r1.mapv(|x| (x / 2.0).min(2.0)); // as many, and more often allowed
    }
    let Ok(bias) = kerple::bias(&r1, &r2, seq, kv_seq, kernel) else {
        return;
    };
    assert_eq!(bias.dim(), (r1.len(), seq, kv_seq));
    assert!(bias.iter().all(|x| !x.is_nan()));
    if let Ok((dr1, dr2)) = kerple::backward(&bias, &r1, &r2, kernel) {
        assert_eq!((dr1.len(), dr2.len()), (r1.len(), r2.len()));
    }
});
