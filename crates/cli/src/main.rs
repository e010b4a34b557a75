#![doc = include_str!("../README.md")]

mod args;
mod chat;
mod devices;
mod eval;
mod failure;
mod generate;
mod interrupt;
mod models;
mod output;
mod plot;
mod prompt;
mod quantize;
mod reply;
mod sampling;
mod tour;

use std::process::ExitCode;

use args::{Cli, Verb};
use clap::Parser as _;
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    interrupt::listen()?;
    cli.common.start_threads()?;
    match &cli.verb {
        None => tour::run(&cli.common),
        Some(Verb::Chat(args)) => chat::run(args, &cli.common),
        Some(Verb::Generate(args)) => generate::run(args, &cli.common),
        Some(Verb::Eval(args)) => eval::run(args, &cli.common),
        Some(Verb::Plot(args)) => plot::run(args, &cli.common),
        Some(Verb::Quantize(args)) => quantize::run(args, &cli.common),
        Some(Verb::Devices) => devices::run(&cli.common),
    }
}
