//! Smoothing of any keys by any settings: keys and queries that a store takes, or an error that changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_kvcache::smooth::{KeySmoothing, SmoothConfig};
use ndarray::{Array2, Array3};

fuzz_target!(|input: ([u8; 4], f32, bool, bool, Vec<f32>)| {
    let ([heads, seq, features, queries_per_kv], alpha, has_means, is_whole, numbers) = input;
    let [heads, seq, features] = [heads % 4, seq % 8, features % 8].map(usize::from);
    let heads_of_queries = heads * usize::from(queries_per_kv % 3);
    let mut numbers = numbers.into_iter().cycle();
    let mut next = || numbers.next().unwrap_or(0.0);
    let k = Array3::from_shape_simple_fn([heads, seq, features], &mut next);
    let q = Array3::from_shape_simple_fn([heads_of_queries, 2, features], &mut next);
    let mut config = SmoothConfig::new(alpha);
    if has_means {
        config = config.with_means();
    }
    let smoothing = if is_whole {
        KeySmoothing::of_keys(&k, &config)
    } else {
        let factors = Array2::from_shape_simple_fn([heads, features], &mut next);
        KeySmoothing::from_parts(None, &factors)
    };
    let Ok(smoothing) = smoothing else { return };
    let is_factor = |&x: &f32| x >= 2.0_f32.powi(-32) && x <= 2.0_f32.powi(32);
    assert!(smoothing.factors().iter().all(is_factor));
    for (is_query, x) in [(false, k), (true, q)] {
        let (got, mut inplace) = if is_query {
            (smoothing.smooth_queries(&x), x.clone())
        } else {
            (smoothing.smooth_keys(&x), x.clone())
        };
        let done = if is_query {
            smoothing.smooth_queries_inplace(&mut inplace)
        } else {
            smoothing.smooth_keys_inplace(&mut inplace)
        };
        assert_eq!(got.is_ok(), done.is_ok());
        let bits = |x: &Array3<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        match got {
            Ok(got) => {
                assert!(got.iter().all(|x| x.abs() <= 3.4e38));
                assert_eq!(bits(&got), bits(&inplace));
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(bits(&x), bits(&inplace));
            }
        }
    }
});
