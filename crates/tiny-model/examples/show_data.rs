//! Prints examples of the generated training data, and how long they are.
//!
//! `cargo run --release -p llm-tiny-model --example show_data -- [COUNT] [SEED]`

use std::collections::BTreeSet;

use llm_tiny_model::data::Dataset;
use llm_tiny_model::tokenizer::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let data = Dataset::new(seed);
    for i in 0..count {
        println!("--- dialogue {i}");
        for message in data.sft_example(i) {
            println!("<|{}|>\n{}", message.role.name(), message.content);
        }
    }
    for i in 0..count {
        println!("--- text {i}\n{}", data.pretrain_text(i));
    }
    statistics(&data);
    Ok(())
}

/// Lengths over 20,000 examples of each stage.
fn statistics(data: &Dataset) {
    const N: u64 = 20_000;
    // Token counts: one for each character, two for each message, three for a dialogue.
    let mut groups = [
        ("with Chinese problems", vec![]),
        ("with English problems", vec![]),
        ("other", vec![]),
    ];
    let mut characters = BTreeSet::new();
    for i in 0..N {
        let dialogue = data.sft_example(i);
        let length = 3 + dialogue
            .iter()
            .map(|m| m.content.chars().count() + 2)
            .sum::<usize>();
        let has = |words: &str| dialogue.iter().any(|m| m.content.starts_with(words));
        let group = if has("x chickens") {
            1
        } else if has("设鸡有") {
            0
        } else {
            2
        };
        groups[group].1.push(length);
        characters.extend(dialogue.iter().flat_map(|m| m.content.chars()));
    }
    let total: usize = groups.iter().flat_map(|(_, lengths)| lengths).sum();
    println!("--- {N} dialogues, {total} tokens");
    for (name, lengths) in &groups {
        report(name, lengths, total);
    }
    let lengths: Vec<usize> = (0..N)
        .map(|i| {
            let text = data.pretrain_text(i);
            characters.extend(text.chars());
            text.chars().count()
        })
        .collect();
    report("pre-training texts", &lengths, lengths.iter().sum());
    let beyond: String = characters.iter().filter(|c| !c.is_ascii()).collect();
    println!(
        "{} characters beyond ASCII: {beyond}",
        beyond.chars().count()
    );
    println!("vocabulary: {} tokens", Tokenizer::embedded().vocab());
}

fn report(name: &str, lengths: &[usize], total: usize) {
    let sum: usize = lengths.iter().sum();
    let n = lengths.len().max(1);
    let longest = lengths.iter().max().copied().unwrap_or(0);
    println!(
        "{name}: {n} of {:.1} tokens on average, {longest} at most, {:.1} % of all tokens",
        sum as f64 / n as f64,
        100.0 * sum as f64 / total.max(1) as f64
    );
}
