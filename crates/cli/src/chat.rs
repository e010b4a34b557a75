//! `llm-blocks chat`: one answer, or a conversation.

use std::io::{self, BufRead as _};
use std::path::PathBuf;

use clap::Args;
use llm_blocks::chat_format::Message;
use llm_blocks::tiny_model::{GenerateOptions, TinyModel};
use serde_json::json;

use crate::args::Common;
use crate::failure::Failure;
use crate::models::ModelChoice;
use crate::sampling::{Form, SamplingArgs};
use crate::{output, prompt, reply};

/// Arguments of the verb.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// What to answer; without it, standard input, or a conversation if that is a terminal
    prompt: Option<String>,
    /// A system message before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// chat, base, a safetensors file, or a folder with config.json and model.safetensors
    #[arg(long, value_name = "MODEL", default_value = "chat")]
    model: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the verb.
pub(crate) fn run(args: &ChatArgs, common: &Common) -> Result<(), Failure> {
    let options = args.sampling.options(common.seed, Form::Reply)?;
    let given = prompt::given(args.prompt.as_deref())?;
    let opening: Vec<Message> = args.system.iter().map(Message::system).collect();
    match given {
        Some(text) => once(&text, opening, &options, args, common),
        None if common.json => Err(Failure::usage("--json needs a prompt")
            .with_hint("give it as an argument in quotes, or on standard input")),
        None => converse(&opening, &options, args, common),
    }
}

fn once(
    text: &str,
    mut messages: Vec<Message>,
    options: &GenerateOptions,
    args: &ChatArgs,
    common: &Common,
) -> Result<(), Failure> {
    messages.push(Message::user(text));
    let prompt_ids = TinyModel::chat_prompt(&messages)?;
    let choice = ModelChoice::from(args.model.clone());
    let model = choice.load()?;
    let timed = reply::stream(common.json, |on_text| {
        model.chat(&messages, options, on_text)
    })?;
    if common.json {
        let mut object = timed.to_json();
        object["prompt"] = json!(text);
        object["system"] = json!(args.system);
        object["prompt_ids"] = json!(prompt_ids);
        object["model"] = json!(choice.to_string());
        object["seed"] = json!(common.seed);
        output::json(&object)?;
    } else {
        timed.remark(common.quiet);
    }
    timed.end()
}

fn converse(
    opening: &[Message],
    options: &GenerateOptions,
    args: &ChatArgs,
    common: &Common,
) -> Result<(), Failure> {
    // A system message that the model cannot read is better found now.
    if !opening.is_empty() {
        let probe = [opening, &[Message::user("?")]].concat();
        TinyModel::chat_prompt(&probe)?;
    }
    let model = ModelChoice::from(args.model.clone()).load()?;
    output::remark(
        "/reset forgets the conversation, /quit ends it.",
        common.quiet,
    );
    let mut messages = opening.to_vec();
    loop {
        output::text("> ")?;
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => return output::line(""), // Ctrl-D
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Failure::usage("the prompt must be UTF-8, got other bytes").say();
                continue;
            }
            Err(error) => {
                return Err(Failure::failed(format!("cannot read the prompt: {error}")));
            }
        }
        match line.trim() {
            "" => {}
            "/quit" => return Ok(()),
            "/reset" => messages = opening.to_vec(),
            command if command.starts_with('/') => {
                output::note(&format!(
                    "{command} is no command; there are /reset and /quit"
                ));
            }
            text => answer(text, &mut messages, &model, options, common)?,
        }
    }
}

/// One turn. A prompt that the model cannot take is refused and forgotten; the conversation goes on.
fn answer(
    text: &str,
    messages: &mut Vec<Message>,
    model: &TinyModel,
    options: &GenerateOptions,
    common: &Common,
) -> Result<(), Failure> {
    messages.push(Message::user(text));
    match reply::stream(false, |on_text| model.chat(messages, options, on_text)) {
        Ok(timed) => {
            timed.end()?;
            timed.remark(common.quiet);
            messages.push(Message::assistant(timed.reply.text));
            Ok(())
        }
        Err(failure @ Failure::Usage(_)) => {
            messages.pop();
            failure.say();
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}
