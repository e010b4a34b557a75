//! Which model: one of the embedded ones, or a file.

use std::fmt;
use std::path::{Path, PathBuf};

use llm_blocks::tiny_model::TinyModel;

use crate::failure::Failure;

/// The value of `--model`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelChoice {
    /// After both stages of the training.
    Chat,
    /// After the first stage.
    Base,
    /// A safetensors file, or a folder with `config.json` and `model.safetensors`.
    Path(PathBuf),
}

impl From<PathBuf> for ModelChoice {
    fn from(path: PathBuf) -> Self {
        if path == Path::new("chat") {
            Self::Chat
        } else if path == Path::new("base") {
            Self::Base
        } else {
            Self::Path(path)
        }
    }
}

impl fmt::Display for ModelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chat => f.write_str("chat"),
            Self::Base => f.write_str("base"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl ModelChoice {
    /// Reads the weights.
    pub(crate) fn load(&self) -> Result<TinyModel, Failure> {
        match self {
            Self::Chat => TinyModel::chat_model(),
            Self::Base => TinyModel::base_model(),
            Self::Path(path) => TinyModel::load(path),
        }
        .map_err(|error| {
            let hint = match self {
                Self::Chat | Self::Base => "the program was built with damaged weights",
                Self::Path(_) => {
                    "--model takes chat, base, a safetensors file of the embedded model's sizes, \
                     or a folder with config.json and model.safetensors"
                }
            };
            Failure::failed(error.to_string())
                .about(&format!("cannot load the model {self}"))
                .with_hint(hint)
        })
    }
}
