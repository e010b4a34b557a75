#![cfg_attr(feature = "tiny-model", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "tiny-model"),
    doc = "The building blocks of large language models."
)]
//!
//! # Contents
//!
//! **What all of them stand on**: `numerics`, and `gpu` where they have compute shaders.
//!
//! **One block each**, in the order in which a token meets them: `chat_format`, `posenc`, `attention`, `kvcache`,
//! `ffn`, `sampling`.
//!
//! **Smaller weights**: `quant`.
//!
//! **To learn**: `training`.
//!
//! **Whole models**: `decoder`, `tiny_model`.

// What all of them stand on.
#[cfg(feature = "gpu")]
#[doc(inline)]
pub use llm_gpu as gpu;
#[cfg(feature = "numerics")]
#[doc(inline)]
pub use llm_numerics as numerics;
#[cfg(feature = "numerics")]
pub use llm_numerics::ndarray; // the version that all signatures speak

// One block each.
#[cfg(feature = "attention")]
#[doc(inline)]
pub use llm_attention as attention;
#[cfg(feature = "chat-format")]
#[doc(inline)]
pub use llm_chat_format as chat_format;
#[cfg(feature = "ffn")]
#[doc(inline)]
pub use llm_ffn as ffn;
#[cfg(feature = "kvcache")]
#[doc(inline)]
pub use llm_kvcache as kvcache;
#[cfg(feature = "posenc")]
#[doc(inline)]
pub use llm_posenc as posenc;
#[cfg(feature = "sampling")]
#[doc(inline)]
pub use llm_sampling as sampling;

// Smaller weights.
#[cfg(feature = "quant")]
#[doc(inline)]
pub use llm_quant as quant;

// To learn.
#[cfg(feature = "training")]
#[doc(inline)]
pub use llm_training as training;

// Whole models.
#[cfg(feature = "decoder")]
#[doc(inline)]
pub use llm_decoder as decoder;
#[cfg(feature = "tiny-model")]
#[doc(inline)]
pub use llm_tiny_model as tiny_model;
