//! One test for each error variant.

use llm_attention::{AttentionConfig, AttentionError, CausalAlignment, Mask, flash, reference};
use ndarray::{Array3, Array4};

const FULL: AttentionConfig = AttentionConfig::new(Mask::Full);

fn ones(shape: [usize; 4]) -> Array4<f64> {
    Array4::ones(shape)
}

#[test]
fn keys_and_values_must_fit_the_queries() {
    let q = ones([2, 4, 3, 8]);
    for (k, v, name, expected, got) in [
        ([1, 2, 5, 8], [1, 2, 5, 8], "k", [2, 2, 5, 8], [1, 2, 5, 8]),
        ([2, 2, 5, 7], [2, 2, 5, 8], "k", [2, 2, 5, 8], [2, 2, 5, 7]),
        ([2, 2, 5, 8], [1, 2, 5, 6], "v", [2, 2, 5, 6], [1, 2, 5, 6]),
        ([2, 2, 5, 8], [2, 1, 5, 6], "v", [2, 2, 5, 6], [2, 1, 5, 6]),
        ([2, 2, 5, 8], [2, 2, 4, 6], "v", [2, 2, 5, 6], [2, 2, 4, 6]),
    ] {
        let (k, v) = (ones(k), ones(v));
        let want = AttentionError::Shape {
            name,
            expected,
            got,
        };
        assert_eq!(flash::forward(&q, &k, &v, &FULL).unwrap_err(), want);
        let error = reference::attention::forward(&q, &k, &v, &FULL).unwrap_err();
        assert_eq!(error, want);
    }
    let message = AttentionError::Shape {
        name: "k",
        expected: [2, 2, 5, 8],
        got: [1, 2, 5, 8],
    };
    assert_eq!(
        message.to_string(),
        "k must have shape [2, 2, 5, 8], got [1, 2, 5, 8]"
    );
}

#[test]
fn outputs_must_have_the_shape_of_the_result() {
    let (q, k) = (ones([1, 2, 3, 4]), ones([1, 1, 5, 4]));
    let shape = |name, expected, got| AttentionError::Shape {
        name,
        expected,
        got,
    };
    let good = [1, 2, 3, 4];
    let bad = [1, 2, 3, 5];
    let error = flash::forward_into(&q, &k, &k, &FULL, &mut ones(bad), None);
    assert_eq!(error, Err(shape("out", good, bad)));

    let lse = Array3::zeros((1, 2, 3));
    let error = flash::backward(&ones(bad), &q, &k, &k, &q, &lse, &FULL);
    assert_eq!(error, Err(shape("dout", good, bad)));
    let error = flash::backward(&q, &q, &k, &k, &ones(bad), &lse, &FULL);
    assert_eq!(error, Err(shape("out", good, bad)));
    let error = reference::attention::backward(&ones(bad), &q, &k, &k, &FULL);
    assert_eq!(error, Err(shape("dout", good, bad)));

    for (dq, dk, dv, want) in [
        (bad, [1, 1, 5, 4], [1, 1, 5, 4], shape("dq", good, bad)),
        (
            good,
            [1, 1, 4, 4],
            [1, 1, 5, 4],
            shape("dk", [1, 1, 5, 4], [1, 1, 4, 4]),
        ),
        (
            good,
            [1, 1, 5, 4],
            [1, 2, 5, 4],
            shape("dv", [1, 1, 5, 4], [1, 2, 5, 4]),
        ),
    ] {
        let (mut dq, mut dk, mut dv) = (ones(dq), ones(dk), ones(dv));
        let error =
            flash::backward_into(&q, &q, &k, &k, &q, &lse, &FULL, &mut dq, &mut dk, &mut dv);
        assert_eq!(error, Err(want));
    }
}

#[test]
fn a_softcap_must_be_positive_and_finite() {
    let q = ones([1, 2, 3, 4]);
    for got in [0.0, -1.0, f64::INFINITY] {
        let config = FULL.with_softcap(got);
        let want = AttentionError::Softcap { got };
        assert_eq!(flash::forward(&q, &q, &q, &config).unwrap_err(), want);
        let error = reference::attention::forward(&q, &q, &q, &config).unwrap_err();
        assert_eq!(error, want);
    }
    let config = FULL.with_softcap(f64::NAN);
    assert!(matches!(
        flash::forward(&q, &q, &q, &config),
        Err(AttentionError::Softcap { got }) if got.is_nan()
    ));
    // Finite in f64, but not a positive number of f32.
    let q = Array4::<f32>::ones((1, 2, 3, 4));
    for got in [1e300, 1e-300] {
        let error = flash::forward(&q, &q, &q, &FULL.with_softcap(got)).unwrap_err();
        assert_eq!(error, AttentionError::Softcap { got });
    }
    assert_eq!(
        AttentionError::Softcap { got: -1.0 }.to_string(),
        "softcap must be positive and finite in the type of the arrays, got -1"
    );
}

#[test]
fn a_chunk_holds_positions() {
    let q = ones([1, 2, 3, 4]);
    let config = AttentionConfig::new(Mask::ChunkedCausal {
        chunk: 0,
        alignment: CausalAlignment::TopLeft,
    });
    let error = flash::forward(&q, &q, &q, &config).unwrap_err();
    assert_eq!(error, AttentionError::Chunk);
    let error = reference::attention::forward(&q, &q, &q, &config).unwrap_err();
    assert_eq!(error, AttentionError::Chunk);
    assert_eq!(error.to_string(), "chunk must be at least 1, got 0");
}

#[test]
fn lse_must_have_one_value_per_query() {
    let (q, k) = (ones([1, 2, 3, 4]), ones([1, 1, 5, 4]));
    let mut lse = Array3::zeros((1, 2, 5));
    let want = AttentionError::LseShape {
        expected: [1, 2, 3],
        got: [1, 2, 5],
    };
    let error = flash::forward_into(&q, &k, &k, &FULL, &mut q.clone(), Some(&mut lse));
    assert_eq!(error, Err(want.clone()));
    let error = flash::backward(&q, &q, &k, &k, &q, &lse, &FULL);
    assert_eq!(error, Err(want));
}

#[test]
fn heads_must_divide() {
    for (n_heads, n_kv_heads) in [(3, 2), (2, 3), (4, 0)] {
        let q = ones([1, n_heads, 3, 4]);
        let k = ones([1, n_kv_heads, 3, 4]);
        let want = AttentionError::Heads {
            n_heads,
            n_kv_heads,
        };
        assert_eq!(flash::forward(&q, &k, &k, &FULL), Err(want.clone()));
        let error = reference::attention::forward(&q, &k, &k, &FULL);
        assert_eq!(error, Err(want));
    }
}

#[test]
fn scale_must_be_finite_in_the_type_of_the_arrays() {
    let q = ones([1, 1, 2, 2]);
    let got = f64::INFINITY;
    let error = flash::forward(&q, &q, &q, &FULL.with_scale(got));
    assert_eq!(error, Err(AttentionError::Scale { got }));
    let error = flash::forward(&q, &q, &q, &FULL.with_scale(f64::NAN)).unwrap_err();
    assert!(matches!(error, AttentionError::Scale { got } if got.is_nan()));
    let error = reference::attention::forward(&q, &q, &q, &FULL.with_scale(got));
    assert_eq!(error, Err(AttentionError::Scale { got }));

    let got = 1e39;
    assert!(flash::forward(&q, &q, &q, &FULL.with_scale(got)).is_ok());
    let q = q.mapv(|x| x as f32);
    let error = flash::forward(&q, &q, &q, &FULL.with_scale(got));
    assert_eq!(error, Err(AttentionError::Scale { got }));
}

#[test]
fn tiles_must_not_be_empty() {
    let q = ones([1, 1, 2, 2]);
    for (query_tile, key_tile) in [(0, 1), (1, 0)] {
        let error = flash::forward(&q, &q, &q, &FULL.with_tile(query_tile, key_tile));
        let want = AttentionError::Tile {
            query_tile,
            key_tile,
        };
        assert_eq!(error, Err(want));
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn results_must_fit_the_address_space() {
    // Arrays that repeat one element can be longer than memory.
    let seq = 1 << 61;
    let q = ones([1, 1, 1, 1]);
    let k = ones([1, 1, 2, 1]);
    let q = q.broadcast([1, 1, seq, 1]).unwrap();
    let error = flash::forward(&q, &k, &k, &FULL).unwrap_err();
    let shape = [1, 1, seq, 1];
    assert_eq!(error, AttentionError::TooLarge { shape });
    let v = ones([1, 1, 2, 0]);
    let error = flash::forward_with_lse(&q, &k, &v, &FULL).unwrap_err();
    assert_eq!(
        error,
        AttentionError::TooLarge {
            shape: [1, 1, seq, 0]
        }
    );
}

/// Arrays that repeat one element, too long to be walked through or to be copied: an error, at once.
#[cfg(target_pointer_width = "64")]
#[test]
fn no_claimed_length_aborts_or_hangs() {
    let too_large = |error: AttentionError| matches!(error, AttentionError::TooLarge { .. });
    let one = ones([1, 1, 1, 1]);
    let (long, wide) = (1 << 60, 1 << 60);
    let long_keys = one.broadcast([1, 1, long, 1]).unwrap();
    for seq in [1, 2] {
        let q = ones([1, 1, seq, 1]);
        assert!(too_large(
            flash::forward(&q, &long_keys, &long_keys, &FULL).unwrap_err()
        ));
        let wide_q = one.broadcast([1, 1, seq, wide]).unwrap();
        let wide_k = one.broadcast([1, 1, 3, wide]).unwrap();
        let v = ones([1, 1, 3, 1]);
        assert!(too_large(
            flash::forward(&wide_q, &wide_k, &v, &FULL).unwrap_err()
        ));
        // Tiles as large as the arrays, which need no memory themselves.
        let many = 1 << 22;
        let (q, k) = (ones([1, 1, many, 0]), ones([1, 1, many, 0]));
        let config = FULL.with_tile(usize::MAX, usize::MAX);
        if seq == 2 {
            assert!(too_large(
                flash::forward_with_lse(&q, &k, &k, &config).unwrap_err()
            ));
        }
    }
    // Keys without features, and nothing to write for many heads.
    let none = ones([1, 1, 1, 0]);
    let long_none = none.broadcast([1, 1, long, 0]).unwrap();
    assert!(too_large(
        flash::forward(&ones([1, 1, 2, 0]), &long_none, &long_none, &FULL).unwrap_err()
    ));
    let rows = one.broadcast([1, 1, 1 << 40, 1]).unwrap();
    let out = flash::forward(&rows, &ones([1, 1, 2, 1]), &ones([1, 1, 2, 0]), &FULL).unwrap();
    assert_eq!(out.dim(), (1, 1, 1 << 40, 0));
    let heads = ones([1, 1, 0, 4]);
    let heads = heads.broadcast([1 << 40, 1, 0, 4]).unwrap();
    let k = ones([1, 1, 2, 4]);
    let k = k.broadcast([1 << 40, 1, 2, 4]).unwrap();
    let (out, lse) = flash::forward_with_lse(&heads, &k, &k, &FULL).unwrap();
    assert_eq!((out.len(), lse.len()), (0, 0));
    // Gradients that take no room, of a log-sum-exp that would.
    let many = none.broadcast([1 << 40, 1, 1, 0]).unwrap();
    let lse = Array3::<f64>::zeros((1, 1, 1));
    let lse = lse.broadcast([1 << 40, 1, 1]).unwrap();
    let error = flash::backward(&many, &many, &many, &many, &many, &lse, &FULL).unwrap_err();
    assert!(too_large(error));
}
