//! Where tokens lie: the room of a growing cache, and the two parts of a ring.

use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError};
use ndarray::Array3;

fn main() -> Result<(), KvCacheError> {
    let token = |t: usize| Array3::from_elem([1, 1, 1], t as f32);
    // ANCHOR: growing
    let mut cache = ContiguousCache::growing(1, 1, 4, 1, 1)?; // by blocks of 4
    for t in 0..40 {
        let room = cache.capacity();
        cache.append(0, &token(t), &token(t))?;
        if cache.capacity() > room {
            println!(
                "token {t:2}: room for {room:2} becomes {:2}, {t:2} copied",
                cache.capacity()
            );
        }
    }
    // ANCHOR_END: growing
    println!();
    // ANCHOR: ring
    let mut ring = RingCache::new(&RingConfig::new(1, 1, 4, 1))?; // a window of 4
    for t in 0..7 {
        ring.append(0, &token(t), &token(t))?;
    }
    let [older, newer] = ring.value_parts(0)?;
    println!(
        "older {:?}, newer {:?}",
        older.iter().collect::<Vec<_>>(),
        newer.iter().collect::<Vec<_>>()
    );
    println!(
        "positions {} to {}",
        ring.first_position(0)?,
        ring.seen(0)? - 1
    );
    // ANCHOR_END: ring
    Ok(())
}
