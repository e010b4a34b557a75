//! A processor of one's own forbids tokens: ten positive words in Chinese, with digits and 勇敢 (brave), and without.
//!
//! ```text
//! free:      1. 积极 2. 勇敢 3. 自信 4. 乐观 5. 自律 6. 善良 7. 真诚 8. 坚强 9. 热情 10. 宽容
//! forbidden: - 积极 - 自信 - 乐观 - 自律 - 善良 - 真诚 - 坚强 - 热情 - 宽容 - 感恩
//! ```
//!
//! The model numbers its list, and likes some words more than others. What is forbidden has no probability at all, so it takes the next best
//! thing: a dash in the place of a number, and another word.

use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::{Candidates, Context, Dialect, Processor, SamplingError};
use ndarray::Array2;

/// Ids: digits, what comes before a word, and words, those that the model likes most first.
const PIECES: [&str; 23] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", ". ", "- ", "积极 ", "勇敢 ", "自信 ",
    "乐观 ", "自律 ", "善良 ", "真诚 ", "坚强 ", "热情 ", "宽容 ", "感恩 ",
];
const DOT: u32 = 10;
const DASH: u32 = 11;
const FIRST_WORD: u32 = 12;
const BRAVE: u32 = 13;

// ANCHOR: processor
/// Never chooses one of these.
struct Forbidden(Vec<u32>);

impl Processor<f32> for Forbidden {
    fn apply(
        &self,
        candidates: &mut Candidates<f32>,
        _: &Context<'_>,
    ) -> Result<(), SamplingError> {
        for &token in &self.0 {
            if let Some(x) = candidates.get_mut(token) {
                *x = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}
// ANCHOR_END: processor

fn main() -> Result<(), SamplingError> {
    print!("{}", report()?);
    Ok(())
}

/// Both lists.
pub(crate) fn report() -> Result<String, SamplingError> {
    let digits_and_brave = (0..DOT).chain([BRAVE]).collect();
    let free = list(Forbidden(Vec::new()))?;
    let forbidden = list(Forbidden(digits_and_brave))?;
    Ok(format!("free:      {free}\nforbidden: {forbidden}\n"))
}

/// Ten words, by greedy decoding with a processor in the user's place.
fn list(forbidden: Forbidden) -> Result<String, SamplingError> {
    let mut chain = ChainConfig::new(Dialect::HuggingFace)
        .with(Setting::Greedy)
        .build_with(vec![("user", Box::new(forbidden))])?;
    let mut tokens = Vec::new();
    while n_words(&tokens) < 10 {
        let draws = chain.sample(&model(&tokens), &[Context::new(&[], &tokens)])?;
        tokens.push(draws[0].token);
    }
    let text: String = tokens.iter().map(|&token| PIECES[token as usize]).collect();
    Ok(text.trim_end().to_owned())
}

fn n_words(tokens: &[u32]) -> usize {
    tokens.iter().filter(|&&t| t >= FIRST_WORD).count()
}

/// Logits after these tokens: a number and a dot, or a dash, then a word that was not there.
fn model(tokens: &[u32]) -> Array2<f32> {
    let number = n_words(tokens) as u32 + 1;
    let first_digit = if number < 10 { number } else { 1 };
    let last = tokens.last().copied();
    let begins = last.is_none_or(|last| last >= FIRST_WORD);
    let in_number = last.is_some_and(|last| last < DOT);
    let after_mark = last == Some(DOT) || last == Some(DASH);
    let logit = |token: u32| {
        if (begins && token == first_digit) || (last == Some(1) && number == 10 && token == 0) {
            3.0
        } else if (begins && token == DASH) || (in_number && token == DOT) {
            2.0
        } else if after_mark && token >= FIRST_WORD && !tokens.contains(&token) {
            4.0 - 0.1 * token as f32
        } else {
            -9.0
        }
    };
    Array2::from_shape_fn([1, PIECES.len()], |(_, token)| logit(token as u32))
}
