//! Models whose answers are known without any training.

use llm_blocks::decoder::checkpoint::{self, WeightType};
use llm_blocks::decoder::{Decoder, DecoderConfig, Params};
use llm_blocks::tiny_model::Tokenizer;

/// A model that says `a` for ever: each token is the same vector, and only the head's `a` answers to it.
pub(crate) fn endless(context: usize) -> tempfile::TempDir {
    let tokenizer = Tokenizer::embedded();
    let config = DecoderConfig::glm(tokenizer.vocab(), 4, 1, 1)
        .with_d_ff(1)
        .with_context(context);
    let mut params = Params::<f32>::zeros(&config);
    params.embedding.fill(1.0);
    params.final_norm.fill(1.0);
    let a = tokenizer.encode("a").unwrap()[0] as usize;
    params.head.as_mut().unwrap().row_mut(a).fill(1.0);
    let folder = tempfile::tempdir().unwrap();
    let model = Decoder::new(config, params).unwrap();
    checkpoint::save(&model, folder.path(), WeightType::F32).unwrap();
    folder
}
