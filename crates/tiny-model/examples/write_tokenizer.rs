//! Writes `data/tokenizer.json`, the tokenizer in the format of Hugging Face's `tokenizers`.
//!
//! `cargo run -p llm-tiny-model --example write_tokenizer`

use llm_tiny_model::tokenizer::Tokenizer;

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tokenizer.json");
    let unfinished = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tokenizer.json.tmp");
    std::fs::write(unfinished, Tokenizer::embedded().tokenizer_json())?;
    std::fs::rename(unfinished, path)?;
    println!("wrote {path}");
    Ok(())
}
