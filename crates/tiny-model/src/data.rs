//! The generated training data: plain text for pre-training, dialogues for fine-tuning.
//!
//! Every example is a pure function of (seed, number of the example), so any part of the data can
//! be made again at any time, in any order and on any thread.

mod arithmetic;
mod draw;
mod en;
mod puzzle;
mod split;
mod talk;
mod zh;

use llm_chat_format::Message;

pub(crate) use draw::Draws;
pub(crate) use puzzle::Puzzle;
pub use puzzle::{Asked, Language};
pub use split::{ARTICLE_PAIR, HELD_OUT, MAX_HEADS, held_out_pairs, is_held_out};

use arithmetic::Equation;
use talk::Exchange;

/// The messages of one conversation, from the first to an answer of the model.
pub type Dialogue = Vec<Message>;

/// The most characters of a dialogue, control tokens and line breaks of the chat format included.
pub const MAX_DIALOGUE_TOKENS: usize = 480;

/// What one exchange of a dialogue is about.
#[derive(Clone, Copy, Debug)]
enum Topic {
    PuzzleZh,
    PuzzleEn,
    Arithmetic,
    Poem,
    Words,
    SmallTalk,
    Decline,
}

/// Weights of the topics of a dialogue. The problems have some three quarters of the tokens.
const SFT_TOPICS: &[(u32, Topic)] = &[
    (26, Topic::PuzzleZh),
    (18, Topic::PuzzleEn),
    (34, Topic::Arithmetic),
    (6, Topic::Poem),
    (6, Topic::Words),
    (7, Topic::SmallTalk),
    (3, Topic::Decline),
];

/// What one text of the pre-training data is.
#[derive(Clone, Copy, Debug)]
enum Plain {
    Equations,
    WorkedZh,
    WorkedEn,
    Poem,
    Words,
    Itself,
}

/// Weights of the kinds of pre-training text.
const PRETRAIN_KINDS: &[(u32, Plain)] = &[
    (50, Plain::Equations),
    (22, Plain::WorkedZh),
    (18, Plain::WorkedEn),
    (4, Plain::Poem),
    (3, Plain::Words),
    (3, Plain::Itself),
];

/// In how many of 100 dialogues there is a second exchange.
const SECOND_TURN: u32 = 10;

/// In how many of 100 dialogues there is a system message.
const SYSTEM: u32 = 4;

/// The training data of one seed.
///
/// ```
/// use llm_chat_format::Role;
/// use llm_tiny_model::data::Dataset;
///
/// let data = Dataset::new(1);
/// let dialogue = data.sft_example(7);
/// assert_eq!(dialogue, Dataset::new(1).sft_example(7));
/// assert_eq!(dialogue.last().map(|m| m.role), Some(Role::Assistant));
/// assert!(!data.pretrain_text(7).is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dataset {
    seed: u64,
}

/// The two stages draw from different streams.
const SFT_STAGE: u64 = 1;
const PRETRAIN_STAGE: u64 = 2;

impl Dataset {
    /// The data of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Dialogue `i` of the fine-tuning stage.
    ///
    /// It has at most [`MAX_DIALOGUE_TOKENS`] tokens, and no problem of it is a held-out one
    /// or the article's.
    #[must_use]
    pub fn sft_example(&self, i: u64) -> Dialogue {
        let mut draws = self.draws(SFT_STAGE, i);
        let (language, first) = exchange(&mut draws);
        let mut dialogue = Dialogue::new();
        if draws.chance(SYSTEM) {
            dialogue.push(Message::system(talk::system(language, &mut draws)));
        }
        push(&mut dialogue, first);
        if draws.chance(SECOND_TURN) {
            let (_, second) = exchange(&mut draws);
            let before = dialogue.clone();
            push(&mut dialogue, second);
            if tokens(&dialogue) > MAX_DIALOGUE_TOKENS {
                dialogue = before;
            }
        }
        dialogue
    }

    /// Text `i` of the pre-training stage: running text without any chat format.
    ///
    /// No problem of it is a held-out one or the article's.
    #[must_use]
    pub fn pretrain_text(&self, i: u64) -> String {
        let mut draws = self.draws(PRETRAIN_STAGE, i);
        let draws = &mut draws;
        match draws.pick_weighted(PRETRAIN_KINDS) {
            Plain::Equations => {
                let n = draws.between(6, 14);
                let lines: Vec<String> = (0..n).map(|_| Equation::draw(draws).solved()).collect();
                lines.join("\n")
            }
            Plain::WorkedZh => text(puzzle(Language::Chinese, draws)),
            Plain::WorkedEn => text(puzzle(Language::English, draws)),
            Plain::Poem => text(talk::poem(draws)),
            Plain::Words => text(talk::words(draws)),
            Plain::Itself => talk::about_itself(draws).to_owned(),
        }
    }

    fn draws(&self, stage: u64, i: u64) -> Draws {
        // The stage goes into the key, so that every `i` has its own stream in each stage.
        Draws::new(self.seed ^ (stage << 56), i)
    }
}

/// How many tokens a dialogue has: its characters, a role token and a line break for each
/// message, two tokens at the start and one at the end.
fn tokens(dialogue: &[Message]) -> usize {
    let messages: usize = dialogue
        .iter()
        .map(|message| message.content.chars().count() + 2)
        .sum();
    messages + 3
}

fn push(dialogue: &mut Dialogue, (question, answer): Exchange) {
    dialogue.push(Message::user(question));
    dialogue.push(Message::assistant(answer));
}

fn text((question, answer): Exchange) -> String {
    format!("{question}\n{answer}")
}

fn puzzle(language: Language, draws: &mut Draws) -> Exchange {
    let puzzle = Puzzle::draw(draws);
    (puzzle.question(language, draws), puzzle.solution(language))
}

fn exchange(draws: &mut Draws) -> (Language, Exchange) {
    let topic = draws.pick_weighted(SFT_TOPICS);
    let language = match topic {
        Topic::PuzzleEn => Language::English,
        Topic::Arithmetic => draws.pick(&[Language::Chinese, Language::English]),
        _ => Language::Chinese,
    };
    let exchange = match topic {
        Topic::PuzzleZh | Topic::PuzzleEn => puzzle(language, draws),
        Topic::Arithmetic => {
            let equation = Equation::draw(draws);
            (equation.question(language, draws), equation.solved())
        }
        Topic::Poem => talk::poem(draws),
        Topic::Words => talk::words(draws),
        Topic::SmallTalk => talk::small_talk(draws),
        Topic::Decline => talk::decline(draws),
    };
    (language, exchange)
}
