//! The tour: each block in a line or two, with numbers that the crates compute on the spot, then an answer.

mod gpu;
mod measure;

use llm_blocks::chat_format::Message;
use llm_blocks::tiny_model::{GenerateOptions, TinyModel};
use serde_json::json;

use crate::args::Common;
use crate::failure::Failure;
use crate::models::ModelChoice;
use crate::{devices, output, reply};
use gpu::OnGpu;
use measure::{Measured, measure};

/// The article's question. The model never saw these numbers in training.
const QUESTION: &str = "现有鸡兔22只,共有48只脚,请问鸡比兔多了几只?";

/// Runs the tour.
pub(crate) fn run(common: &Common) -> Result<(), Failure> {
    let model = ModelChoice::Chat.load()?;
    let messages = [Message::user(QUESTION)];
    let measured = measure(&model, &messages, common.seed)?;
    let on_gpu = OnGpu::measure(&model.decoder().config().rope(), common.seed);
    let options = GenerateOptions::greedy();
    if common.json {
        let timed = reply::stream(true, |on_text| model.chat(&messages, &options, on_text))?;
        output::json(&json!({
            "prompt": QUESTION,
            "blocks": measured.to_json(),
            "gpu": on_gpu.to_json(),
            "answer": timed.to_json(),
        }))?;
        return timed.end();
    }
    for line in lines(&model, &measured) {
        output::line(&line)?;
    }
    output::line(&format!("{:<12} {}", "GPU", on_gpu.line()))?;
    output::line("")?;
    output::line(QUESTION)?;
    let timed = reply::stream(false, |on_text| model.chat(&messages, &options, on_text))?;
    timed.end()?;
    if !common.quiet {
        let program = program();
        output::line("")?;
        output::line(&format!("Next: {program} chat     ask it yourself"))?;
        output::line(&format!(
            "      {program} eval     see how often it is right"
        ))?;
        output::line(&format!("      {program} --help   see what else there is"))?;
    }
    Ok(())
}

/// What the caller typed to get here.
fn program() -> &'static str {
    if std::env::var_os("CARGO").is_some() {
        "cargo run --release --"
    } else {
        "llm-blocks"
    }
}

/// The tour as text.
fn lines(model: &TinyModel, m: &Measured) -> Vec<String> {
    let config = model.decoder().config();
    let (n_heads, n_kv_heads, head_dim) = (config.n_heads, config.n_kv_heads, config.head_dim);
    let n_tokens = m.ids.len();
    let mut lines = vec![
        format!(
            "llm-blocks {}: a language model from its building blocks, on {} threads with {}",
            env!("CARGO_PKG_VERSION"),
            rayon::current_num_threads(),
            devices::list(&devices::simd()),
        ),
        String::new(),
    ];
    let mut block = |name: &str, text: String| lines.push(format!("{name:<12} {text}"));
    block(
        "chat format",
        format!("{n_tokens} tokens: {}", shortened(&m.tokens, 9, 4)),
    );
    block("", format!("as ids: {}", shortened(&m.ids, 12, 4)));
    block(
        "model",
        format!(
            "{} weights: {} tokens of {} features, {} blocks",
            grouped(config.n_params() as u64),
            config.vocab,
            config.d_model,
            config.n_layers,
        ),
    );
    block(
        "RoPE",
        format!(
            "{} of {head_dim} features of a head turn in {} planes; at position {}:",
            config.rotary_dim,
            m.planes.len(),
            m.position,
        ),
    );
    let ends = [0, m.planes.len().saturating_sub(1)];
    let turned = ends.iter().filter_map(|&i| Some((i, m.planes.get(i)?)));
    let turned = turned.map(|(i, p)| {
        let [x, y] = p.turned;
        format!(
            "plane {i} by {:.4} rad: (1, 0) -> ({x:.3}, {y:.3})",
            p.angle
        )
    });
    block("", turned.collect::<Vec<_>>().join("; "));
    block(
        "attention",
        format!(
            "{n_heads} query heads share {n_kv_heads} key-value heads; in the first block's first head the last token sees"
        ),
    );
    let looks = m.looks_at.iter().map(|l| {
        format!(
            "'{}' at {} with {:.3}",
            visible(&l.token),
            l.position,
            l.weight
        )
    });
    block("", looks.collect::<Vec<_>>().join(", "));
    block(
        "KV cache",
        format!(
            "{} bytes a token, {} for a context of {}; without shared heads {} times as much",
            grouped(m.cache_bytes_per_token),
            grouped(m.cache_bytes_total),
            config.context,
            config.queries_per_kv(),
        ),
    );
    block(
        "SwiGLU",
        format!(
            "{} -> 2 x {} -> {}; in the first block {} of the last token's {} gates are open",
            config.d_model, config.d_ff, config.d_model, m.open_gates, config.d_ff,
        ),
    );
    let likeliest = m
        .likeliest
        .iter()
        .map(|c| format!("'{}' {:.3} %", visible(&c.token), 100.0 * c.probability));
    block(
        "sampling",
        format!(
            "the answer begins with {}",
            likeliest.collect::<Vec<_>>().join(", ")
        ),
    );
    block(
        "",
        format!(
            "greedy takes '{}'; temperature 1 with top-p 0.9 and seed {} draws '{}'",
            visible(&m.greedy),
            m.seed,
            visible(&m.drawn),
        ),
    );
    block(
        "speed",
        format!(
            "prefill {n_tokens} tokens in {:.2} ms; decode {:.0} tokens/s",
            m.prefill_ms, m.decode_tokens_per_second,
        ),
    );
    lines
}

/// The first and the last of a list.
fn shortened<T: ToString>(all: &[T], first: usize, last: usize) -> String {
    let words: Vec<String> = all.iter().map(|x| visible(&x.to_string())).collect();
    if words.len() <= first + last {
        return words.join(" ");
    }
    let (head, tail) = (&words[..first], &words[words.len() - last..]);
    format!("{} .. {}", head.join(" "), tail.join(" "))
}

/// White space as a mark that one can see.
fn visible(token: &str) -> String {
    token.replace('\n', "⏎").replace(' ', "␣")
}

/// Digits in groups of three.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
