//! What an answer costs with and without a cache, in operations, for LLaMA-2 7B.

use llm_kvcache::KvCacheError;
use llm_kvcache::calculator::{ModelSizes, decode_work, prefill_work};

fn main() -> Result<(), KvCacheError> {
    // ANCHOR: flops
    let model = ModelSizes::llama_2_7b();
    println!("{} weights in matrices", model.matrix_weights()?);
    let prompt = 512;
    println!("answer  without a cache  with one  ratio   (TFLOP, a prompt of 512 tokens)");
    for answer in [1, 16, 64, 256, 1024] {
        let (mut without, mut with) = (0, 0);
        for t in 0..answer {
            let again = prefill_work(&model, 1, prompt + t, 2)?; // everything once more
            let step = if t == 0 {
                again // the prompt is new to the cache
            } else {
                decode_work(&model, 1, prompt + t - 1, 2)? // the token before
            };
            without += again.flops;
            with += step.flops;
        }
        let [a, b] = [without, with].map(|flops| flops as f64 / 1e12);
        println!("{answer:6} {a:16.1} {b:9.1} {:6.1}", a / b);
    }
    // ANCHOR_END: flops
    Ok(())
}
