//! Exercise of the page on fewer bits: a group of numbers as codes.

// ANCHOR: exercise
/// The codes of a group of numbers, and its least value and step.
///
/// A code is a whole number from 0 to `2^bits - 1`; the number is about `least + step * code`.
#[must_use]
pub fn codes(numbers: &[f64], bits: u32) -> (Vec<u32>, f64, f64) {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let step = (most - least) / f64::from((1_u32 << bits) - 1);
    let code = |x: &f64| {
        if step > 0.0 {
            ((x - least) / step).round() as u32
        } else {
            0 // all numbers are equal
        }
    };
    (numbers.iter().map(code).collect(), least, step)
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_kvcache::reference::quantized::affine;

    use super::codes;

    // ANCHOR: tests
    #[test]
    fn the_least_is_0_and_the_largest_has_the_largest_code() {
        assert_eq!(
            codes(&[1.0, 4.0, 2.0, 3.0], 2),
            (vec![0, 3, 1, 2], 1.0, 1.0)
        );
        assert_eq!(codes(&[0.0, 0.4, 30.0], 4), (vec![0, 0, 15], 0.0, 2.0));
        assert_eq!(codes(&[5.0, 5.0], 4), (vec![0, 0], 5.0, 0.0));
    }

    #[test]
    fn no_number_is_off_by_more_than_half_a_step() {
        for bits in [2, 4, 8] {
            let numbers: Vec<f64> = (0..50).map(|i| (f64::from(i) * 0.7).sin()).collect();
            let (codes, least, step) = codes(&numbers, bits);
            let textbook = affine(&numbers, bits); // its step and least value have 16 bits
            for ((x, code), other) in numbers.iter().zip(codes).zip(textbook) {
                let back = least + step * f64::from(code);
                assert!((back - x).abs() <= step / 2.0 + 1e-12);
                assert!((back - other).abs() <= 1.1 * step);
            }
        }
    }
    // ANCHOR_END: tests
}
