//! Rotations of arrays of any shape, stride, content and storage type: never a panic, in place and into a new array the
//! same bits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_posenc::rope::{self, RopePairing, RopeTable, StorageRounding};
use ndarray::{Array2, Array4, Axis};

fuzz_target!(|input: ([u8; 4], [u8; 2], u8, Vec<f32>)| {
    let (shape, table, flags, values) = input;
    let value = |i: usize| values.get(i % values.len().max(1)).copied().unwrap_or(1.0);

    // Long enough for several threads, or short.
    let longer = if flags & 128 == 0 { 1 } else { 64 };
    let mut i = 0..;
    let mut shape = shape.map(|n| usize::from(n % 12));
    shape[2] *= longer;
    let mut x = Array4::from_shape_simple_fn(shape, || value(i.next().unwrap_or(0)));
    if flags & 1 != 0 {
        x.swap_axes(2, 3);
    }
    if flags & 2 != 0 {
        x.invert_axis(Axis(3));
    }
    if flags & 4 != 0 {
        x.invert_axis(Axis(2));
    }
    let mut angles = table.map(|n| usize::from(n % 12));
    angles[0] *= longer;
    let angles = Array2::from_shape_fn(angles, |(t, i)| t as f64 - 0.37 * i as f64);
    let Ok(table) = RopeTable::from_angles(&angles, 1.0) else {
        return;
    };
    let pairing = match flags >> 3 & 3 {
        0 => RopePairing::Interleaved,
        1 => RopePairing::HalfSplit,
        _ => RopePairing::ReadInterleavedWriteHalfSplit,
    };

    let (batch, _, seq, head_dim) = x.dim();
    let rows_fit = [seq, batch * seq].contains(&table.rows());
    let fits = rows_fit && table.rotary_dim() <= head_dim;
    let mut in_place = x.clone();
    let outcome = rope::apply_inplace(&mut in_place, &table, pairing);
    assert_eq!(outcome.is_ok(), fits);
    match rope::apply(&x, &table, pairing) {
        Ok(y) => {
            let bits = |x: &Array4<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&in_place));
            assert!(rope::backward(&y, &table, pairing).is_ok());
        }
        Err(error) => assert_eq!(Err(error), outcome),
    }

    let rounding = if flags & 32 == 0 {
        StorageRounding::Once
    } else {
        StorageRounding::EachOperation
    };
    let is_right = if flags & 64 == 0 {
        stored::<bf16>(&x, &table, pairing, rounding)
    } else {
        stored::<f16>(&x, &table, pairing, rounding)
    };
    assert_eq!(is_right, fits);
});

/// False if both forms refuse; the same bits of both if they do not.
fn stored<S: Storage>(
    x: &Array4<f32>,
    table: &RopeTable,
    pairing: RopePairing,
    rounding: StorageRounding,
) -> bool {
    let bits = |x: &Array4<S>| x.iter().map(|x| x.to_f32().to_bits()).collect::<Vec<_>>();
    let x = x.mapv(S::from_f32);
    let mut in_place = x.clone();
    let outcome = rope::apply_stored_inplace(&mut in_place, table, pairing, rounding);
    match rope::apply_stored(&x, table, pairing, rounding) {
        Ok(mut y) => {
            assert_eq!((outcome, bits(&y)), (Ok(()), bits(&in_place)));
            let back = rope::backward_stored(&y, table, pairing, rounding).map(|x| bits(&x));
            let outcome = rope::backward_stored_inplace(&mut y, table, pairing, rounding);
            assert_eq!((outcome, Ok(bits(&y))), (Ok(()), back));
            true
        }
        Err(error) => {
            assert_eq!(Err(error), outcome);
            false
        }
    }
}
