//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::{chat, eval, generate, plot, quantize};

/// More threads than this are a slip of the finger.
const MAX_THREADS: usize = 1024;

/// A small language model, put together from its building blocks.
///
/// Without a verb: a short tour of the blocks with real numbers.
#[derive(Debug, Parser)]
#[command(name = "llm-blocks", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Answers a prompt, or holds a conversation
    Chat(chat::ChatArgs),
    /// Continues a text
    Generate(generate::GenerateArgs),
    /// Lets a model solve problems that it never saw, and counts
    Eval(eval::EvalArgs),
    /// Draws a figure of the book as SVG or PNG
    Plot(plot::PlotArgs),
    /// Writes a checkpoint in four or eight bits, as bitsandbytes does
    Quantize(quantize::QuantizeArgs),
    /// Shows what the program computes with
    Devices,
}

/// Options of all verbs.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Key of the random draws
    #[arg(
        long,
        global = true,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub(crate) seed: u64,
    /// Worker threads, as many as the machine has unless set; results do not depend on it
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but the result
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
}

impl Common {
    /// Makes the threads that all crates work with.
    pub(crate) fn start_threads(&self) -> Result<(), Failure> {
        let Some(n) = self.threads else {
            return Ok(());
        };
        if !(1..=MAX_THREADS).contains(&n) {
            let message = format!("--threads must be in 1..={MAX_THREADS}, got {n}");
            return Err(Failure::usage(message).with_hint("leave it out to use all processors"));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build_global()
            .map_err(|error| Failure::failed(format!("cannot start {n} threads: {error}")))
    }
}
