//! Exercise of the page on speculative decoding: what a pass makes.

// ANCHOR: exercise
/// How many tokens a pass makes on average, if the first drafted token is accepted with probability `accept[0]`, the second, once the
/// first is accepted, with `accept[1]`, and so on.
#[must_use]
pub fn pass_length(accept: &[f64]) -> f64 {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let (mut reached, mut tokens) = (1.0, 1.0); // one token of the target's own, always
    for a in accept {
        reached *= a; // all tokens up to this one are accepted
        tokens += reached;
    }
    tokens
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_sampling::search::speculative::{RowMode, verify};
    use ndarray::{Array2, Array3};

    use super::pass_length;

    // ANCHOR: tests
    #[test]
    fn equal_chances_give_the_formula_of_the_paper() {
        for drafted in 0..9 {
            let got = pass_length(&vec![0.8; drafted]);
            let formula = (1.0 - 0.8_f64.powi(drafted as i32 + 1)) / (1.0 - 0.8);
            assert!((got - formula).abs() < 1e-12);
        }
        assert_eq!(pass_length(&[1.0; 4]), 5.0);
        assert_eq!(pass_length(&[0.0, 1.0]), 1.0);
    }

    #[test]
    fn the_crate_agrees() {
        // The draft is certain of token 0. Halves and quarters: a grid of 4 numbers each is exact.
        let accept = [0.5, 0.25, 0.75];
        let target = Array3::from_shape_fn([1, 4, 2], |(_, i, token)| {
            let p: f64 = accept.get(i).copied().unwrap_or(0.5);
            if token == 0 { p.ln() } else { (1.0 - p).ln() }
        });
        let mut tokens = 0;
        for cell in 0..64 {
            let number = |i: u32| (f64::from(cell / 4_i32.pow(i) % 4) + 0.5) / 4.0;
            let numbers = [number(0), number(1), number(2)];
            let mode = RowMode::Uniforms {
                accept: &numbers,
                choose: &[0.5; 4],
            };
            let verified = verify(&target, None, &Array2::zeros([1, 3]), &[3], &[mode]).unwrap();
            tokens += verified[0].tokens.len();
        }
        assert!((tokens as f64 / 64.0 - pass_length(&accept)).abs() < 1e-12);
    }
    // ANCHOR_END: tests
}
