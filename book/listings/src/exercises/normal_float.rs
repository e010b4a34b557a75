//! Exercise of the page on NF4: a normal float with any number of bits.

use llm_quant::{QuantError, normal};

// ANCHOR: exercise
/// The `2^bits` values of a normal float, ascending: half of them above 0, one less below.
///
/// The quantiles of equal steps of probability from `outermost` down to 1/2, on each side, and 0, all divided by the largest.
/// [`normal::quantile`] is given.
///
/// # Errors
///
/// Those of [`normal::quantile`].
pub fn normal_float(bits: u32, outermost: f64) -> Result<Vec<f64>, QuantError> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let half = 1 << (bits - 1);
    let step = |i: usize, n: usize| outermost - (outermost - 0.5) * i as f64 / n as f64;
    let mut values = vec![0.0];
    for i in 0..half {
        values.push(normal::quantile(step(i, half))?);
    }
    for i in 0..half - 1 {
        values.push(-normal::quantile(step(i, half - 1))?);
    }
    values.sort_by(f64::total_cmp);
    let largest = normal::quantile(outermost)?;
    Ok(values.into_iter().map(|x| x / largest).collect())
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_quant::nf4;

    use super::normal_float;

    // ANCHOR: tests
    #[test]
    fn with_four_bits_it_is_nf4() {
        let values = normal_float(4, nf4::OFFSET).unwrap();
        assert_eq!(values.len(), 16);
        for (value, nf4) in values.iter().zip(nf4::code()) {
            assert!((value - f64::from(nf4)).abs() < 2e-6);
        }
    }

    #[test]
    fn with_two_bits_three_values_and_one_between() {
        let values = normal_float(2, 0.975).unwrap();
        assert_eq!((values[0], values[1], values[3]), (-1.0, 0.0, 1.0));
        // Half of the way down: the quantile of 0.7375 is 0.6357, that of 0.975 is 1.9600.
        assert!((values[2] - 0.6357 / 1.9600).abs() < 1e-4);
    }
    // ANCHOR_END: tests
}
