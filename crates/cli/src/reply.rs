//! A generation with its text streamed, and what is told of it.

use core::ops::ControlFlow;
use std::io;
use std::time::{Duration, Instant};

use llm_blocks::sampling::generate::StopReason;
use llm_blocks::tiny_model::{Reply, TinyModelError};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::interrupt::{self, Stoppable};
use crate::output;

/// A reply and how long it took.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) reply: Reply,
    total: Duration,
    until_first_text: Option<Duration>,
}

/// Runs a generation. Its text goes to standard output piece by piece, unless `silent`.
///
/// `generate` gets the callback that takes the pieces. Ctrl-C ends it early, without an error.
pub(crate) fn stream(
    silent: bool,
    generate: impl FnOnce(&mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Reply, TinyModelError>,
) -> Result<Timed, Failure> {
    let generating = Stoppable::start();
    let start = Instant::now();
    let mut until_first_text = None;
    let mut streamed = 0;
    let mut written: io::Result<()> = Ok(());
    let reply = generate(&mut |piece| {
        until_first_text.get_or_insert_with(|| start.elapsed());
        if !silent {
            streamed += piece.len();
            written = output::text(piece);
            if written.is_err() {
                return ControlFlow::Break(());
            }
        }
        interrupt::flow()
    })?;
    let total = start.elapsed();
    drop(generating);
    written?;
    if !silent {
        // A turn without its line of metadata is not streamed.
        let rest = reply.text.get(streamed..).unwrap_or_default();
        output::text(rest)?;
        output::text("\n")?;
    }
    Ok(Timed {
        reply,
        total,
        until_first_text,
    })
}

impl Timed {
    /// New tokens by the second, prefill included.
    fn tokens_per_second(&self) -> f64 {
        self.reply.tokens.len() as f64 / self.total.as_secs_f64().max(1e-9)
    }

    /// One line on how it went, for a person.
    pub(crate) fn remark(&self, quiet: bool) {
        let reply = &self.reply;
        let end = match reply.stop {
            StopReason::MaxNewTokens => "; stopped for length",
            StopReason::Callback => "; interrupted",
            _ => "",
        };
        let line = format!(
            "[{} prompt tokens, {} new tokens in {:.2} s, {:.0} tokens/s{end}]",
            reply.n_prompt_tokens,
            reply.tokens.len(),
            self.total.as_secs_f64(),
            self.tokens_per_second(),
        );
        output::remark(&line, quiet);
    }

    /// Everything, for a program.
    pub(crate) fn to_json(&self) -> Value {
        let reply = &self.reply;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let stop = match reply.stop {
            StopReason::StopToken(_) => "stop_token",
            StopReason::MaxNewTokens => "max_new_tokens",
            StopReason::Callback => "interrupted",
            _ => "other",
        };
        json!({
            "reply": reply.text,
            "tokens": reply.tokens,
            "log_probabilities": reply.log_probabilities,
            "n_prompt_tokens": reply.n_prompt_tokens,
            "n_new_tokens": reply.tokens.len(),
            "stop": stop,
            "timings": {
                "first_text_ms": self.until_first_text.map(milliseconds),
                "total_ms": milliseconds(self.total),
                "tokens_per_second": self.tokens_per_second(),
            },
        })
    }

    /// Interrupted or not.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        if interrupt::asked() {
            return Err(Failure::Interrupted);
        }
        Ok(())
    }
}
