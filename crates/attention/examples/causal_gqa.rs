//! Causal grouped-query attention: all tokens at once, then one by one with a cache.

use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash};
use ndarray::{Array4, s};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wave = |shape: (usize, usize, usize, usize), speed: f32| {
        let mut t = 0.0_f32;
        Array4::from_shape_simple_fn(shape, || {
            t += speed;
            t.sin()
        })
    };
    let q = wave((1, 4, 6, 8), 0.7); // [batch, n_heads, seq, head_dim]
    let k = wave((1, 2, 6, 8), 1.1); // [batch, n_kv_heads, seq, head_dim]
    let v = wave((1, 2, 6, 8), 0.3);
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let all = flash::forward(&q, &k, &v, &config)?;

    // A decoder sees one query at a time, after the keys and values of all tokens so far.
    for t in 0..6 {
        let query = q.slice(s![.., .., t..=t, ..]);
        let keys = k.slice(s![.., .., ..=t, ..]);
        let values = v.slice(s![.., .., ..=t, ..]);
        let one = flash::forward(&query, &keys, &values, &config)?;
        let difference = &one.slice(s![.., .., 0, ..]) - &all.slice(s![.., .., t, ..]);
        let worst = difference
            .iter()
            .fold(0.0_f32, |worst, x| worst.max(x.abs()));
        println!(
            "token {t}: head 0 gives {:.4?}, off from all at once by {worst:.1e}",
            one.slice(s![0, 0, 0, ..3]).to_vec()
        );
        assert!(worst < 1e-6);
    }
    Ok(())
}
