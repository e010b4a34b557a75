//! Exercise of the page on double quantization: bits of scales on any number of levels.

// ANCHOR: exercise
/// Bits a weight that scales take, on one level after the other.
///
/// Each level is a pair: how many bits a scale has there, and for how many numbers of the level below it stands.
#[must_use]
pub fn scale_bits(levels: &[(f64, f64)]) -> f64 {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let mut weights = 1.0; // that share a scale of the level
    let mut bits = 0.0;
    for (size, block) in levels {
        weights *= block;
        bits += size / weights;
    }
    bits
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_quant::calculator::{ScaleStorage, bits_per_weight};

    use super::scale_bits;

    // ANCHOR: tests
    #[test]
    fn one_level_and_two() {
        for block in [32, 64, 4096] {
            let bits = |scales| bits_per_weight(0, block, scales).unwrap();
            let block = block as f64;
            assert_eq!(scale_bits(&[(32.0, block)]), bits(ScaleStorage::Plain));
            let two = scale_bits(&[(8.0, block), (32.0, 256.0)]);
            assert_eq!(two, bits(ScaleStorage::Nested));
        }
    }

    #[test]
    fn a_third_level_is_worth_little() {
        let two = scale_bits(&[(8.0, 64.0), (32.0, 256.0)]);
        let three = scale_bits(&[(8.0, 64.0), (8.0, 256.0), (32.0, 256.0)]);
        assert!(two > three && two - three < 0.002);
    }
    // ANCHOR_END: tests
}
