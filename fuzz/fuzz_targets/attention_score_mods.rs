//! Attention with any biases, masks, slopes, rates, settings and numbers: results of the right shapes, the same error
//! forward and backward, and zeros where nothing is seen. Never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_attention::{
    AlibiOrigin, AttentionConfig, CausalAlignment, Dropout, Mask, MaskPolarity, ScoreMods,
    score_mods,
};
use ndarray::{Array1, Array4};

type Input = ([u8; 8], u16, [usize; 2], [f64; 3], [u64; 2], Vec<f32>);

fuzz_target!(|input: Input| {
    let (sizes, flags, [left, size], [scale, softcap, rate], [key, offset], values) = input;
    let is_set = |bit: u32| flags >> bit & 1 == 1;
    let value = |i: usize| values.get(i % values.len().max(1)).copied().unwrap_or(1.0);
    let array = |shape: [usize; 4]| {
        let mut i = 0..;
        Array4::from_shape_simple_fn(shape, || value(i.next().unwrap_or(0)))
    };
    let [
        batch,
        n_kv_heads,
        queries_per_kv,
        seq,
        kv_seq,
        head_dim,
        value_dim,
        odd,
    ] = sizes.map(|n| usize::from(n % 6));
    let n_heads = n_kv_heads * queries_per_kv + usize::from(is_set(0));
    let q = array([batch, n_heads, seq, head_dim]);
    let k = array([batch, n_kv_heads, kv_seq, head_dim]);
    let v = array([batch, n_kv_heads, kv_seq, value_dim]);
    let scores = [batch, n_heads, seq, kv_seq];
    let shrunk = |bit: u32| {
        std::array::from_fn::<_, 4, _>(|axis| match is_set(bit + axis as u32 % 2) {
            true => 1,
            false => scores[axis] + usize::from(odd == axis + 1),
        })
    };
    let (slopes, bias) = (
        Array1::from_elem(n_heads + odd / 5, value(3)),
        array(shrunk(1)),
    );
    let mask = array(shrunk(3)).mapv(|x| x > 0.0);

    let mut mods = ScoreMods::new();
    if is_set(5) {
        mods = mods.with_alibi(&slopes, AlibiOrigin::AbsoluteDistance);
    }
    if is_set(6) {
        mods = mods.with_bias(&bias);
    }
    if is_set(7) {
        mods = mods.with_mask(&mask, MaskPolarity::TrueHides);
    }
    if is_set(8) {
        mods = mods.with_dropout(Dropout { rate, key, offset });
    }
    let alignment = CausalAlignment::TopLeft;
    let mask = match flags >> 9 & 3 {
        0 => Mask::Full,
        1 => Mask::Causal(alignment),
        2 => Mask::PrefixLm {
            prefix: size,
            alignment,
        },
        _ => Mask::Window {
            left: Some(left),
            right: Some(size),
            alignment,
        },
    };
    let mut config = AttentionConfig::new(mask).with_tile(left % 9, 1 + size % 9);
    config.scale = is_set(11).then_some(scale);
    config.softcap = is_set(12).then_some(softcap);

    match score_mods::forward(&q, &k, &v, &mods, &config) {
        Err(error) => {
            let out = Array4::zeros((batch, n_heads, seq, value_dim));
            let lse = ndarray::Array3::zeros((batch, n_heads, seq));
            let got = score_mods::backward(&out, &q, &k, &v, &out, &lse, &mods, &config);
            assert_eq!(got.unwrap_err().to_string(), error.to_string());
        }
        Ok((out, lse)) => {
            assert_eq!(out.dim(), (batch, n_heads, seq, value_dim));
            for (row, lse) in out.lanes(ndarray::Axis(3)).into_iter().zip(&lse) {
                assert!(*lse != f32::NEG_INFINITY || row.iter().all(|x| *x == 0.0));
            }
            let got = score_mods::backward(&out, &q, &k, &v, &out, &lse, &mods, &config).unwrap();
            assert_eq!(got.inputs.dq.dim(), q.dim());
            assert_eq!(got.inputs.dv.dim(), v.dim());
            assert_eq!(got.dbias.map(|x| x.dim()), mods.bias.map(|x| x.dim()));
        }
    }
});
