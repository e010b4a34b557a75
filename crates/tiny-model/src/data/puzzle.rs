//! A chicken-and-rabbit problem: its numbers, its question and its worked solution.

use super::draw::Draws;
use super::split::{MAX_HEADS, is_kept_out, training_pairs};
use super::{en, zh};

/// The language of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Simplified Chinese.
    Chinese,
    /// English.
    English,
}

/// What a problem asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// How many more chickens than rabbits.
    MoreChickens,
    /// How many more rabbits than chickens.
    MoreRabbits,
    /// The number of chickens.
    Chickens,
    /// The number of rabbits.
    Rabbits,
    /// Both numbers.
    Each,
}

/// The numbers of one problem and what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Puzzle {
    pub(crate) chickens: u32,
    pub(crate) rabbits: u32,
    pub(crate) asked: Asked,
}

impl Puzzle {
    /// A problem for training: never one that is kept out.
    pub(crate) fn draw(draws: &mut Draws) -> Self {
        // One in five takes the heads first, so that small problems are not rare.
        if draws.chance(20) {
            let heads = draws.between(1, MAX_HEADS);
            let rabbits = draws.below(heads + 1);
            let feet = 2 * heads + 2 * rabbits;
            if !is_kept_out(heads, feet) {
                return Self::new(heads, feet, draws);
            }
        }
        let (heads, feet) = draws.pick(training_pairs());
        Self::new(heads, feet, draws)
    }

    /// The problem with these numbers, its question drawn among those that have an answer.
    pub(crate) fn new(heads: u32, feet: u32, draws: &mut Draws) -> Self {
        let rabbits = feet / 2 - heads;
        let chickens = heads - rabbits;
        let difference = if chickens == rabbits {
            draws.pick(&[Asked::MoreChickens, Asked::MoreRabbits])
        } else if chickens > rabbits {
            Asked::MoreChickens
        } else {
            Asked::MoreRabbits
        };
        let asked = draws.pick_weighted(&[
            (36, difference),
            (17, Asked::Chickens),
            (17, Asked::Rabbits),
            (30, Asked::Each),
        ]);
        Self {
            chickens,
            rabbits,
            asked,
        }
    }

    pub(crate) const fn heads(self) -> u32 {
        self.chickens + self.rabbits
    }

    pub(crate) const fn feet(self) -> u32 {
        2 * self.chickens + 4 * self.rabbits
    }

    /// The question in words, its phrasing drawn.
    pub(crate) fn question(self, language: Language, draws: &mut Draws) -> String {
        match language {
            Language::Chinese => zh::question(self, draws),
            Language::English => en::question(self, draws),
        }
    }

    /// The worked solution. Its layout is always the same: each line does one thing,
    /// and the operands of each step stand right before its result.
    pub(crate) fn solution(self, language: Language) -> String {
        let Self {
            chickens, rabbits, ..
        } = self;
        let (heads, feet) = (self.heads(), self.feet());
        let (first, last) = match language {
            Language::Chinese => (zh::unknowns(heads), zh::conclusion(self)),
            Language::English => (en::unknowns(heads), en::conclusion(self)),
        };
        let half = feet / 2;
        let double = 2 * heads;
        format!(
            "{first}\n\
             2x+4*({heads}-x)={feet}\n\
             x+2*({heads}-x)={feet}/2={half}\n\
             x=2*{heads}-{half}={double}-{half}={chickens}\n\
             {heads}-x={heads}-{chickens}={rabbits}\n\
             {last}"
        )
    }
}
