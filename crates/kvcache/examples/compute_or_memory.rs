//! Prefill is bound by arithmetic and decoding by memory, in numbers: operations for each byte that must move, for LLaMA-2
//! 7B in 16 bits, beside the 153 that an A100 (312 TFLOP/s, 2.039 TB/s) has for each byte.
//!
//! ```text
//! prefill of   16:   0.208 TFLOP,  13.23 GB,   15.7 operations a byte: memory
//! prefill of  128:   1.662 TFLOP,  13.35 GB,  124.5 operations a byte: memory
//! prefill of  512:   6.701 TFLOP,  13.75 GB,  487.3 operations a byte: arithmetic
//! prefill of 2048:  27.626 TFLOP,  15.36 GB, 1798.4 operations a byte: arithmetic
//! decode,  1 at 2048:   0.014 TFLOP,  14.29 GB,    1.0 operations a byte: memory
//! decode,  8 at 2048:   0.114 TFLOP,  21.81 GB,    5.2 operations a byte: memory
//! decode, 64 at 2048:   0.914 TFLOP,  82.00 GB,   11.2 operations a byte: memory
//! token 2049 without a cache: 1934 times the operations
//! ```
//!
//! Longer prompts are bound by arithmetic, shorter ones and every decode step by memory; more sequences help less than one hopes,
//! since each brings a cache of its own.

use llm_kvcache::KvCacheError;
use llm_kvcache::calculator::{ModelSizes, Work, decode_work, prefill_work};

/// Operations and bytes a second of an A100 of 80 GB: dense 16-bit products, and its memory.
const MACHINE: [f64; 2] = [312e12, 2.039e12];

fn main() -> Result<(), KvCacheError> {
    print!("{}", report()?);
    Ok(())
}

// ANCHOR: report
/// A line for each pass.
pub(crate) fn report() -> Result<String, KvCacheError> {
    let model = ModelSizes::llama_2_7b();
    let mut text = String::new();
    for seq in [16, 128, 512, 2048] {
        text += &line(
            &format!("prefill of {seq:4}"),
            &prefill_work(&model, 1, seq, 2)?,
        );
    }
    for batch in [1, 8, 64] {
        let name = format!("decode, {batch:2} at 2048");
        text += &line(&name, &decode_work(&model, batch, 2048, 2)?);
    }
    let [again, step] = [
        prefill_work(&model, 1, 2049, 2)?,
        decode_work(&model, 1, 2048, 2)?,
    ];
    let ratio = again.flops as f64 / step.flops as f64;
    text += &format!("token 2049 without a cache: {ratio:.0} times the operations\n");
    Ok(text)
}
// ANCHOR_END: report

fn line(name: &str, work: &Work) -> String {
    let intensity = work.intensity();
    let limit = if intensity > MACHINE[0] / MACHINE[1] {
        "arithmetic"
    } else {
        "memory"
    };
    format!(
        "{name}: {:7.3} TFLOP, {:6.2} GB, {intensity:6.1} operations a byte: {limit}\n",
        work.flops as f64 / 1e12,
        work.bytes() as f64 / 1e9,
    )
}
