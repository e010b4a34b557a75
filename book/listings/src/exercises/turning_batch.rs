//! Exercise of the page on prefill and decode: can a batch be large enough?

// ANCHOR: exercise
/// The smallest batch whose decode step has as many operations a byte as the machine, if there is one.
///
/// - `weights`: bytes of the weights, each of two bytes: so many operations does a token take, too
/// - `cache`: bytes of one sequence's keys and values; attention takes as many operations
/// - `machine`: operations that the machine does for each byte that it moves, more than 1
#[must_use]
pub fn turning_batch(weights: f64, cache: f64, machine: f64) -> Option<f64> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    // batch (weights + cache) = machine (weights + batch cache)
    let left = weights + cache - machine * cache;
    (left > 0.0).then(|| (machine * weights / left).ceil())
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_kvcache::calculator::{ModelSizes, decode_work};

    use super::turning_batch;

    // ANCHOR: tests
    #[test]
    fn without_a_cache_it_is_the_machine() {
        assert_eq!(turning_batch(100.0, 0.0, 153.0), Some(153.0));
        assert_eq!(turning_batch(100.0, 1.0, 51.0), Some(102.0)); // 102 (100 + 1) = 51 (100 + 102)
        assert_eq!(turning_batch(100.0, 1.0, 102.0), None); // never
    }

    #[test]
    fn the_crate_agrees() {
        let model = ModelSizes::llama_2_7b();
        let weights = 2.0 * model.matrix_weights().unwrap() as f64;
        let token = 2.0 * 32.0 * 32.0 * 128.0 * 2.0; // keys and values of 32 layers and 32 heads
        for past in [16, 32, 64] {
            // One token more is there, its own; that it is written too is left out here.
            let batch = turning_batch(weights, token * f64::from(past + 1), 100.0).unwrap();
            let intensity = |batch: f64| {
                let work = decode_work(&model, batch as usize, past as usize, 2).unwrap();
                work.intensity()
            };
            assert!(intensity(0.97 * batch) < 100.0 && intensity(1.03 * batch) > 100.0);
        }
    }
    // ANCHOR_END: tests
}
