//! The judge: what it must accept and what it must reject.

use llm_tiny_model::TinyModelError;
use llm_tiny_model::data::{Asked, Dataset, HELD_OUT, Language, held_out_pairs};
use llm_tiny_model::eval::{Answer, Judgement, Problem, judge, problems};

const RIGHT: Judgement = Judgement {
    final_correct: true,
    steps_correct: true,
};
const WRONG_FINAL: Judgement = Judgement {
    final_correct: false,
    steps_correct: true,
};
const WRONG_STEP: Judgement = Judgement {
    final_correct: true,
    steps_correct: false,
};
const WRONG: Judgement = Judgement {
    final_correct: false,
    steps_correct: false,
};

/// 20 chickens and 2 rabbits: 2*20 + 4*2 = 48 feet.
const STEPS: &str = "设鸡有x只，兔有22-x只。\n2x+4*(22-x)=48\nx+2*(22-x)=48/2=24\nx=2*22-24=44-24=20\n22-x=22-20=2\n";

fn problem(asked: Asked) -> Problem {
    Problem::new("?", 22, 48, asked).expect("the numbers fit")
}

fn judge_final(asked: Asked, last: &str) -> Judgement {
    judge(&problem(asked), &format!("{STEPS}{last}"))
}

#[test]
fn right_answers_are_accepted() {
    for (asked, last) in [
        (Asked::MoreChickens, "鸡比兔多20-2=18只。"),
        (Asked::MoreChickens, "所以，鸡比兔子多了 20 - 2 = 18 只。"),
        (Asked::MoreChickens, "鸡比兔多18只"),
        (Asked::MoreChickens, "More chickens: 20-2=18."),
        (Asked::MoreChickens, "18 more chickens than rabbits."),
        (Asked::Chickens, "鸡有20只。"),
        (Asked::Chickens, "Chickens: 20."),
        (Asked::Rabbits, "兔有2只。"),
        (Asked::Rabbits, "Rabbits: 2."),
        (Asked::Each, "鸡有20只，兔有2只。"),
        (Asked::Each, "Rabbits: 2, chickens: 20."),
    ] {
        assert_eq!(judge_final(asked, last), RIGHT, "{last}");
        assert_eq!(judge_final(asked, &format!("{last}\n\n")), RIGHT, "{last}");
    }
}

#[test]
fn wrong_last_sentences_are_rejected() {
    for (asked, last) in [
        (Asked::MoreChickens, "鸡比兔多20-2=17只。"),
        (Asked::MoreChickens, "鸡比兔多17只。"),
        (Asked::MoreChickens, "兔比鸡多18只。"),
        (Asked::MoreChickens, "鸡有18只。"),
        (Asked::MoreChickens, "鸡比兔多20-3=18只。"),
        (Asked::MoreChickens, "鸡比兔多18只，19只。"),
        (Asked::MoreChickens, "鸡比兔多18.5只。"),
        (Asked::MoreChickens, "鸡比兔多-18只。"),
        (Asked::MoreChickens, "鸡比兔多x=18只。"),
        (Asked::MoreChickens, "More rabbits: 20-2=18."),
        (Asked::MoreChickens, "18"),
        (Asked::Chickens, "兔有20只。"),
        (Asked::Chickens, "鸡有2只。"),
        (Asked::Chickens, "鸡有20只，兔有2只。"),
        (Asked::Chickens, "鸡有020只。"),
        (Asked::Chickens, "鸡有200只。"),
        (Asked::Chickens, "鸡多20只。"),
        (Asked::Rabbits, "Rabbits: 20."),
        (Asked::Rabbits, "Rabbits:"),
        (Asked::Each, "鸡有2只，兔有20只。"),
        (Asked::Each, "鸡有20只。"),
        (Asked::Each, "鸡有20只，兔有2只，共22只。"),
        (Asked::Each, "Chickens: 2, rabbits: 20."),
        (Asked::Each, "鸡兔有20只，2只，兔。"),
    ] {
        assert_eq!(judge_final(asked, last), WRONG_FINAL, "{last}");
    }
}

#[test]
fn a_wrong_step_is_seen_where_the_last_sentence_is_right() {
    for (right, wrong) in [
        ("22-x只", "23-x只"),
        ("22-x只", "22+x只"),
        ("2x+4", "4x+2"),
        ("=48\n", "=46\n"),
        ("48/2=24", "48/2=23"),
        ("2*22-24=44-24", "2*22-24=45-24"),
        ("44-24=20", "44-24=21"),
        ("22-20=2\n", "22-20=3\n"),
        ("22-x=22-20=2\n", "22-x=22-20=\n"),
        ("22-x=22-20=2\n", ""),
        ("2x+4*(22-x)=48\n", "1=1\n"),
        ("x=2*22-24=44-24=20\n", ""),
        ("x=2*22-24=44-24=20\n", "22+48=70\n48\n"),
    ] {
        assert!(STEPS.contains(right), "{right}");
        let steps = STEPS.replacen(right, wrong, 1);
        // Leaving out the one equation with both numbers leaves no set-up.
        let steps = if wrong == "1=1\n" {
            steps.replace("48/2=", "")
        } else {
            steps
        };
        let answer = format!("{steps}鸡比兔多20-2=18只。");
        assert_eq!(
            judge(&problem(Asked::MoreChickens), &answer),
            WRONG_STEP,
            "{answer}"
        );
    }
    let bare = judge(&problem(Asked::MoreChickens), "鸡比兔多18只。");
    assert_eq!(bare, WRONG_STEP);
}

/// The worked answer that the article shows.
#[test]
fn other_ways_to_the_answer_are_accepted() {
    let article = "假设鸡有 x 只，兔子有 22 - x 只。\n\n2x + 4(22 - x) = 48\n\n化简得：\n\n2x + 88 - 4x = 48\n\n-2x = -40\n\nx = 20\n\n22 - 20 = 2\n\n所以，鸡比兔子多了 20 - 2 = 18 只。";
    assert_eq!(judge(&problem(Asked::MoreChickens), article), RIGHT);
    let by_rabbits =
        "设兔有x只，鸡有22-x只。\n4x+2(22-x)=48\n2x=48-44=4\nx=2\n22-2=20\n鸡比兔多18只。";
    assert_eq!(judge(&problem(Asked::MoreChickens), by_rabbits), RIGHT);
}

#[test]
fn nothing_is_no_answer() {
    for answer in ["", "\n \n", "你好！", "=", "(", "鸡"] {
        assert_eq!(judge(&problem(Asked::Chickens), answer), WRONG, "{answer}");
    }
}

#[test]
fn problems_without_an_answer_cannot_be_made() {
    for (heads, feet, asked) in [
        (22, 47, Asked::Each),
        (22, 42, Asked::Each),
        (22, 90, Asked::Each),
        (22, 48, Asked::MoreRabbits),
        (2, 8, Asked::MoreChickens),
    ] {
        assert_eq!(Problem::new("?", heads, feet, asked), None);
    }
    assert_eq!(
        problem(Asked::Each).expected,
        Answer::Each {
            chickens: 20,
            rabbits: 2
        }
    );
    assert_eq!(
        problem(Asked::MoreChickens).expected,
        Answer::MoreChickens(18)
    );
}

#[test]
fn every_held_out_pair_is_asked_once_in_each_language() {
    for language in [Language::Chinese, Language::English] {
        let all = problems(language, HELD_OUT).unwrap();
        let mut pairs: Vec<_> = all.iter().map(|p| (p.heads, p.feet)).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, held_out_pairs());
        assert_eq!(all[..7], problems(language, 7).unwrap());
        for problem in &all {
            assert!(
                problem.question.contains(&problem.heads.to_string()),
                "{problem:?}"
            );
            assert!(
                problem.question.contains(&problem.feet.to_string()),
                "{problem:?}"
            );
            assert_eq!(
                problem.question.contains('鸡') || problem.question.contains('雉'),
                language == Language::Chinese
            );
        }
    }
}

#[test]
fn more_problems_than_there_are_is_an_error() {
    let error = problems(Language::English, HELD_OUT + 1).unwrap_err();
    assert!(matches!(
        error,
        TinyModelError::TooManyProblems {
            requested: 1_001,
            available: 1_000
        }
    ));
}

/// The generator's solutions are one kind of right answer: the judge accepts them all, and finds
/// each change of a digit, but for those that make another true statement.
#[test]
fn the_solutions_of_the_training_data_are_right_and_a_changed_digit_is_not() {
    let data = Dataset::new(2);
    let (mut solutions, mut changed, mut accepted) = (0, 0, 0);
    for i in 0..4_000 {
        for turn in data.sft_example(i).windows(2) {
            let answer = &turn[1].content;
            let Some(line) = answer.lines().find(|line| line.starts_with("2x+4*(")) else {
                continue;
            };
            let numbers: Vec<u32> = line
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|s| s.parse().ok())
                .collect();
            let last = answer.lines().last().unwrap().to_lowercase();
            let asked = match (
                last.contains('多') || last.contains("more"),
                last.contains('鸡') || last.contains("chickens"),
                last.contains('兔') || last.contains("rabbits"),
            ) {
                (true, ..) if last.starts_with('鸡') || last.contains("chickens") => {
                    Asked::MoreChickens
                }
                (true, ..) => Asked::MoreRabbits,
                (_, true, true) => Asked::Each,
                (_, true, _) => Asked::Chickens,
                _ => Asked::Rabbits,
            };
            let problem = Problem::new(&turn[0].content, numbers[2], numbers[3], asked).unwrap();
            assert_eq!(judge(&problem, answer), RIGHT, "{answer}");
            solutions += 1;
            for (at, digit) in answer.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
                let other = char::from(b'0' + (digit as u8 - b'0' + 1 + (i % 9) as u8) % 10);
                let mut broken = answer.clone();
                broken.replace_range(at..=at, &other.to_string());
                changed += 1;
                // With one kind of animal, some other equations in `x` hold too.
                let line = answer[..at].lines().last().unwrap();
                let other_equation = line.starts_with("x+")
                    && [2, 4].contains(&(problem.feet / problem.heads))
                    && problem.feet.is_multiple_of(problem.heads);
                accepted += usize::from(judge(&problem, &broken) == RIGHT && !other_equation);
            }
        }
    }
    assert!(solutions > 1_500, "{solutions}");
    assert_eq!(accepted, 0, "of {changed}");
}
