//! `llm-blocks generate`: a text is continued.

use std::path::PathBuf;

use clap::Args;
use llm_blocks::tiny_model::TinyModel;
use serde_json::json;

use crate::args::Common;
use crate::failure::Failure;
use crate::models::ModelChoice;
use crate::sampling::{Form, SamplingArgs};
use crate::{output, prompt, reply};

/// Arguments of the verb.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The text to continue; from standard input if it is not given
    prompt: Option<String>,
    /// chat, base, a safetensors file, or a folder with config.json and model.safetensors
    #[arg(long, value_name = "MODEL", default_value = "base")]
    model: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the verb.
pub(crate) fn run(args: &GenerateArgs, common: &Common) -> Result<(), Failure> {
    let options = args.sampling.options(common.seed, Form::Text)?;
    let Some(text) = prompt::given(args.prompt.as_deref())? else {
        return Err(Failure::usage("generate needs a text to continue")
            .with_hint("give it as an argument in quotes, or on standard input"));
    };
    let prompt_ids = TinyModel::text_prompt(&text)?;
    let choice = ModelChoice::from(args.model.clone());
    let model = choice.load()?;
    let timed = reply::stream(common.json, |on_text| {
        model.generate(&text, &options, on_text)
    })?;
    if common.json {
        let mut object = timed.to_json();
        object["prompt"] = json!(text);
        object["prompt_ids"] = json!(prompt_ids);
        object["model"] = json!(choice.to_string());
        object["seed"] = json!(common.seed);
        output::json(&object)?;
    } else {
        timed.remark(common.quiet);
    }
    timed.end()
}
