//! Exercise of the page on quantization: a block of weights as codes.

// ANCHOR: exercise
/// The codes of a block of weights, and its scale.
///
/// The scale is the largest magnitude. A code is the place, in the ascending list `values`, of the value nearest to
/// the weight over the scale. Not all weights are 0.
#[must_use]
pub fn absmax_block(weights: &[f64], values: &[f64]) -> (Vec<usize>, f64) {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let scale = weights.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let code = |x: &f64| {
        let bounds = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
        bounds.filter(|bound| x / scale > *bound).count()
    };
    (weights.iter().map(code).collect(), scale)
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_quant::{nf4, reference};

    use super::absmax_block;

    // ANCHOR: tests
    #[test]
    fn the_largest_magnitude_is_an_end() {
        let values = [-1.0, 0.0, 0.5, 1.0];
        let (codes, scale) = absmax_block(&[0.0, -4.0, 1.5, 3.5], &values);
        assert_eq!((codes, scale), (vec![1, 0, 2, 3], 4.0));
        // Halfway, the lower one.
        assert_eq!(absmax_block(&[4.0, 1.0, 3.0], &values).0, [3, 1, 2]);
    }

    #[test]
    fn codes_are_those_of_nf4() {
        let weights: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
        let (codes, scales) = reference::blocks::quantize(&weights, &nf4::code(), 64);
        let wide: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let (found, scale) = absmax_block(&wide, &nf4::code().map(f64::from));
        assert_eq!(
            found,
            codes.into_iter().map(usize::from).collect::<Vec<_>>()
        );
        assert_eq!(scale, f64::from(scales[0]));
    }
    // ANCHOR_END: tests
}
