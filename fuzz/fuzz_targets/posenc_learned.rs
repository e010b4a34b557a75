//! Learned positions: any mask, past, offset and table row; and positions in half precision over any range.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_posenc::learned::{self, PositionConvention};
use llm_posenc::positions;
use ndarray::{Array1, Array2};

fuzz_target!(|input: ([u8; 4], usize, usize, Vec<usize>, Vec<f32>)| {
    let ([kind, batch, seq, bits], past, offset, positions, floats) = input;
    let convention = match kind % 4 {
        0 => PositionConvention::Index { offset },
        1 => PositionConvention::TokenCount,
        2 => PositionConvention::Opt { offset },
        _ => PositionConvention::Roberta {
            padding_idx: offset,
        },
    };
    let shape = (usize::from(batch % 5), usize::from(seq));
    let past = if kind & 4 == 0 {
        past
    } else {
        past % (shape.1 + 1)
    };
    let mask = Array2::from_shape_fn(shape, |(b, t)| bits >> ((b + t) % 8) & 1 == 1);
    if let Ok(found) = learned::positions(&mask, past, convention) {
        assert_eq!(found.dim(), (shape.0, shape.1 - past));
    }

    let table = Array2::from_shape_fn((usize::from(seq), 3), |(i, j)| (i + j) as f32);
    let n = positions.len();
    let at = Array2::from_shape_vec((1, n), positions.clone()).unwrap_or_default();
    match learned::embed(&table, &at) {
        Ok(out) => assert!(out.dim() == (1, n, 3) && at.iter().all(|&p| p < usize::from(seq))),
        Err(_) => assert!(at.iter().any(|&p| p >= usize::from(seq))),
    }

    let kept = positions::positions_in::<f32>(&Array1::from(positions));
    assert!(kept.is_ok_and(|kept| kept.len() == n));
    let range = offset..offset.saturating_add(floats.len());
    for collision in positions::collisions::<f32>(range.clone()).take(8) {
        assert!(collision.first < collision.last && range.contains(&collision.last));
    }
});
