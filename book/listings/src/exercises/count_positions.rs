//! Exercise of the page on precision: how many positions a number type has.

// ANCHOR: exercise
/// How many different numbers the positions `0 .. n` become with 8 binary digits, as in bfloat16.
#[must_use]
pub fn count_positions(n: usize) -> usize {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let mut kept: Vec<usize> = (0..n)
        .map(|position| {
            let digits = usize::BITS - position.leading_zeros();
            let unit = 1_usize << digits.saturating_sub(8);
            let below = position / unit;
            let rest = position % unit;
            let up = 2 * rest > unit || (2 * rest == unit && below % 2 == 1);
            (below + usize::from(up)) * unit
        })
        .collect();
    kept.dedup(); // rounding keeps the order
    kept.len()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_numerics::half::bf16;
    use llm_posenc::positions::positions_in;
    use ndarray::Array1;

    use super::count_positions;

    // ANCHOR: tests
    #[test]
    fn the_first_257_are_all_different() {
        assert_eq!(count_positions(257), 257);
        assert_eq!(count_positions(258), 257);
    }

    #[test]
    fn the_crate_agrees() {
        let n = 4096;
        let kept = positions_in::<bf16>(&Array1::from_iter(0..n)).unwrap();
        let mut kept = kept.to_vec();
        kept.dedup();
        assert_eq!(count_positions(n), kept.len());
    }
    // ANCHOR_END: tests
}
