//! Attention of one new token at a time over cached keys and values gives what attention over
//! the whole sequence gives.

use llm_kvcache::ContiguousCache;
use llm_numerics::softmax::softmax_inplace;
use ndarray::{Array1, Array3, ArrayView2, ArrayView3, s};

const HEADS: usize = 2;
const SEQ: usize = 6;
const HEAD_DIM: usize = 4;

fn main() -> Result<(), llm_kvcache::KvCacheError> {
    let q = waves(0.7); // [kv_heads, seq, head_dim]
    let k = waves(1.3);
    let v = waves(2.1);

    let mut cache = ContiguousCache::<f64>::new(1, HEADS, SEQ, HEAD_DIM, HEAD_DIM)?;
    for t in 0..SEQ {
        let new = s![.., t..t + 1, ..]; // [kv_heads, 1, head_dim]
        cache.append(0, &k.slice(new), &v.slice(new))?;
        let stepwise = attend(
            q.slice(s![0, t, ..]).to_owned(),
            cache.keys(0)?,
            cache.values(0)?,
        );
        let whole = attend(
            q.slice(s![0, t, ..]).to_owned(),
            k.slice(s![.., ..=t, ..]),
            v.slice(s![.., ..=t, ..]),
        );
        assert_eq!(stepwise, whole);
        println!(
            "token {t}: {} cached, head 0 reads {stepwise:.4}",
            cache.len(0)?
        );
    }
    println!("{} bytes of keys and values", cache.bytes());
    Ok(())
}

/// Attention of one query of head 0.
fn attend(q: Array1<f64>, k: ArrayView3<'_, f64>, v: ArrayView3<'_, f64>) -> Array1<f64> {
    let k: ArrayView2<'_, f64> = k.slice_move(s![0, .., ..]);
    let v: ArrayView2<'_, f64> = v.slice_move(s![0, .., ..]);
    let mut weights = k.dot(&q) / (HEAD_DIM as f64).sqrt(); // [kv_seq]
    softmax_inplace(&mut weights);
    weights.dot(&v)
}

/// Some numbers that are all different.
fn waves(pitch: f64) -> Array3<f64> {
    Array3::from_shape_fn([HEADS, SEQ, HEAD_DIM], |(h, t, i)| {
        (pitch * (1 + h * SEQ * HEAD_DIM + t * HEAD_DIM + i) as f64).sin()
    })
}
