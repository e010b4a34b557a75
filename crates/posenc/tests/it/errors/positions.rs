//! Positions in half precision: only what memory cannot hold is refused (`sizes`), and no input panics.

use llm_numerics::half::{bf16, f16};
use llm_posenc::positions::{collisions, positions_in};
use ndarray::{Array1, array};

#[test]
fn the_largest_positions_and_empty_ranges_do_not_panic() {
    let largest = array![usize::MAX - 1, usize::MAX];
    assert_eq!(positions_in::<f16>(&largest).unwrap()[1], f32::INFINITY);
    assert_eq!(
        positions_in::<bf16>(&largest).unwrap()[0],
        usize::MAX as f32
    );
    assert_eq!(
        positions_in::<bf16>(&Array1::from_vec(vec![]))
            .unwrap()
            .len(),
        0
    );

    let backward = std::ops::Range { start: 9, end: 3 };
    assert_eq!(collisions::<bf16>(backward).count(), 0);
    let empty = usize::MAX..usize::MAX;
    assert_eq!(collisions::<bf16>(empty).count(), 0);
    let last = collisions::<bf16>(usize::MAX - 2..usize::MAX).last();
    assert_eq!(
        last.map(|c| (c.first, c.last)),
        Some((usize::MAX - 2, usize::MAX - 1))
    );
}
