//! Laws of positions in narrow types.

use std::ops::Range;

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use llm_posenc::positions::{Collision, collisions, first_collision, positions_in};
use llm_posenc::reference::positions::{self as reference, Format};
use ndarray::{Array1, array};
use proptest::prelude::*;

/// Positions of every size.
fn any_position() -> impl Strategy<Value = usize> {
    (any::<usize>(), 0..usize::BITS).prop_map(|(position, shift)| position >> shift)
}

fn equals_integer_rounding<T: Storage>(position: usize, format: Format) {
    let positions = array![position, position / 2 + 1];
    let got = positions_in::<T>(&positions).unwrap().mapv(f64::from);
    assert_eq!(got, reference::positions_in(&positions, format));
}

/// Runs of equal numbers, found one position at a time with the reference.
fn runs(range: Range<usize>, format: Format) -> Vec<(usize, usize, f64)> {
    let values = reference::positions_in(&Array1::from_iter(range.clone()), format);
    let mut found: Vec<(usize, usize, f64)> = Vec::new();
    for (position, &value) in range.zip(&values) {
        match found.last_mut() {
            Some((_, last, same)) if *same == value => *last = position,
            _ => found.push((position, position, value)),
        }
    }
    found.retain(|(first, last, _)| last > first);
    found
}

fn collisions_are_the_runs<T: Storage>(range: Range<usize>, format: Format) {
    let found = collisions::<T>(range.clone());
    let found: Vec<_> = found
        .map(
            |Collision {
                 first, last, value, ..
             }| (first, last, f64::from(value)),
        )
        .collect();
    assert_eq!(found, runs(range, format));
}

proptest! {
    // ANCHOR: law
    /// A cast equals rounding by integer arithmetic, overflow included.
    #[test]
    fn casts_equal_integer_rounding(position in any_position()) {
        equals_integer_rounding::<f16>(position, Format::F16);
        equals_integer_rounding::<bf16>(position, Format::Bf16);
        equals_integer_rounding::<f32>(position, Format::F32);
    }
    // ANCHOR_END: law

    /// A later position never becomes an earlier one.
    #[test]
    fn the_order_is_kept(a in any_position(), b in any_position()) {
        let pair = array![a.min(b), a.max(b)];
        let is_ordered = |pair: Array1<f32>| pair[0] <= pair[1];
        prop_assert!(is_ordered(positions_in::<f16>(&pair).unwrap()));
        prop_assert!(is_ordered(positions_in::<bf16>(&pair).unwrap()));
    }

    /// The collisions of a range are the runs that a walk through it finds.
    #[test]
    fn collisions_are_all_of_them(start in 0_usize..70_000, length in 0_usize..600) {
        collisions_are_the_runs::<f16>(start..start + length, Format::F16);
        collisions_are_the_runs::<bf16>(start..start + length, Format::Bf16);
        let start = start + (1 << 24) - 35_000;
        collisions_are_the_runs::<f32>(start..start + length, Format::F32);
    }
}

/// All positions up to the first collision are exact, and it is a collision.
#[test]
fn positions_are_exact_up_to_the_first_collision() {
    fn check<T: Storage>() {
        let first = first_collision::<T>().unwrap();
        let positions = Array1::from_iter(0..=first);
        let kept = positions_in::<T>(&positions).unwrap();
        assert!(positions.iter().zip(&kept).all(|(&p, &k)| p as f32 == k));
        assert_eq!(
            positions_in::<T>(&array![first + 1]).unwrap()[0],
            kept[first]
        );
    }
    check::<f16>();
    check::<bf16>();
}
