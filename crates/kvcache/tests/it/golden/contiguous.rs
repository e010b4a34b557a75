//! Known answers that a reader can redo by hand.

use llm_kvcache::ContiguousCache;
use llm_kvcache::calculator::{bytes_per_token, total_bytes};
use ndarray::{Array4, array};

#[test]
fn byte_counts_of_published_models() {
    // 2 * 32 layers * 32 heads * 128 features * 2 bytes = 524288: LLaMA-2 7B (Touvron et al. 2023,
    // arXiv:2307.09288v2, table 1 and appendix) in float16.
    assert_eq!(bytes_per_token(32, 32, 128, 2), Ok(524_288));
    // 2 * 80 * 8 * 128 * 2 = 327680: LLaMA-2 70B, with 8 key-value heads.
    assert_eq!(bytes_per_token(80, 8, 128, 2), Ok(327_680));
    // 4096 tokens of the former: 2 GiB.
    assert_eq!(total_bytes(524_288, 1, 4096), Ok(1 << 31));
}

#[test]
fn the_cache_takes_the_bytes_that_are_computed() {
    let cache = ContiguousCache::<f32>::new(3, 5, 7, 8, 8).unwrap();
    // 2 * 3 * 5 * 7 * 8 * 4 = 6720
    assert_eq!(cache.bytes(), 6720);
    assert_eq!(
        total_bytes(bytes_per_token(1, 5, 8, 4).unwrap(), 3, 7),
        Ok(6720)
    );
    assert_eq!(
        ContiguousCache::<f64>::new(1, 1, 1, 3, 2).unwrap().bytes(),
        40
    );
}

#[test]
fn rows_of_their_own_lengths() {
    let mut cache = ContiguousCache::<f64>::new(2, 1, 3, 1, 1).unwrap();
    cache
        .append(1, &array![[[1.0], [2.0]]], &array![[[-1.0], [-2.0]]])
        .unwrap();
    cache
        .append_all(
            &array![[[[3.0]]], [[[4.0]]]],
            &array![[[[-3.0]]], [[[-4.0]]]],
        )
        .unwrap();
    assert_eq!(cache.lengths(), [1, 3]);
    assert_eq!(cache.keys(0).unwrap(), array![[[3.0]]]);
    assert_eq!(cache.keys(1).unwrap(), array![[[1.0], [2.0], [4.0]]]);
    assert_eq!(cache.values(1).unwrap(), array![[[-1.0], [-2.0], [-4.0]]]);
    // Behind the tokens of row 0, there are zeros in a new cache.
    assert_eq!(
        cache.padded_keys(),
        array![[[[3.0], [0.0], [0.0]]], [[[1.0], [2.0], [4.0]]]]
    );
}

#[test]
fn zero_length_axes_are_fine() {
    for axes in [[0, 2, 3, 4], [2, 0, 3, 4], [2, 2, 0, 4], [2, 2, 3, 0]] {
        let [batch, heads, capacity, dim] = axes;
        let mut cache = ContiguousCache::<f32>::new(batch, heads, capacity, dim, dim).unwrap();
        let seq = capacity.min(1);
        let x = Array4::zeros([batch, heads, seq, dim]);
        cache.append_all(&x, &x).unwrap();
        assert_eq!(
            cache.padded_keys().dim(),
            (batch, heads, if batch == 0 { 0 } else { seq }, dim)
        );
        cache
            .reorder(&(0..batch).rev().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(cache.select(&[]).unwrap().batch(), 0);
        cache.clear();
        assert!(cache.is_empty());
    }
}

#[test]
fn nan_and_infinity_are_stored_like_any_number() {
    let mut cache = ContiguousCache::<f32>::new(1, 1, 2, 1, 1).unwrap();
    let x = array![[[f32::NAN], [f32::INFINITY]]];
    cache.append(0, &x, &x).unwrap();
    let bits: Vec<u32> = cache
        .values(0)
        .unwrap()
        .iter()
        .map(|x| x.to_bits())
        .collect();
    assert_eq!(bits, [f32::NAN.to_bits(), f32::INFINITY.to_bits()]);
}
