//! Two sequences of different lengths share a pool of pages: a decode step, and one with half the bytes.

use llm_attention::paged::{self, PagedKv};
use llm_attention::{AttentionConfig, CausalAlignment, Mask};
use llm_numerics::half::bf16;
use ndarray::{Array4, array};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wave = |shape: (usize, usize, usize, usize), speed: f32| {
        let mut t = 0.0_f32;
        Array4::from_shape_simple_fn(shape, || {
            t += speed;
            t.sin()
        })
    };
    let k = wave((5, 2, 4, 8), 1.1); // [n_pages, n_kv_heads, page_size, head_dim]
    let v = wave((5, 2, 4, 8), 0.3);
    // Both begin with page 3, a prompt that they share. The third entry of the second is not needed.
    let block_table = array![[3, 0, 4], [3, 1, 0]];
    let lengths = array![11, 6]; // 4 + 4 + 3 and 4 + 2 tokens

    let q = wave((2, 4, 1, 8), 0.7); // [batch, n_heads, seq, head_dim]
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let kv = PagedKv::new(&k, &v, &block_table, &lengths);
    let out = paged::forward(&q, &kv, &config)?;

    let (k, v) = (k.mapv(bf16::from_f32), v.mapv(bf16::from_f32));
    let kv = PagedKv::new(&k, &v, &block_table, &lengths);
    let narrow = paged::forward(&q, &kv, &config)?;

    let difference = &out - &narrow;
    let worst = difference
        .iter()
        .fold(0.0_f32, |worst, x| worst.max(x.abs()));
    println!(
        "outputs {:?}, off by {worst:.1e} from pages of bf16",
        out.dim()
    );
    assert!(worst < 0.02);
    Ok(())
}
