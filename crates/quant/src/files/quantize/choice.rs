//! Which tensors are quantized.

use regex_automata::nfa::thompson;
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::{Anchored, Input, MatchKind};
use safetensors::tensor::TensorInfo;

use crate::files::{FileError, WeightType};

/// Bytes that the search for a pattern may need: names are short, and so are patterns for them.
const PATTERN_LIMIT: usize = 1 << 20;
/// What stays as it is unless there is a list.
const HEAD: &str = "lm_head";

/// Modules that are left as they are, as `llm_int8_skip_modules` lists them.
///
/// A module is in the list if its name ends with an entry, or if an entry, taken as a pattern, fits the name from its start up to the end or
/// to a dot: `layers.1` fits `layers.1.mlp` and not `layers.11.mlp`. A dot in a pattern stands for any character. Patterns are those of
/// the crate `regex`, which are Python's but for look-around and references back.
///
/// # Example
///
/// ```
/// use llm_quant::files::FileError;
/// use llm_quant::files::quantize::SkipModules;
///
/// let entries = ["lm_head", r"model.layers.\d+.mlp"].map(str::to_owned);
/// let skip = SkipModules::new(Some(&entries))?;
/// assert!(skip.contains("lm_head") && skip.contains("model.layers.17.mlp.up_proj"));
/// assert!(!skip.contains("model.layers.17.self_attn.q_proj"));
/// // Without a list it is the head.
/// assert!(SkipModules::new(None)?.contains("lm_head"));
/// # Ok::<(), FileError>(())
/// ```
///
/// # References
///
/// transformers 5.23.0, `quantizers_utils.should_convert_module`; what is left without a list: `get_keys_to_not_convert`.
#[derive(Clone, Debug)]
pub struct SkipModules {
    entries: Vec<(String, PikeVM)>,
}

impl SkipModules {
    /// The modules of a list; without one, `lm_head`.
    ///
    /// # Errors
    ///
    /// [`FileError::SkipPattern`] if an entry is no pattern.
    pub fn new(entries: Option<&[String]>) -> Result<Self, FileError> {
        let head = [HEAD.to_owned()];
        let mut patterns = Vec::new();
        for entry in entries.unwrap_or(&head) {
            let pattern = PikeVM::builder()
                .configure(PikeVM::config().match_kind(MatchKind::All))
                .thompson(thompson::Config::new().nfa_size_limit(Some(PATTERN_LIMIT)))
                .build(entry)
                .map_err(|error| FileError::SkipPattern {
                    entry: entry.clone(),
                    message: cause(&error),
                })?;
            patterns.push((entry.clone(), pattern));
        }
        Ok(Self { entries: patterns })
    }

    /// Whether a module is in the list.
    #[must_use]
    pub fn contains(&self, module: &str) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|(entry, pattern)| module.ends_with(&entry[..]) || fits(pattern, module))
    }
}

/// What is wrong, without that something is.
fn cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(inner) => cause(inner),
        None => error.to_string(),
    }
}

/// Whether a pattern fits a name from its start to where a part of it starts or ends.
fn fits(pattern: &PikeVM, name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_end = |&end: &usize| {
        let is_start_of_part = end > 0 && bytes[end - 1] == b'.';
        end == bytes.len() || bytes[end] == b'.' || is_start_of_part
    };
    let mut cache = pattern.create_cache();
    // Of all matches up to there the longest one is found: only it can reach the end.
    (0..=bytes.len()).filter(is_end).any(|end| {
        let input = Input::new(name).span(0..end).anchored(Anchored::Yes);
        let found = pattern.find(&mut cache, input);
        found.is_some_and(|found| found.end() == end)
    })
}

/// Whether a tensor looks like the weight of a linear layer that transformers would quantize.
///
/// It is a matrix of `F32`, `F16` or `BF16` named `….weight`, no part of its name says that it embeds (as `relative_attention_bias` in T5 does), it is no
/// router (a module `gate`) and no expert (a part `experts` before a number), and it is in none of the modules that are skipped.
/// Routers and experts are no linear layers in transformers 5.23: it keeps experts in arrays of three axes. Names are all that a file has: what a class of transformers leaves
/// besides (as `wo` in T5, which stays in 32 bits) must be in the list, and where names are others (as `wte` in GPT-2, whose linear layers are transposed besides),
/// choose by a closure of your own.
///
/// # Example
///
/// ```
/// use llm_quant::files::quantize::{SkipModules, is_linear};
/// use llm_quant::files::{Dtype, FileError, TensorInfo};
///
/// let info = TensorInfo { dtype: Dtype::BF16, shape: vec![8, 4], data_offsets: (0, 64) };
/// let skip = SkipModules::new(None)?;
/// assert!(is_linear("model.layers.0.mlp.up_proj.weight", &info, &skip));
/// assert!(!is_linear("model.embed_tokens.weight", &info, &skip));
/// assert!(!is_linear("lm_head.weight", &info, &skip));
/// # Ok::<(), FileError>(())
/// ```
///
/// # References
///
/// transformers 5.23.0, `replace_with_bnb_linear`.
#[must_use]
pub fn is_linear(name: &str, info: &TensorInfo, skip: &SkipModules) -> bool {
    let Some(module) = name.strip_suffix(".weight") else {
        return false;
    };
    let embeds = |part: &str| {
        part.contains("embed")
            || matches!(part, "wte" | "wpe" | "shared" | "relative_attention_bias")
    };
    let parts: Vec<&str> = module.split('.').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|x| x.is_ascii_digit());
    let is_expert = { parts.windows(2) }.any(|two| two[0] == "experts" && is_number(two[1]));
    let is_router = parts.last() == Some(&"gate");
    info.shape.len() == 2
        && WeightType::from_dtype(info.dtype).is_some()
        && !is_router
        && !is_expert
        && !parts.into_iter().any(embeds)
        && !skip.contains(module)
}
