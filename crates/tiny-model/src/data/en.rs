//! English phrasings of the problem and of its answer.

use super::draw::Draws;
use super::puzzle::{Asked, Puzzle};

// {s} is "chickens and rabbits" in either order.
const HEADS: &[&str] = &[
    "There are {h} {s}",
    "{h} {s}",
    "{h} {s}",
    "A farm has {h} {s}",
    "A farmer has {h} {s}",
    "A cage holds {h} {s}",
    "A cage has {h} {s}",
    "Tom has {h} {s}",
    "I have {h} {s}",
    "We have {h} {s}",
    "There are {h} heads of {s}",
    "{s}: {h} heads",
    "{s} have {h} heads",
    "A cage of {s} has {h} heads",
];

const THEN_FEET: &[&str] = &[
    " with {f} feet",
    " with {f} legs",
    " with {f} feet in total",
    " and {f} feet",
    " and {f} legs",
    ", {f} feet",
    ", {f} legs in total",
    ". They have {f} feet",
    ". They have {f} legs",
    ". Together they have {f} feet",
    ". There are {f} feet",
    ". There are {f} legs in all",
];

const FEET_FIRST: &[&str] = &[
    "{s} have {f} feet and {h} heads",
    "{s} have {f} legs and {h} heads",
    "A cage of {s} has {f} feet and {h} heads",
    "A farm with {s} has {f} legs and {h} heads",
    "There are {f} feet and {h} heads of {s}",
    "There are {f} legs and {h} {s}",
    "I see {f} feet and {h} heads of {s}",
];

// In each of the two-sided forms {a} is the animal that there is more of.
const MORE: &[&str] = &[
    "How many more {a} than {b} are there?",
    "How many more {a} than {b}?",
    "How many more {a} are there than {b}?",
    "How many more {a}?",
];

const HOW_MANY: &[&str] = &[
    "How many {a} are there?",
    "How many {a}?",
    "How many {a}?",
    "How many are {a}?",
    "How many of them are {a}?",
    "Find the number of {a}.",
    "What is the number of {a}?",
];

const EACH: &[&str] = &[
    "How many of each?",
    "How many of each?",
    "How many {a} and {b}?",
    "How many of each are there?",
    "How many {a} and {b} are there?",
    "How many {a} and how many {b} are there?",
    "How many {a} and how many {b}?",
    "Find the number of {a} and {b}.",
];

/// The question, its phrasing drawn.
pub(crate) fn question(puzzle: Puzzle, draws: &mut Draws) -> String {
    let both = draws.pick(&[
        "chickens and rabbits",
        "chickens and rabbits",
        "chickens and rabbits",
        "rabbits and chickens",
    ]);
    let statement = if draws.chance(75) {
        format!("{}{}", draws.pick(HEADS), draws.pick(THEN_FEET))
    } else {
        draws.pick(FEET_FIRST).to_owned()
    };
    let (templates, a, b) = match puzzle.asked {
        Asked::MoreChickens => (MORE, "chickens", "rabbits"),
        Asked::MoreRabbits => (MORE, "rabbits", "chickens"),
        Asked::Chickens => (HOW_MANY, "chickens", "rabbits"),
        Asked::Rabbits => (HOW_MANY, "rabbits", "chickens"),
        Asked::Each => (EACH, "chickens", "rabbits"),
    };
    let asked = draws.pick(templates).replace("{a}", a).replace("{b}", b);
    let text = format!("{statement}. {asked}")
        .replace("{s}", both)
        .replace("{h}", &puzzle.heads().to_string())
        .replace("{f}", &puzzle.feet().to_string());
    if draws.chance(12) {
        text.to_lowercase()
    } else {
        capitalize(&text)
    }
}

/// What `x` stands for: the first line of a solution.
pub(crate) fn unknowns(heads: u32) -> String {
    format!("x chickens, {heads}-x rabbits:")
}

/// The last line of a solution: what was asked.
pub(crate) fn conclusion(puzzle: Puzzle) -> String {
    let Puzzle {
        chickens,
        rabbits,
        asked,
    } = puzzle;
    match asked {
        Asked::MoreChickens => {
            format!(
                "More chickens: {chickens}-{rabbits}={}.",
                chickens - rabbits
            )
        }
        Asked::MoreRabbits => {
            format!("More rabbits: {rabbits}-{chickens}={}.", rabbits - chickens)
        }
        Asked::Chickens => format!("Chickens: {chickens}."),
        Asked::Rabbits => format!("Rabbits: {rabbits}."),
        Asked::Each => format!("Chickens: {chickens}, rabbits: {rabbits}."),
    }
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
