//! Known answers, worked out by hand.

use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash};
use llm_numerics::testing::{Tolerance, assert_close};
use ndarray::{Array3, Array4, array, s};

const F64: Tolerance = Tolerance::new(1e-14, 1e-14);

// Scores ln 1, ln 2, ln 5 (scale 1, q = 1): weights 1/8, 2/8, 5/8; lse = ln 8.
// Values 8, 16, 24: 1 + 4 + 15 = 20. With dout = 1: d = 20,
// ds = p (v - 20) = (-12/8, -8/8, 20/8) = (-1.5, -1, 2.5), dv = p, dk = ds q = ds,
// dq = sum ds k = -1.5 ln 1 - ln 2 + 2.5 ln 5.
#[test]
fn three_keys_by_hand() {
    let (ln2, ln5) = (2_f64.ln(), 5_f64.ln());
    let q = array![[[[1.0]]]];
    let k = array![[[[0.0], [ln2], [ln5]]]];
    let v = array![[[[8.0], [16.0], [24.0]]]];
    let config = AttentionConfig::new(Mask::Full).with_scale(1.0);
    let (out, lse) = flash::forward_with_lse(&q, &k, &v, &config).unwrap();
    assert_close(&out, &array![[[[20.0]]]], F64);
    assert_close(&lse, &array![[[8_f64.ln()]]], F64);
    let dout = array![[[[1.0]]]];
    let grads = flash::backward(&dout, &q, &k, &v, &out, &lse, &config).unwrap();
    assert_close(&grads.dv, &array![[[[0.125], [0.25], [0.625]]]], F64);
    assert_close(&grads.dk, &array![[[[-1.5], [-1.0], [2.5]]]], F64);
    assert_close(&grads.dq, &array![[[[2.5 * ln5 - ln2]]]], F64);
}

// Equal keys: each query averages the values that it sees. Values are 1, 2, 3, 4.
#[test]
fn alignments_differ_when_lengths_do() {
    let run = |alignment, seq| {
        let q = Array4::<f64>::zeros((1, 1, seq, 2));
        let k = Array4::zeros((1, 1, 4, 2));
        let v = array![[[[1.0], [2.0], [3.0], [4.0]]]];
        let config = AttentionConfig::new(Mask::Causal(alignment));
        let out = flash::forward(&q, &k, &v, &config).unwrap();
        out.slice(s![0, 0, .., 0]).to_vec()
    };
    assert_eq!(run(CausalAlignment::TopLeft, 2), [1.0, 1.5]);
    assert_eq!(run(CausalAlignment::BottomRight, 2), [2.0, 2.5]);
    assert_eq!(run(CausalAlignment::TopLeft, 1), [1.0]);
    assert_eq!(run(CausalAlignment::BottomRight, 1), [2.5]);
    let top_left = [1.0, 1.5, 2.0, 2.5, 2.5, 2.5];
    assert_eq!(run(CausalAlignment::TopLeft, 6), top_left);
    let bottom_right = [0.0, 0.0, 1.0, 1.5, 2.0, 2.5];
    assert_eq!(run(CausalAlignment::BottomRight, 6), bottom_right);
}

// Query heads 0, 1 use key-value head 0; 2, 3 use head 1 (not 0, 1, 0, 1).
#[test]
fn heads_of_a_group_are_neighbors() {
    let q = Array4::<f32>::zeros((1, 4, 2, 3));
    let k = Array4::zeros((1, 2, 1, 3));
    let v = array![[[[5.0]], [[7.0]]]];
    let config = AttentionConfig::new(Mask::Full);
    let out = flash::forward(&q, &k, &v, &config).unwrap();
    assert_eq!(out.slice(s![0, .., 0, 0]).to_vec(), [5.0, 5.0, 7.0, 7.0]);
}

// Scores of 1e4 and 0 overflow e^x, but the weights are 1 and 0.
#[test]
fn large_scores_do_not_overflow() {
    for seq in [1, 2] {
        let q = Array4::from_elem((1, 1, seq, 1), 100.0_f32);
        let k = array![[[[100.0_f32], [0.0]]]];
        let v = array![[[[3.0_f32], [9.0]]]];
        for sign in [1.0, -1.0] {
            let config = AttentionConfig::new(Mask::Full)
                .with_scale(sign)
                .with_tile(1, 1);
            let (out, lse) = flash::forward_with_lse(&q, &k, &v, &config).unwrap();
            let want = if sign > 0.0 { (3.0, 1e4) } else { (9.0, 0.0) };
            assert!(out.iter().all(|x| *x == want.0));
            assert!(lse.iter().all(|x| *x == want.1));
        }
    }
}

#[test]
fn no_keys_give_zeros() {
    for seq in [1, 3] {
        let q = Array4::<f32>::ones((2, 2, seq, 4));
        let k = Array4::ones((2, 1, 0, 4));
        let config = AttentionConfig::new(Mask::Full);
        let (out, lse) = flash::forward_with_lse(&q, &k, &k, &config).unwrap();
        assert_eq!(out, Array4::<f32>::zeros(q.dim()));
        assert_eq!(lse, Array3::from_elem((2, 2, seq), f32::NEG_INFINITY));
        let grads = flash::backward(&q, &q, &k, &k, &out, &lse, &config).unwrap();
        assert_eq!(grads.dq, Array4::<f32>::zeros(q.dim()));
        assert_eq!(grads.dk.dim(), k.dim());
    }
}

// Keys without features score 0: a plain mean of the values.
#[test]
fn no_features_give_the_mean() {
    for seq in [1, 2] {
        let q = Array4::<f64>::zeros((1, 1, seq, 0));
        let k = Array4::zeros((1, 1, 2, 0));
        let v = array![[[[1.0], [4.0]]]];
        let out = flash::forward(&q, &k, &v, &AttentionConfig::new(Mask::Full)).unwrap();
        assert!(out.iter().all(|x| *x == 2.5));
    }
}

// 1e30 times -1e30 is -inf in f32: a weight of 0 for every key, as if none were seen.
#[test]
fn scores_of_minus_infinity_weigh_nothing() {
    for seq in [1, 2] {
        let q = Array4::from_elem((1, 1, seq, 1), 1e30_f32);
        let k = -Array4::from_elem((1, 1, 3, 1), 1e30_f32);
        let v = Array4::<f32>::ones((1, 1, 3, 1));
        let config = AttentionConfig::new(Mask::Full);
        let (out, lse) = flash::forward_with_lse(&q, &k, &v, &config).unwrap();
        assert!(out.iter().all(|x| *x == 0.0));
        assert!(lse.iter().all(|x| *x == f32::NEG_INFINITY));
        let dout = Array4::ones(out.dim());
        let grads = flash::backward(&dout, &q, &k, &v, &out, &lse, &config).unwrap();
        for grad in [grads.dq, grads.dk, grads.dv] {
            assert!(grad.iter().all(|x| *x == 0.0));
        }
    }
}
