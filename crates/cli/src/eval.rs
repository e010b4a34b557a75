//! `llm-blocks eval`: a model solves problems that it never saw.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llm_blocks::tiny_model::data::Language;
use llm_blocks::tiny_model::exam::{self, Answered};
use serde_json::{Value, json};

use crate::args::Common;
use crate::failure::Failure;
use crate::models::ModelChoice;
use crate::output;

/// Arguments of the verb.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The language of the problems
    #[arg(long, value_enum, default_value_t = Languages::Both)]
    language: Languages,
    /// Problems in each language
    #[arg(
        short = 'n',
        long = "problems",
        value_name = "N",
        default_value_t = 1000,
        allow_negative_numbers = true
    )]
    n_problems: usize,
    /// Print up to K answers with a mistake in each language, those with a wrong result first
    #[arg(
        long,
        value_name = "K",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    failures: usize,
    /// chat, base, a safetensors file, or a folder with config.json and model.safetensors
    #[arg(long, value_name = "MODEL", default_value = "chat")]
    model: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Languages {
    Zh,
    En,
    Both,
}

impl Languages {
    const fn list(self) -> &'static [Language] {
        match self {
            Self::Zh => &[Language::Chinese],
            Self::En => &[Language::English],
            Self::Both => &[Language::Chinese, Language::English],
        }
    }
}

/// What came out in one language.
struct Outcome {
    language: &'static str,
    answered: Vec<Answered>,
    seconds: f64,
}

/// Runs the verb.
pub(crate) fn run(args: &EvalArgs, common: &Common) -> Result<(), Failure> {
    if args.n_problems == 0 {
        return Err(Failure::usage("-n must be at least 1, got 0"));
    }
    let choice = ModelChoice::from(args.model.clone());
    let model = choice.load()?;
    let mut outcomes = Vec::new();
    for &language in args.language.list() {
        let name = name(language);
        let bar = progress_bar(args.n_problems, name, common.quiet);
        let start = Instant::now();
        let answered = exam::take(&model, language, args.n_problems, |_| bar.inc(1))?;
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        outcomes.push(Outcome {
            language: name,
            answered,
            seconds,
        });
    }
    if common.json {
        let results: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
        let failures: Vec<Value> = outcomes
            .iter()
            .flat_map(|outcome| outcome.failures(args.failures).map(failure_json))
            .collect();
        return output::json(&json!({
            "model": choice.to_string(),
            "results": results,
            "failures": failures,
        }));
    }
    output::line("language  problems  final answer right  all steps right  seconds")?;
    for outcome in &outcomes {
        output::line(&outcome.to_row())?;
    }
    for outcome in &outcomes {
        for answered in outcome.failures(args.failures) {
            output::line(&failure_text(answered))?;
        }
    }
    Ok(())
}

impl Outcome {
    fn n_final_right(&self) -> usize {
        let right = |answered: &&Answered| answered.judgement.final_correct;
        self.answered.iter().filter(right).count()
    }

    fn n_steps_right(&self) -> usize {
        let right = |answered: &&Answered| answered.judgement.steps_correct;
        self.answered.iter().filter(right).count()
    }

    fn share(&self, right: usize) -> f64 {
        right as f64 / self.answered.len().max(1) as f64
    }

    fn to_row(&self) -> String {
        format!(
            "{:<8}  {:>8}  {:>16.1} %  {:>13.1} %  {:>7.1}",
            self.language,
            self.answered.len(),
            100.0 * self.share(self.n_final_right()),
            100.0 * self.share(self.n_steps_right()),
            self.seconds,
        )
    }

    fn to_json(&self) -> Value {
        let (final_right, steps_right) = (self.n_final_right(), self.n_steps_right());
        json!({
            "language": self.language,
            "problems": self.answered.len(),
            "final_answer_right": final_right,
            "final_answer_share": self.share(final_right),
            "all_steps_right": steps_right,
            "all_steps_share": self.share(steps_right),
            "seconds": self.seconds,
        })
    }

    /// The first `n` answers with a mistake: wrong results first, then wrong steps to a right result.
    fn failures(&self, n: usize) -> impl Iterator<Item = &Answered> {
        let wrong = self.answered.iter().filter(|a| !a.judgement.final_correct);
        let steps_wrong = self
            .answered
            .iter()
            .filter(|a| a.judgement.final_correct && !a.judgement.steps_correct);
        wrong.chain(steps_wrong).take(n)
    }
}

fn failure_text(answered: &Answered) -> String {
    let what = if answered.judgement.final_correct {
        "wrong steps"
    } else {
        "wrong result"
    };
    format!(
        "\n{what}, expected {:?}\n{}\n  {}",
        answered.problem.expected,
        answered.problem.question,
        answered.answer.replace('\n', "\n  "),
    )
}

fn failure_json(answered: &Answered) -> Value {
    json!({
        "question": answered.problem.question,
        "heads": answered.problem.heads,
        "feet": answered.problem.feet,
        "expected": format!("{:?}", answered.problem.expected),
        "answer": answered.answer,
        "final_answer_right": answered.judgement.final_correct,
        "all_steps_right": answered.judgement.steps_correct,
    })
}

const fn name(language: Language) -> &'static str {
    match language {
        Language::Chinese => "zh",
        Language::English => "en",
    }
}

fn progress_bar(n: usize, name: &'static str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(n as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.with_prefix(name)
}
