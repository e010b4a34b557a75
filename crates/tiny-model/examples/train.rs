//! Trains the model from nothing, or goes on with a run that was interrupted.
//!
//! `cargo xtask tiny-model train [--steps N] [--out DIR] [--resume]`

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use llm_decoder::checkpoint::{self, WeightType, write_whole};
use llm_tiny_model::recipe::Recipe;
use llm_tiny_model::train::{StepReport, Trainer};
use plotters::prelude::*;

/// Trains the tiny model: pre-training, then fine-tuning on dialogues.
#[derive(Parser)]
struct Args {
    /// Steps of both stages together; the recipe's number if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..))]
    steps: Option<u64>,
    /// Seed of the data and the first weights; the recipe's if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the run is kept.
    #[arg(long, default_value = "runs/tiny-model")]
    out: PathBuf,
    /// Go on with the run in that folder.
    #[arg(long)]
    resume: bool,
    /// Steps between two savings.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..))]
    save_every: u64,
    /// Threads; as many as the machine has if not given. They do not change the result.
    #[arg(long)]
    threads: Option<usize>,
    /// Stop after this many seconds, at a saved step.
    #[arg(long)]
    seconds: Option<u64>,
    /// Copy the finished base and chat model into the crate.
    #[arg(long)]
    install: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if let Some(n_threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build_global()?;
    }
    let mut recipe = Recipe::standard();
    if let Some(steps) = args.steps {
        recipe = recipe.with_steps(steps);
    }
    if let Some(seed) = args.seed {
        recipe.seed = seed;
    }
    let state = args.out.join("state.safetensors");
    let mut trainer = match (args.resume, state.exists()) {
        (true, _) => Trainer::resume(&state, recipe)?,
        (false, false) => Trainer::new(recipe)?,
        (false, true) => {
            let folder = args.out.display();
            return Err(format!("{folder} holds a run: give --resume, or another --out").into());
        }
    };
    let n_params = trainer.recipe().config.n_params();
    let n_steps = trainer.recipe().n_steps();
    println!(
        "{n_params} parameters, {n_steps} steps, in {}",
        args.out.display()
    );

    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst))?;

    let mut curve = Curve::open(&args.out.join("loss.csv"), trainer.n_done())?;
    let bar = ProgressBar::new(n_steps).with_position(trainer.n_done());
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} {elapsed} (left: {eta}) {msg}",
    )?);
    let start = Instant::now();
    let limit = args.seconds.map(Duration::from_secs);
    let base_ends = trainer.recipe().stages[0].n_steps;
    let base = args.out.join("base.safetensors");
    if trainer.n_done() >= base_ends && !base.exists() {
        return Err(format!("{} is missing: start anew", base.display()).into());
    }
    if args.install && *trainer.recipe() != Recipe::standard() {
        return Err("only a run of the whole recipe can be installed".into());
    }
    while let Some(report) = trainer.step()? {
        curve.add(&report, start.elapsed());
        bar.set_position(trainer.n_done());
        bar.set_message(format!("{} loss {:.4}", report.kind.name(), curve.recent()));
        let n_done = trainer.n_done();
        if n_done == base_ends {
            write_model(&trainer, &base)?;
        }
        let interrupted =
            stop.load(Ordering::SeqCst) || limit.is_some_and(|limit| start.elapsed() > limit);
        if n_done.is_multiple_of(args.save_every) || n_done == n_steps || interrupted {
            // The curve first: steps beyond the saved state are left out when it is read.
            curve.write()?;
            trainer.save(&state)?;
        }
        if n_done.is_multiple_of(100) && bar.is_hidden() {
            let seconds = start.elapsed().as_secs();
            println!("{n_done}/{n_steps} loss {:.4} {seconds} s", curve.recent());
        }
        if interrupted && n_done < n_steps {
            bar.abandon();
            println!("interrupted after {n_done} steps; go on with --resume");
            return Ok(());
        }
    }
    bar.finish();
    write_model(&trainer, &args.out.join("chat.safetensors"))?;
    draw(&curve, base_ends, &args.out.join("loss.svg"))?;
    println!("loss curve: {}", args.out.join("loss.svg").display());
    if args.install {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        for name in [
            "base.safetensors",
            "chat.safetensors",
            "loss.csv",
            "loss.svg",
        ] {
            write_whole(&data.join(name), &fs::read(args.out.join(name))?)?;
        }
        println!("installed in {}", data.display());
    }
    Ok(())
}

/// The weights in f16, as they are embedded.
fn write_model(trainer: &Trainer, path: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = checkpoint::to_bytes(trainer.model(), WeightType::F16)?;
    Ok(write_whole(path, &bytes)?)
}

/// The loss of every step, kept as a CSV file.
struct Curve {
    path: PathBuf,
    text: String,
    losses: Vec<f64>,
    seconds_before: f64,
}

const HEADER: &str = "step,stage,loss,grad_norm,learning_rate,tokens,seconds\n";

impl Curve {
    /// Reads back what belongs to the steps that were saved.
    fn open(path: &Path, n_done: u64) -> Result<Self, Box<dyn Error>> {
        let mut curve = Self {
            path: path.to_owned(),
            text: HEADER.to_owned(),
            losses: Vec::new(),
            seconds_before: 0.0,
        };
        if n_done == 0 {
            return Ok(curve);
        }
        let name = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        for line in text.lines().skip(1).take(n_done as usize) {
            let fields: Vec<&str> = line.split(',').collect();
            let [step, _, loss, .., seconds] = fields[..] else {
                return Err(format!("{name}: damaged line {line}").into());
            };
            if step.parse() != Ok(curve.losses.len()) {
                return Err(format!("{name}: step {} is missing", curve.losses.len()).into());
            }
            curve.losses.push(loss.parse()?);
            curve.seconds_before = seconds.parse()?;
            curve.text.push_str(line);
            curve.text.push('\n');
        }
        if curve.losses.len() as u64 != n_done {
            let got = curve.losses.len();
            return Err(format!("{name} must have {n_done} steps, got {got}").into());
        }
        Ok(curve)
    }

    fn add(&mut self, report: &StepReport, elapsed: Duration) {
        self.losses.push(report.loss);
        let StepReport {
            step,
            kind,
            loss,
            grad_norm,
            learning_rate,
            n_tokens,
        } = report;
        let seconds = self.seconds_before + elapsed.as_secs_f64();
        let name = kind.name();
        let _ = writeln!(
            self.text,
            "{step},{name},{loss:.5},{grad_norm:.4},{learning_rate:.3e},{n_tokens},{seconds:.1}"
        );
    }

    /// The mean of the last 50 steps.
    fn recent(&self) -> f64 {
        let last = &self.losses[self.losses.len().saturating_sub(50)..];
        last.iter().sum::<f64>() / last.len().max(1) as f64
    }

    fn write(&self) -> Result<(), Box<dyn Error>> {
        Ok(write_whole(&self.path, self.text.as_bytes())?)
    }
}

/// The loss curve, averaged over 50 steps, on a logarithmic axis.
fn draw(curve: &Curve, base_ends: u64, path: &Path) -> Result<(), Box<dyn Error>> {
    let width = 50.min(curve.losses.len());
    let points: Vec<(f64, f64)> = curve
        .losses
        .windows(width)
        .enumerate()
        .map(|(i, window)| {
            (
                (i + width) as f64,
                window.iter().sum::<f64>() / width as f64,
            )
        })
        .collect();
    let low = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min) * 0.9;
    let high = points.iter().map(|p| p.1).fold(0.0, f64::max) * 1.1;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (720, 400)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(24)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..curve.losses.len() as f64, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("step")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|loss| format!("{loss}"))
            .y_desc("loss, nats per token (mean of 50 steps)")
            .draw()?;
        let blue = RGBColor(0x19, 0x3e, 0x8f);
        chart.draw_series(LineSeries::new(points, blue.stroke_width(2)))?;
        let border = [(base_ends as f64, low), (base_ends as f64, high)];
        chart.draw_series(LineSeries::new(border, BLACK.mix(0.4)))?;
        let style = ("sans-serif", 14).into_text_style(&area);
        for (step, name) in [(0, "pre-training"), (base_ends, "fine-tuning")] {
            let at = (step as f64 + 0.01 * curve.losses.len() as f64, high * 0.95);
            chart.draw_series([Text::new(name, at, style.clone())])?;
        }
        area.present()?;
    }
    Ok(write_whole(path, svg.as_bytes())?)
}
