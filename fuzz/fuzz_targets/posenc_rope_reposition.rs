//! Rotated keys moved by any distances: the same bits in place and into a new array, or a documented refusal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::PosencError;
use llm_posenc::rope::{self, RopePairing};
use ndarray::{Array1, Array4, Axis};

fuzz_target!(|input: ([u8; 4], u8, Vec<i64>, Vec<f64>, Vec<f32>)| {
    let (shape, flags, distances, inv_freq, values) = input;
    let value = |i: usize| values.get(i % values.len().max(1)).copied().unwrap_or(1.0);
    let mut i = 0..;
    let mut k = Array4::from_shape_simple_fn(shape.map(|n| usize::from(n % 12)), || {
        value(i.next().unwrap_or(0))
    });
    if flags & 1 != 0 {
        k.swap_axes(1, 3);
    }
    if flags & 2 != 0 {
        k.invert_axis(Axis(3));
    }
    let seq = k.dim().2;
    let mut distances = Array1::from(distances);
    if flags & 4 != 0 {
        // As many as there are keys, or one for all; else nearly all are refused.
        let n = if flags & 8 == 0 { seq } else { 1 };
        distances = Array1::from_shape_fn(n, |t| {
            let distance = distances.get(t % distances.len().max(1));
            distance.map_or(1, |x| x % (1 << 53))
        });
    }
    let mut inv_freq: Array1<f64> = inv_freq.into_iter().take(k.dim().3 / 2).collect();
    if flags & 16 != 0 {
        inv_freq.mapv_inplace(|x| if x.abs() < 1e200 { x } else { 0.5 });
    }
    let pairing = match flags >> 5 & 3 {
        0 => RopePairing::Interleaved,
        1 => RopePairing::HalfSplit,
        _ => RopePairing::ReadInterleavedWriteHalfSplit,
    };

    let mut in_place = k.clone();
    let outcome = rope::reposition_inplace(&mut in_place, &distances, &inv_freq, pairing);
    let bits = |x: &Array4<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    match rope::reposition(&k, &distances, &inv_freq, pairing) {
        Ok(moved) => {
            assert_eq!((outcome, bits(&moved)), (Ok(()), bits(&in_place)));
            assert!(distances.len() == 1 || distances.len() == seq);
        }
        Err(error) => {
            match error {
                PosencError::Distances { .. } => {
                    assert!(distances.len() != 1 && distances.len() != seq);
                }
                PosencError::Distance { index, got } => assert_eq!(distances[index], got),
                PosencError::InvFreq { index, .. } => assert!(!inv_freq[index].is_finite()),
                ref other => panic!("undocumented: {other}"),
            }
            // As text: a frequency that is NaN is not equal to itself.
            let told = outcome.map_err(|in_place| in_place.to_string());
            assert_eq!(told, Err(error.to_string()));
            assert_eq!(bits(&in_place), bits(&k));
        }
    }
});
