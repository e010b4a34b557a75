//! `cargo xtask tiny-model`: trains or evaluates the embedded model, always optimized.

use anyhow::Result;
use clap::ValueEnum;

use crate::{cargo, command};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do with the model
    #[arg(value_enum)]
    action: Action,
    /// Arguments for the program behind the action; `-- --help` shows them
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) args: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Makes the model from nothing, or resumes (example `train` of `llm-tiny-model`)
    Train,
    /// Prints the share of right answers on held-out problems (the program's verb `eval`)
    Eval,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut command = command::cargo(&cargo::root());
    command.args(["run", "--release"]);
    match args.action {
        Action::Train => command.args(["-p", "llm-tiny-model", "--example", "train", "--"]),
        Action::Eval => command.args(["-p", "llm-blocks-cli", "--", "eval"]),
    };
    // `xtask tiny-model train -- --help` and without the dashes mean the same.
    let args = match args.args.first() {
        Some(first) if first == "--" => &args.args[1..],
        _ => &args.args[..],
    };
    command::run(command.args(args))
}
