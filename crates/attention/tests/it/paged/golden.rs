//! Known answers, by hand.

use llm_attention::paged::{self, PagedKv};
use llm_attention::{AttentionConfig, CausalAlignment, Mask};
use ndarray::{Array4, array, s};

/// Two sequences that share page 2. Scores are 0 and ln 3, so weights are quarters.
#[test]
fn a_table_with_shared_pages() {
    let ln3 = 3_f64.ln();
    // Pages of 2 tokens; page 1 belongs to nobody.
    let k = Array4::from_shape_vec((4, 1, 2, 1), vec![ln3, 0.0, 9.0, 9.0, 0.0, ln3, 0.0, 0.0]);
    let v = Array4::from_shape_vec(
        (4, 1, 2, 1),
        vec![8.0, 4.0, 99.0, 99.0, 4.0, 8.0, 2.0, 99.0],
    );
    let (k, v) = (k.unwrap(), v.unwrap());
    let block_table = array![[2, 0], [2, 3]];
    let lengths = array![4, 3];
    let q = Array4::ones((2, 1, 2, 1));
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let kv = PagedKv::new(&k, &v, &block_table, &lengths);
    let (out, lse) = paged::forward_with_lse(&q, &kv, &config).unwrap();
    // Sequence 0: keys 0, ln 3, ln 3, 0, values 4, 8, 8, 4. Its last query sees all, the one before it 3.
    // (4 + 3 * 8 + 3 * 8) / 7 = 52 / 7 and (52 + 4) / 8 = 7.
    // Sequence 1: keys 0, ln 3, 0, values 4, 8, 2: (4 + 24) / 4 = 7 and (28 + 2) / 5 = 6.
    let want = array![[52.0 / 7.0, 7.0], [7.0, 6.0]];
    let want_lse = array![[7_f64.ln(), 8_f64.ln()], [4_f64.ln(), 5_f64.ln()]];
    assert!(
        (&out.slice(s![.., 0, .., 0]) - &want)
            .iter()
            .all(|x| x.abs() < 1e-14)
    );
    assert!(
        (&lse.slice(s![.., 0, ..]) - &want_lse)
            .iter()
            .all(|x| x.abs() < 1e-14)
    );
}

/// Integers 0 and 2 with a scale of ln 3 / 2: scores 0 and ln 3, weights 1/4 and 3/4.
#[test]
fn integers_with_scales() {
    let half_ln3 = 3_f32.ln() / 2.0;
    let k = Array4::from_shape_vec((1, 1, 2, 1), vec![0_i8, 2]).unwrap();
    let v = Array4::from_shape_vec((1, 1, 2, 1), vec![-8_i8, 127]).unwrap();
    let k_scales = array![[[99.0, half_ln3]]];
    let v_scales = array![[[0.5, 0.25]]];
    let (block_table, lengths) = (array![[0]], array![2]);
    let kv = PagedKv::int8(&k, &v, &k_scales, &v_scales, &block_table, &lengths);
    let q = Array4::ones((1, 1, 1, 1));
    let config = AttentionConfig::new(Mask::Full);
    let (out, lse) = paged::forward_with_lse(&q, &kv, &config).unwrap();
    // -8 / 2 = -4 and 127 / 4 = 31.75: -1 + 23.8125.
    assert!((out[[0, 0, 0, 0]] - 22.8125).abs() < 1e-5);
    assert!((lse[[0, 0, 0]] - 4_f32.ln()).abs() < 1e-6);
}
