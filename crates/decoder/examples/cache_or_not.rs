//! What a key-value cache saves: the time of one more token, with it and without.

use std::time::Instant;

use llm_decoder::{Decoder, DecoderConfig, DecoderError, Session, TokenBatch};
use llm_numerics::philox::Philox4x32;

fn main() -> Result<(), DecoderError> {
    let config = DecoderConfig::glm(1000, 256, 4, 8).with_kv_heads(2);
    let model = Decoder::<f32>::random(config, 0.05, &Philox4x32::new(1))?;
    println!("tokens  prefill ms  with cache ms  without ms");
    for n in [32, 64, 128, 256, 512, 1024] {
        let ids: Vec<u32> = (0..n).map(|i| (i * 31) % 1000).collect();
        let mut session = Session::new(&model, ids.len() + 8)?;
        let start = Instant::now();
        session.extend(&ids)?;
        let prefill = start.elapsed();

        // The best of a few: other programs disturb.
        let mut with_cache = f64::INFINITY;
        for _ in 0..8 {
            let start = Instant::now();
            session.extend(&[7])?;
            with_cache = with_cache.min(start.elapsed().as_secs_f64());
        }
        let mut longer = ids.clone();
        longer.push(7);
        let start = Instant::now();
        model.forward(&TokenBatch::new(&[&longer])?)?;
        let without = start.elapsed();
        println!(
            "{n:6} {:11.2} {:14.3} {:11.2}",
            prefill.as_secs_f64() * 1e3,
            with_cache * 1e3,
            without.as_secs_f64() * 1e3
        );
    }
    Ok(())
}
