//! Quantized tokens by the textbook, in `f64`; only steps and least values are rounded to what is stored.

use std::sync::OnceLock;

use half::f16;

/// A token of 8-bit integers: `scale * round(x / scale)`, `scale = max |x| / n` in `f32`, with the `n` from 123.5 to 127.5
/// that has the least square error.
#[must_use]
pub fn int8(x: &[f64]) -> Vec<f64> {
    let most = x.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let token = |half: u32| -> Vec<f64> {
        let scale = f64::from((most / (f64::from(half) / 2.0)) as f32);
        let code = |x: &f64| (x / scale).round_ties_even().clamp(-127.0, 127.0);
        x.iter()
            .map(|x| if scale == 0.0 { 0.0 } else { scale * code(x) })
            .collect()
    };
    let error =
        |token: &Vec<f64>| -> f64 { token.iter().zip(x).map(|(a, b)| (a - b) * (a - b)).sum() };
    let all = (247..=255).map(token);
    all.min_by(|a, b| error(a).total_cmp(&error(b)))
        .unwrap_or_default()
}

/// The step and the least value of a group, as `f16`, for codes of so many bits.
#[must_use]
pub fn step(x: &[f64], bits: u32) -> (f64, f64) {
    if x.is_empty() {
        return (0.0, 0.0);
    }
    let all = all_f16();
    let least = x.iter().copied().fold(f64::INFINITY, f64::min);
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = all.iter().copied().rfind(|&y| y <= least);
    let min = min.unwrap_or(f64::NEG_INFINITY);
    let exact = (most - min) / f64::from((1_u32 << bits) - 1);
    let scale = all.iter().copied().find(|&y| y >= exact);
    (scale.unwrap_or(f64::INFINITY), min)
}

// ANCHOR: affine
/// A group of numbers with a step and a least value: `min + scale * round((x - min) / scale)`.
#[must_use]
pub fn affine(x: &[f64], bits: u32) -> Vec<f64> {
    let (scale, min) = step(x, bits);
    let value = |x: &f64| {
        if scale == 0.0 {
            min
        } else {
            min + scale * ((x - min) / scale).round_ties_even()
        }
    };
    x.iter().map(value).collect()
}
// ANCHOR_END: affine

/// All finite `f16`, rising.
fn all_f16() -> &'static [f64] {
    static ALL: OnceLock<Vec<f64>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all = (0..=u16::MAX).map(f16::from_bits);
        let mut all: Vec<f64> = all.filter(|x| x.is_finite()).map(f64::from).collect();
        all.sort_by(f64::total_cmp);
        all
    })
}

/// One sequence of KIVI: numbers that are replaced by what they become when they are quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct KiviTokens {
    /// `[tokens][channels of all heads]`
    pub keys: Vec<Vec<f64>>,
    /// `[tokens][kv_heads][value_dim]`
    pub values: Vec<Vec<Vec<f64>>>,
    /// Leading tokens whose keys are quantized.
    pub quantized_keys: usize,
    /// Leading tokens whose values are quantized.
    pub quantized_values: usize,
    /// Bits, group and residual length.
    pub settings: (u32, usize, usize),
}

impl KiviTokens {
    /// An empty sequence.
    #[must_use]
    pub fn new(bits: u32, group: usize, residual: usize) -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            quantized_keys: 0,
            quantized_values: 0,
            settings: (bits, group, residual),
        }
    }

    /// One token more, and what is complete by it is quantized.
    pub fn push(&mut self, key: Vec<f64>, value: Vec<Vec<f64>>) {
        let (bits, group, residual) = self.settings;
        self.keys.push(key);
        self.values.push(value);
        let block = residual.max(group);
        if self.keys.len() - self.quantized_keys >= block {
            for start in (self.quantized_keys..self.quantized_keys + block).step_by(group) {
                for channel in 0..self.keys[start].len() {
                    let numbers: Vec<f64> = (start..start + group)
                        .map(|token| self.keys[token][channel])
                        .collect();
                    for (i, x) in affine(&numbers, bits).into_iter().enumerate() {
                        self.keys[start + i][channel] = x;
                    }
                }
            }
            self.quantized_keys += block;
        }
        while self.values.len() - self.quantized_values > residual {
            for head in &mut self.values[self.quantized_values] {
                *head = head.chunks(group).flat_map(|x| affine(x, bits)).collect();
            }
            self.quantized_values += 1;
        }
    }

    /// Keeps the first `len` tokens; false if there are fewer.
    pub fn crop(&mut self, len: usize) -> bool {
        if len > self.keys.len() {
            return false;
        }
        self.keys.truncate(len);
        self.values.truncate(len);
        if len < self.quantized_keys {
            self.quantized_keys = len / self.settings.1 * self.settings.1;
        }
        self.quantized_values = self.quantized_values.min(len);
        true
    }
}
