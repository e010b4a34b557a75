//! What came out, as a table and as JSON.

use llm_blocks::quant::files::quantize::{CheckpointConfig, Method, Summary};
use llm_blocks::quant::four_bit::{FourBitCode, NonFinite};
use serde_json::{Value, json};

/// A checkpoint that was written.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) summary: Summary,
    pub(super) config: &'a CheckpointConfig,
    pub(super) seconds: f64,
}

impl Outcome<'_> {
    /// Bits a number, of the weights that were quantized and of the whole checkpoint; none where there are no numbers.
    fn bits(&self) -> [Option<f64>; 2] {
        let s = &self.summary;
        [(s.weights_after, s.n_weights), (s.after, s.n_parameters)]
            .map(|(bytes, n)| (n > 0).then(|| 8.0 * bytes as f64 / n as f64))
    }

    pub(super) fn to_lines(&self) -> Vec<String> {
        let s = &self.summary;
        let row = |name: &str, n: usize, before: u64, after: u64| {
            format!("{name:<9}  {n:>7}  {before:>15}  {after:>15}")
        };
        let mut lines = vec![
            format!(
                "{:<9}  {:>7}  {:>15}  {:>15}",
                "", "tensors", "bytes before", "bytes after"
            ),
            row(
                "quantized",
                s.n_quantized,
                s.weights_before,
                s.weights_after,
            ),
            row(
                "kept",
                s.n_copied,
                s.before - s.weights_before,
                s.after - s.weights_after,
            ),
            row("all", s.n_quantized + s.n_copied, s.before, s.after),
        ];
        let [weights, all] = self.bits();
        if let Some(bits) = weights {
            lines.push(format!("bits a quantized weight     {bits:>8.3}"));
        }
        if let Some(bits) = all {
            lines.push(format!("bits a parameter            {bits:>8.3}"));
        }
        if let Some(errors) = s.errors.filter(|errors| errors.n > 0) {
            let decibels = errors.signal_to_noise;
            lines.push(format!("signal to noise, in dB      {decibels:>8.2}"));
        }
        lines.push(format!("seconds                     {:>8.1}", self.seconds));
        lines
    }

    pub(super) fn to_json(&self) -> Value {
        let s = &self.summary;
        let [weights, all] = self.bits();
        // Numbers that JSON does not have become null.
        let errors = s.errors.filter(|errors| errors.n > 0).map(|errors| {
            json!({
                "signal_to_noise_db": errors.signal_to_noise,
                "mean_square": errors.mean_square,
                "max": errors.max,
            })
        });
        let mut object = json!({
            "compute_dtype": self.config.compute_type.name(),
            "skip": self.config.skip_modules,
            "tensors": { "quantized": s.n_quantized, "kept": s.n_copied },
            "bytes": { "before": s.before, "after": s.after },
            "quantized_bytes": { "before": s.weights_before, "after": s.weights_after },
            "quantized_weights": s.n_weights,
            "parameters": s.n_parameters,
            "bits_per_quantized_weight": weights,
            "bits_per_parameter": all,
            "errors": errors,
            "seconds": self.seconds,
        });
        let policy = |policy| match policy {
            NonFinite::PoisonBlock => "poison",
            _ => "error",
        };
        match self.config.method {
            Method::FourBit {
                config,
                nested,
                stored_as,
            } => {
                object["format"] = match config.code {
                    FourBitCode::Fp4 => "fp4".into(),
                    _ => "nf4".into(),
                };
                object["block_size"] = config.block.into();
                object["double"] = nested.is_some().into();
                object["storage"] = stored_as.name().into();
                object["nonfinite"] = policy(config.non_finite).into();
            }
            Method::EightBit {
                threshold,
                non_finite,
            } => {
                object["format"] = "int8".into();
                object["threshold"] = threshold.into();
                object["nonfinite"] = policy(non_finite).into();
            }
            _ => {}
        }
        object
    }
}
