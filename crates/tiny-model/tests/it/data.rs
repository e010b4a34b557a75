//! What the generated training data holds, and what it must never hold.

use std::collections::{BTreeSet, HashSet};

use llm_chat_format::{Ending, LossMask, Message, Role, chatglm3, encode};
use llm_tiny_model::data::{
    ARTICLE_PAIR, Dataset, HELD_OUT, MAX_DIALOGUE_TOKENS, MAX_HEADS, held_out_pairs, is_held_out,
};
use llm_tiny_model::tokenizer::Tokenizer;

const N: u64 = 20_000;

/// All whole numbers of a text, in order.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Whether two numbers are those of a problem that must not be seen, in either order.
fn forbidden(a: u32, b: u32) -> bool {
    let unseen = |pair: (u32, u32)| pair == ARTICLE_PAIR || is_held_out(pair.0, pair.1);
    unseen((a, b)) || unseen((b, a))
}

/// The first two numbers of a text that must not stand together.
fn leak(text: &str) -> Option<(u32, u32)> {
    let found = numbers(text);
    let pairs = found
        .iter()
        .enumerate()
        .flat_map(|(i, &a)| found[i + 1..].iter().map(move |&b| (a, b)));
    pairs.into_iter().find(|&(a, b)| forbidden(a, b))
}

/// Heads and feet of the equation that a worked solution sets up.
fn set_up(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().find(|line| line.starts_with("2x+4*("))?;
    let found = numbers(line);
    assert_eq!(found.len(), 4, "{line}");
    Some((found[2], found[3]))
}

/// Whether the text states a problem with these numbers. The checks below rest on it.
#[test]
fn the_leak_check_finds_a_leak() {
    assert_eq!(
        leak("现有鸡兔22只,共有48只脚,请问鸡比兔多了几只?"),
        Some((22, 48))
    );
    assert_eq!(leak("48 feet and 22 heads"), Some((48, 22)));
    assert_eq!(leak("2x+4*(22-x)=49"), None);
    let (heads, feet) = held_out_pairs()[500];
    assert_eq!(leak(&format!("{heads}+{feet}=")), Some((heads, feet)));
    assert_eq!(set_up("x\n2x+4*(22-x)=48\n"), Some((22, 48)));
}

#[test]
fn no_dialogue_has_a_held_out_problem() {
    for seed in [0, 1] {
        let data = Dataset::new(seed);
        for i in 0..N {
            for message in data.sft_example(i) {
                match message.role {
                    Role::Assistant => {
                        let pair = set_up(&message.content);
                        assert!(
                            pair.is_none_or(|(h, f)| !forbidden(h, f)),
                            "{}",
                            message.content
                        );
                        if pair.is_none() {
                            // A single equation: its operands.
                            let found = numbers(&message.content);
                            assert!(found.len() < 2 || !forbidden(found[0], found[1]));
                        }
                    }
                    _ => assert_eq!(leak(&message.content), None, "{}", message.content),
                }
            }
        }
    }
}

#[test]
fn no_pre_training_text_has_a_held_out_problem() {
    let data = Dataset::new(0);
    for i in 0..N {
        let text = data.pretrain_text(i);
        if let Some((heads, feet)) = set_up(&text) {
            assert!(!forbidden(heads, feet), "{text}");
            assert_eq!(text.lines().next().and_then(leak), None, "{text}");
        } else {
            for line in text.lines() {
                let found = numbers(line);
                assert!(found.len() < 2 || !forbidden(found[0], found[1]), "{line}");
            }
        }
    }
}

#[test]
fn the_question_and_the_set_up_have_the_same_numbers() {
    let data = Dataset::new(3);
    let mut puzzles = 0;
    for i in 0..2_000 {
        let dialogue = data.sft_example(i);
        for turn in dialogue.windows(2) {
            if let Some((heads, feet)) = set_up(&turn[1].content) {
                let mut stated = numbers(&turn[0].content);
                stated.sort_unstable();
                assert_eq!(stated, [heads, feet], "{turn:?}");
                puzzles += 1;
            }
        }
    }
    assert!(puzzles > 700, "{puzzles}");
}

/// All 5,049 pairs of 1 to 99 heads: 0 to `heads` of them are rabbits.
#[test]
fn the_held_out_pairs_are_a_thousand_valid_ones() {
    let pairs = held_out_pairs();
    assert_eq!(pairs.len(), HELD_OUT);
    assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), HELD_OUT);
    for (heads, feet) in pairs {
        assert!((1..=MAX_HEADS).contains(&heads));
        assert!(feet % 2 == 0 && (2 * heads..=4 * heads).contains(&feet));
        assert!(is_held_out(heads, feet));
    }
    assert!(!is_held_out(0, 0) && !is_held_out(22, 49) && !is_held_out(u32::MAX, u32::MAX));
}

#[test]
fn training_reaches_nearly_all_other_pairs() {
    let data = Dataset::new(0);
    let mut seen = HashSet::new();
    for i in 0..80_000 {
        for message in data.sft_example(i) {
            seen.extend(set_up(&message.content));
        }
    }
    // 5,049 valid pairs, less 1,000, less the article's where that is not one of them.
    let available = 5_049 - HELD_OUT - usize::from(!is_held_out(22, 48));
    assert!(seen.len() > available - 10, "{} of {available}", seen.len());
}

#[test]
fn every_character_of_the_data_is_in_the_vocabulary_and_every_one_is_used() {
    let tokenizer = Tokenizer::embedded();
    let data = Dataset::new(9);
    let mut used = BTreeSet::new();
    for i in 0..N {
        for Message { content, .. } in data.sft_example(i) {
            tokenizer.encode(&content).unwrap();
            used.extend(content.chars().filter(|c| !c.is_ascii()));
        }
        let text = data.pretrain_text(i);
        tokenizer.encode(&text).unwrap();
        used.extend(text.chars().filter(|c| !c.is_ascii()));
    }
    // Control tokens, line break, 95 ASCII characters, the rest.
    assert_eq!(tokenizer.vocab(), 8 + 1 + 95 + used.len());
}

#[test]
fn every_dialogue_renders_and_fits() {
    let tokenizer = Tokenizer::embedded();
    let data = Dataset::new(5);
    for i in 0..5_000 {
        let dialogue = data.sft_example(i);
        let rendered = chatglm3::render(&dialogue, Ending::EndOfText).unwrap();
        let encoded = encode(&rendered, tokenizer, LossMask::NextRole).unwrap();
        assert!(encoded.ids.len() <= MAX_DIALOGUE_TOKENS, "{dialogue:?}");
        assert!(encoded.loss_mask.last() == Some(&true));
    }
}

#[test]
fn an_example_depends_on_seed_and_number_alone() {
    let forward: Vec<_> = (0..200).map(|i| Dataset::new(4).sft_example(i)).collect();
    let data = Dataset::new(4);
    let backward: Vec<_> = (0..200).rev().map(|i| data.sft_example(i)).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    assert_ne!(
        forward,
        (0..200)
            .map(|i| Dataset::new(5).sft_example(i))
            .collect::<Vec<_>>()
    );
    // Far apart numbers have data too, and the two stages differ.
    assert!(!data.sft_example(u64::MAX).is_empty());
    assert_ne!(data.sft_example(0)[1].content, data.pretrain_text(0));
}

/// Each arithmetic answer is evaluated anew, on the text alone.
#[test]
fn equations_of_the_pre_training_text_are_right() {
    let data = Dataset::new(8);
    let mut equations = 0;
    for i in 0..3_000 {
        for line in data.pretrain_text(i).lines() {
            let Some((left, right)) = line.split_once('=') else {
                continue;
            };
            if line.contains('x') || !line.is_ascii() || line.contains(' ') {
                continue;
            }
            let at = left.find(['+', '-', '*', '/']).unwrap();
            let a: i64 = left[..at].parse().unwrap();
            let b: i64 = left[at + 1..].parse().unwrap();
            let value: i64 = right.parse().unwrap();
            let holds = match &left[at..=at] {
                "+" => a + b == value,
                "-" => a - b == value && value >= 0,
                "*" => a * b == value,
                _ => value * b == a,
            };
            assert!(holds, "{line}");
            equations += 1;
        }
    }
    assert!(equations > 10_000, "{equations}");
}
