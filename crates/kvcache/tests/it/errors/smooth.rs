//! What the smoothing of keys refuses.

use llm_kvcache::smooth::{KeySmoothing, KeyStatistics, SmoothConfig};
use llm_kvcache::{KvCacheError, Largest};
use ndarray::{Array2, Array3, ArrayView3, array};

#[test]
fn alphas_outside_their_range_are_refused() {
    let k = Array3::zeros([1, 1, 1]);
    for alpha in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
        let bits = alpha.to_bits();
        let error = Err(KvCacheError::SmoothAlpha { bits });
        let config = SmoothConfig::new(alpha).with_means();
        assert_eq!(KeySmoothing::of_keys(&k, &config), error);
        let seen = KeyStatistics::new(1, 1).unwrap();
        assert_eq!(KeySmoothing::of_statistics(&seen, &config), error);
    }
    let message = KvCacheError::SmoothAlpha {
        bits: 1.5_f32.to_bits(),
    };
    assert_eq!(message.to_string(), "alpha must be from 0 to 1, got 1.5");
}

#[test]
fn keys_that_are_no_numbers_are_refused_and_not_counted() {
    let mut seen = KeyStatistics::new(1, 2).unwrap();
    seen.observe(&array![[[1.0, 2.0]]]).unwrap();
    let before = seen.clone();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.402e38] {
        let k = array![[[8.0, 9.0], [7.0, bad]]];
        let error = KvCacheError::NotQuantizable {
            name: "k",
            max: Largest::F32,
            head: 0,
            token: 1,
            feature: 1,
        };
        assert_eq!(seen.observe(&k), Err(error));
        assert_eq!(seen, before);
        assert_eq!(
            KeySmoothing::of_keys(&k, &SmoothConfig::new(0.5)),
            Err(error)
        );
    }
}

/// As many as no loop ends with.
#[test]
fn tokens_without_features_are_only_counted() {
    let seq = 1 << 50;
    let k = Array3::zeros([1, seq, 0]);
    let mut seen = KeyStatistics::new(1, 0).unwrap();
    seen.observe(&k).unwrap();
    assert_eq!(seen.tokens(), seq as u64);
    let smoothing = KeySmoothing::of_statistics(&seen, &SmoothConfig::new(0.5)).unwrap();
    assert_eq!(smoothing.smooth_keys(&k), Ok(k));
}

#[test]
fn other_shapes_are_refused() {
    let smoothing =
        KeySmoothing::of_keys(&Array3::ones([2, 1, 3]), &SmoothConfig::new(0.5)).unwrap();
    for got in [[1, 4, 3], [2, 4, 2], [4, 4, 3]] {
        let error = KvCacheError::KeyShape {
            n_kv_heads: 2,
            head_dim: 3,
            got,
        };
        let mut k = Array3::zeros(got);
        assert_eq!(smoothing.smooth_keys(&k), Err(error));
        assert_eq!(smoothing.restore_keys(&k), Err(error));
        assert_eq!(smoothing.smooth_keys_inplace(&mut k), Err(error));
        let mut seen = KeyStatistics::new(2, 3).unwrap();
        assert_eq!(seen.observe(&k), Err(error));
    }
    for got in [[3, 4, 3], [2, 4, 2], [1, 1, 3]] {
        let error = KvCacheError::QueryShape {
            n_kv_heads: 2,
            head_dim: 3,
            got,
        };
        let mut q = Array3::zeros(got);
        assert_eq!(smoothing.smooth_queries(&q), Err(error));
        assert_eq!(smoothing.smooth_queries_inplace(&mut q), Err(error));
    }
    assert!(smoothing.smooth_queries(&Array3::zeros([0, 4, 3])).is_ok());
    let none = KeySmoothing::of_keys(&Array3::ones([0, 1, 3]), &SmoothConfig::new(0.5)).unwrap();
    assert!(none.smooth_queries(&Array3::zeros([0, 4, 3])).is_ok());
    assert!(none.smooth_queries(&Array3::zeros([1, 4, 3])).is_err());
}

#[test]
fn other_channels_are_refused() {
    let mut seen = KeyStatistics::new(2, 3).unwrap();
    let before = seen.clone();
    let mut error = KvCacheError::ChannelShape {
        name: "statistics",
        expected: [2, 3],
        got: [3, 2],
    };
    assert_eq!(seen.merge(&KeyStatistics::new(3, 2).unwrap()), Err(error));
    assert_eq!(seen, before);
    if let KvCacheError::ChannelShape { name, .. } = &mut error {
        *name = "means";
    }
    let (means, factors) = (Array2::ones([3, 2]), Array2::ones([2, 3]));
    assert_eq!(KeySmoothing::from_parts(Some(&means), &factors), Err(error));
}

#[test]
fn factors_and_means_that_cannot_be_used_are_refused() {
    let error = |name, rule, x: f32| KvCacheError::ChannelNumber {
        name,
        rule,
        head: 0,
        feature: 1,
        bits: x.to_bits(),
    };
    let least = 2.0_f32.powi(-32);
    for bad in [
        0.0,
        -1.0,
        f32::NAN,
        f32::INFINITY,
        1e-40,
        0.99 * least,
        4.3e9,
        1e30,
    ] {
        let got = KeySmoothing::from_parts(None, &array![[1.0, bad]]);
        assert_eq!(got, Err(error("factors", "from 2^-32 to 2^32", bad)));
    }
    let limits = array![[least, 1.0 / least]];
    assert_eq!(
        KeySmoothing::from_parts(None, &limits).unwrap().factors(),
        limits
    );
    // The largest `f32` is infinite in `bf16`.
    for bad in [f32::NAN, f32::NEG_INFINITY, f32::MAX] {
        let got = KeySmoothing::from_parts(Some(&array![[0.0, bad]]), &array![[1.0, 1.0]]);
        assert_eq!(got, Err(error("means", "finite in bf16", bad)));
    }
}

#[test]
fn what_overflows_is_refused_and_changes_nothing() {
    let smoothing = KeySmoothing::from_parts(None, &array![[1e-6, 1e6]]).unwrap();
    let error = |name, token, feature| KvCacheError::Smoothed {
        name,
        head: 0,
        token,
        feature,
    };
    for bad in [1e36, -1e36, f32::NAN, f32::INFINITY] {
        let mut k = array![[[1.0, 2.0], [bad, 1.0]]];
        let before = k.clone();
        assert_eq!(smoothing.smooth_keys(&k), Err(error("k", 1, 0)));
        assert_eq!(smoothing.smooth_keys_inplace(&mut k), Err(error("k", 1, 0)));
        assert!(
            k.iter()
                .zip(&before)
                .all(|(a, b)| a.to_bits() == b.to_bits())
        );
        let mut q = array![[[1.0, 2.0], [1.0, bad]]];
        let before = q.clone();
        assert_eq!(smoothing.smooth_queries(&q), Err(error("q", 1, 1)));
        assert_eq!(
            smoothing.smooth_queries_inplace(&mut q),
            Err(error("q", 1, 1))
        );
        assert!(
            q.iter()
                .zip(&before)
                .all(|(a, b)| a.to_bits() == b.to_bits())
        );
        assert_eq!(smoothing.restore_keys(&q), Err(error("k", 1, 1)));
    }
}

#[test]
fn keys_that_are_too_far_from_their_mean_are_refused() {
    let config = SmoothConfig::new(0.0).with_means();
    let k = array![[[3e38], [3e38], [-3e38]]]; // 4e38 from their mean, 1e38
    let smoothing = KeySmoothing::of_keys(&k, &config).unwrap();
    let error = KvCacheError::Smoothed {
        name: "k",
        head: 0,
        token: 2,
        feature: 0,
    };
    assert_eq!(smoothing.smooth_keys(&k), Err(error));
    // A mean that `bf16` would round to infinity is the largest number below it.
    let k = array![[[3.4e38]]];
    let smoothing = KeySmoothing::of_keys(&k, &config).unwrap();
    assert!(smoothing.means().unwrap()[[0, 0]] > 3.38e38);
    assert!(smoothing.smooth_keys(&k).unwrap()[[0, 0, 0]] < 0.02e38);
}

#[test]
fn sizes_that_overflow_are_refused() {
    for [heads, features] in [[usize::MAX, 2], [1 << 40, 1 << 40]] {
        let got = KeyStatistics::new(heads, features);
        assert!(matches!(got, Err(KvCacheError::Size { .. })), "{got:?}");
    }
    // A view may be larger than memory.
    let zero = array![0.0_f32];
    let many = zero.view();
    let many: ArrayView3<'_, f32> = many.broadcast([1, 1 << 60, 1]).unwrap();
    let smoothing = KeySmoothing::from_parts(None, &array![[1.0]]).unwrap();
    let size = matches!(smoothing.smooth_keys(&many), Err(KvCacheError::Size { .. }));
    let allocation = matches!(
        smoothing.smooth_queries(&many),
        Err(KvCacheError::Allocation { .. } | KvCacheError::Size { .. })
    );
    assert!(size || allocation);
}
