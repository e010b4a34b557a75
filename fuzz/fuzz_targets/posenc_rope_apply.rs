//! Rotations of arrays of any shape, stride and content: never a panic, in place and into a new array the same bits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::rope::{self, RopePairing, RopeTable};
use ndarray::{Array2, Array4, Axis};

fuzz_target!(|input: ([u8; 4], [u8; 2], u8, Vec<f32>)| {
    let (shape, table, flags, values) = input;
    let value = |i: usize| values.get(i % values.len().max(1)).copied().unwrap_or(1.0);

    let mut i = 0..;
    let mut x = Array4::from_shape_simple_fn(shape.map(|n| usize::from(n % 12)), || {
        value(i.next().unwrap_or(0))
    });
    if flags & 1 != 0 {
        x.swap_axes(2, 3);
    }
    if flags & 2 != 0 {
        x.invert_axis(Axis(3));
    }
    if flags & 4 != 0 {
        x.invert_axis(Axis(2));
    }
    let angles = table.map(|n| usize::from(n % 12));
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
});
