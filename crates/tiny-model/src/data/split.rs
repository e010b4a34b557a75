//! Which chicken-and-rabbit problems are kept out of training.

use std::sync::LazyLock;

use super::draw::Draws;

/// The most heads a generated problem has.
pub const MAX_HEADS: u32 = 99;

/// How many (heads, feet) pairs are kept out of training.
pub const HELD_OUT: usize = 1_000;

/// The numbers of the article's own question, kept out of training as well.
pub const ARTICLE_PAIR: (u32, u32) = (22, 48);

/// Key of the draw that chooses the held-out pairs; it does not depend on the seed of the data set.
const SPLIT_KEY: u64 = 0x6865_6c64_5f6f_7574;

static SPLIT: LazyLock<Split> = LazyLock::new(Split::new);

struct Split {
    held_out: Vec<(u32, u32)>,
    training: Vec<(u32, u32)>,
}

impl Split {
    fn new() -> Self {
        let mut pairs: Vec<(u32, u32)> = (1..=MAX_HEADS)
            .flat_map(|heads| (0..=heads).map(move |rabbits| (heads, 2 * heads + 2 * rabbits)))
            .collect();
        Draws::new(SPLIT_KEY, 0).shuffle(&mut pairs);
        let mut training = pairs.split_off(HELD_OUT);
        training.retain(|&pair| pair != ARTICLE_PAIR);
        training.sort_unstable();
        pairs.sort_unstable();
        Self {
            held_out: pairs,
            training,
        }
    }
}

/// The pairs (heads, feet) that no training example uses, in ascending order.
///
/// They are [`HELD_OUT`] of the 5,049 pairs with 1 to [`MAX_HEADS`] heads, chosen by a fixed draw.
///
/// ```
/// use llm_tiny_model::data;
///
/// let pairs = data::held_out_pairs();
/// assert_eq!(pairs.len(), 1_000);
/// assert!(pairs.iter().all(|&(heads, feet)| data::is_held_out(heads, feet)));
/// ```
#[must_use]
pub fn held_out_pairs() -> Vec<(u32, u32)> {
    SPLIT.held_out.clone()
}

/// Whether `(heads, feet)` is one of the held-out pairs.
#[must_use]
pub fn is_held_out(heads: u32, feet: u32) -> bool {
    SPLIT.held_out.binary_search(&(heads, feet)).is_ok()
}

/// The pairs that training may use: valid, not held out and not the article's.
pub(crate) fn training_pairs() -> &'static [(u32, u32)] {
    &SPLIT.training
}

/// Whether two numbers that stand together could be read as a problem that is kept out of training.
pub(crate) fn is_kept_out(a: u32, b: u32) -> bool {
    [(a, b), (b, a)]
        .into_iter()
        .any(|pair| pair == ARTICLE_PAIR || is_held_out(pair.0, pair.1))
}
