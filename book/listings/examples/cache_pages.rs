//! A prompt, a fork of it, and the page that is copied when one of them writes.

use llm_kvcache::KvCacheError;
use llm_kvcache::paged::{FloatPages, PagedCache, PoolConfig, SequenceId};
use ndarray::Array3;

fn main() -> Result<(), KvCacheError> {
    let tokens = |n: usize| Array3::<f32>::ones([1, n, 2]);
    // ANCHOR: pages
    // 1 layer, 8 pages of 4 tokens, 1 key-value head of 2 features.
    let mut pool = PagedCache::<FloatPages<f32>>::new(&PoolConfig::new(1, 8, 4, 1, 2))?;
    let a = pool.create(b"")?;
    pool.append(a, &[tokens(6).view()], &[tokens(6).view()])?;
    show("a has a prompt of 6 tokens", &pool, &[a])?;
    let b = pool.fork(a)?;
    show("b is a fork of a", &pool, &[a, b])?;
    pool.append(b, &[tokens(1).view()], &[tokens(1).view()])?;
    show("b writes a token", &pool, &[a, b])?;
    pool.append(a, &[tokens(1).view()], &[tokens(1).view()])?;
    show("a writes a token", &pool, &[a, b])?;
    pool.free(a)?;
    show("a is gone", &pool, &[b])?;
    // ANCHOR_END: pages
    Ok(())
}

fn show(
    what: &str,
    pool: &PagedCache<FloatPages<f32>>,
    ids: &[SequenceId],
) -> Result<(), KvCacheError> {
    let (block_table, lengths) = pool.block_table(ids)?;
    let lengths = lengths.to_string();
    let rows: Vec<String> = (block_table.outer_iter())
        .map(|row| row.to_string())
        .collect();
    let free = pool.table().n_free();
    println!(
        "{what:26}  lengths {lengths:6}  {free} pages free  block table {}",
        rows.join(" ")
    );
    Ok(())
}
