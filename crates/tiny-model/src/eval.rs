//! The held-out problems, and a judge of answers to them.
//!
//! The judge reads an answer as a strict teacher does: it evaluates every expression of the answer
//! itself. It shares no code with the generator and knows nothing of the layout of its solutions.

mod expression;

use crate::TinyModelError;
use crate::data::{Asked, Draws, HELD_OUT, Language, Puzzle, held_out_pairs};
use expression::{Chain, Expression, chains};

/// Key of the draw of the questions. They do not depend on the seed of the training data.
const EVAL_KEY: u64 = 0x6576_616c;

/// One problem of the held-out set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The question in words.
    pub question: String,
    /// How many animals.
    pub heads: u32,
    /// How many feet.
    pub feet: u32,
    /// The right answer.
    pub expected: Answer,
}

impl Problem {
    /// A problem with a question of one's own.
    ///
    /// The answer is worked out here: `rabbits = feet / 2 − heads`, `chickens = heads − rabbits`.
    ///
    /// Returns `None` if no numbers of chickens and rabbits fit, or if fewer are asked for than
    /// none: [`Asked::MoreChickens`] with fewer chickens than rabbits, and the other way round.
    #[must_use]
    pub fn new(question: &str, heads: u32, feet: u32, asked: Asked) -> Option<Self> {
        if !feet.is_multiple_of(2) {
            return None;
        }
        let rabbits = (feet / 2).checked_sub(heads)?;
        let chickens = heads.checked_sub(rabbits)?;
        let expected = match asked {
            Asked::MoreChickens => Answer::MoreChickens(chickens.checked_sub(rabbits)?),
            Asked::MoreRabbits => Answer::MoreRabbits(rabbits.checked_sub(chickens)?),
            Asked::Chickens => Answer::Chickens(chickens),
            Asked::Rabbits => Answer::Rabbits(rabbits),
            Asked::Each => Answer::Each { chickens, rabbits },
        };
        Some(Self {
            question: question.to_owned(),
            heads,
            feet,
            expected,
        })
    }
}

/// What the last sentence of an answer must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// So many more chickens than rabbits.
    MoreChickens(u32),
    /// So many more rabbits than chickens.
    MoreRabbits(u32),
    /// So many chickens.
    Chickens(u32),
    /// So many rabbits.
    Rabbits(u32),
    /// So many of each.
    Each {
        /// The number of chickens.
        chickens: u32,
        /// The number of rabbits.
        rabbits: u32,
    },
}

/// What the judge says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// The last sentence says what was asked, with the right numbers and no others.
    pub final_correct: bool,
    /// Every line before the last is right, and they lead to the numbers of both animals.
    pub steps_correct: bool,
}

/// The first `n` problems of the held-out set in this language, in an order drawn once.
///
/// Each held-out pair of heads and feet is in the set once. The question and its phrasing are
/// drawn; they are the same in every run.
///
/// # Errors
///
/// [`TinyModelError::TooManyProblems`] if `n` is above [`HELD_OUT`].
///
/// # Example
///
/// ```
/// use llm_tiny_model::data::{self, Language};
/// use llm_tiny_model::eval;
///
/// let problems = eval::problems(Language::English, 10)?;
/// assert_eq!(problems.len(), 10);
/// assert!(problems.iter().all(|p| data::is_held_out(p.heads, p.feet)));
/// # Ok::<(), llm_tiny_model::TinyModelError>(())
/// ```
pub fn problems(language: Language, n: usize) -> Result<Vec<Problem>, TinyModelError> {
    if n > HELD_OUT {
        return Err(TinyModelError::TooManyProblems {
            requested: n,
            available: HELD_OUT,
        });
    }
    // Stream 0 is the order; each problem has a stream of its own, for each language.
    let mut pairs = held_out_pairs();
    Draws::new(EVAL_KEY, 0).shuffle(&mut pairs);
    let language_bit = u64::from(language == Language::English);
    let problem = |(index, (heads, feet)): (usize, (u32, u32))| {
        let mut draws = Draws::new(EVAL_KEY, 2 * (index as u64 + 1) + language_bit);
        let puzzle = Puzzle::new(heads, feet, &mut draws);
        let question = puzzle.question(language, &mut draws);
        Problem::new(&question, heads, feet, puzzle.asked)
    };
    Ok(pairs
        .into_iter()
        .enumerate()
        .take(n)
        .filter_map(problem)
        .collect())
}

/// Judges an answer to a problem.
///
/// The last line that is not blank is the final sentence; the lines above it are the steps.
///
/// - **Final**: it names the animals that were asked for, in Chinese or in English, each with its
///   number. A computation in it must be right. Any other number makes it wrong.
/// - **Steps**: each expression is evaluated with `x` = the true number of chickens, or of rabbits
///   if that is how the answer uses `x`. All sides of each equation must be equal, for every line.
///   One equation must count the feet of all animals by `x`, with both numbers of the problem in
///   it; one must give the value of `x`; and both animals' numbers must be results of some equation.
///
/// # Example
///
/// ```
/// use llm_tiny_model::data::Asked;
/// use llm_tiny_model::eval::{Problem, judge};
///
/// let problem = Problem::new("…", 3, 8, Asked::Rabbits).unwrap(); // 2 chickens, 1 rabbit
/// let steps = "设鸡有x只，兔有3-x只。\n2x+4*(3-x)=8\nx=(12-8)/2=2\n3-2=1\n";
/// let right = judge(&problem, &format!("{steps}兔有1只。"));
/// assert!(right.final_correct && right.steps_correct);
/// assert!(!judge(&problem, &format!("{steps}兔有2只。")).final_correct);
/// ```
#[must_use]
pub fn judge(problem: &Problem, answer: &str) -> Judgement {
    let mut lines: Vec<&str> = answer
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let Some(last) = lines.pop() else {
        return Judgement {
            final_correct: false,
            steps_correct: false,
        };
    };
    let rabbits = i64::from(problem.feet) / 2 - i64::from(problem.heads);
    let chickens = i64::from(problem.heads) - rabbits;
    Judgement {
        final_correct: final_is_right(problem.expected, last),
        steps_correct: [chickens, rabbits]
            .into_iter()
            .zip([2, 4])
            .any(|(x, x_feet)| steps_are_right(problem, &lines, (x, x_feet), [chickens, rabbits])),
    }
}

/// What a word of the final sentence stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Animal {
    Chicken,
    Rabbit,
}

/// The animals that a sentence names, with their places in it, in order.
fn animals(sentence: &str) -> Vec<(usize, Animal)> {
    let lower = sentence.to_ascii_lowercase();
    let names = [
        ("鸡", Animal::Chicken),
        ("chicken", Animal::Chicken),
        ("兔", Animal::Rabbit),
        ("rabbit", Animal::Rabbit),
    ];
    let mut found: Vec<(usize, Animal)> = names
        .iter()
        .flat_map(|&(name, animal)| lower.match_indices(name).map(move |(at, _)| (at, animal)))
        .collect();
    found.sort_unstable_by_key(|&(at, _)| at);
    found
}

fn final_is_right(expected: Answer, sentence: &str) -> bool {
    let Some(stated) = chains(sentence) else {
        return false;
    };
    let named: Vec<Animal> = animals(sentence)
        .into_iter()
        .map(|(_, animal)| animal)
        .collect();
    let compares = sentence.contains('多') || sentence.to_ascii_lowercase().contains("more");
    // The value of a chain without unknown whose sides all agree.
    let value = |chain: &Chain| chain.value_at(0).filter(|_| !chain.has_unknown());
    let results: Option<Vec<i64>> = stated.iter().map(value).collect();
    let Some(results) = results else { return false };
    let one = |animal, number: u32, comparing: bool| {
        results == [i64::from(number)] && named.first() == Some(&animal) && compares == comparing
    };
    match expected {
        Answer::MoreChickens(number) => one(Animal::Chicken, number, true) && named.len() <= 2,
        Answer::MoreRabbits(number) => one(Animal::Rabbit, number, true) && named.len() <= 2,
        Answer::Chickens(number) => one(Animal::Chicken, number, false) && named.len() == 1,
        Answer::Rabbits(number) => one(Animal::Rabbit, number, false) && named.len() == 1,
        Answer::Each { chickens, rabbits } => {
            let (chickens, rabbits) = (i64::from(chickens), i64::from(rabbits));
            !compares
                && match named[..] {
                    [Animal::Chicken, Animal::Rabbit] => results == [chickens, rabbits],
                    [Animal::Rabbit, Animal::Chicken] => results == [rabbits, chickens],
                    _ => false,
                }
        }
    }
}

/// `x` is the number of one animal, of `x_feet` feet each.
fn steps_are_right(
    problem: &Problem,
    lines: &[&str],
    (x, x_feet): (i64, i64),
    animals: [i64; 2],
) -> bool {
    let (heads, feet) = (i64::from(problem.heads), i64::from(problem.feet));
    let mut set_up = false;
    let mut solved = false;
    let mut results = vec![];
    for line in lines {
        let Some(found) = chains(line) else {
            return false;
        };
        for chain in found {
            if let [only] = chain.sides() {
                // A term that is no equation names an unknown: `x`, or the number of the other
                // animal by it. A bare number says nothing that could be checked.
                let is_x = [0, 1].map(|t| only.at(t)) == [Some(0), Some(1)];
                let is_other = [0, 1].map(|t| only.at(t)) == [Some(heads), Some(heads - 1)];
                if !is_x && !is_other {
                    return false;
                }
                continue;
            }
            // All sides are equal.
            let Some(result) = chain.value_at(x) else {
                return false;
            };
            results.push(result);
            // The feet of all animals, as a function of `x`; a straight line has two points.
            let feet_of = |t: i64| Some(x_feet * t + (6 - x_feet) * (heads - t));
            let counts_feet =
                |side: &Expression| [0, 1].into_iter().all(|t| side.at(t) == feet_of(t));
            set_up |= chain.sides().iter().any(counts_feet)
                && chain.has_number(heads)
                && chain.has_number(feet);
            solved |= chain.begins_with_unknown() && chain.ends_with_number(x);
        }
    }
    set_up && solved && animals.iter().all(|number| results.contains(number))
}
