//! The program without a verb.

use crate::QUESTION;
use crate::program::{json, succeed};

#[test]
fn the_tour_is_short_and_ends_with_an_answer() {
    let text = succeed(&[]);
    for block in [
        "chat format",
        "model",
        "RoPE",
        "attention",
        "KV cache",
        "SwiGLU",
        "sampling",
        "speed",
        "GPU",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(block)),
            "{block}: {text}"
        );
    }
    assert!(text.contains(&format!("\n{QUESTION}\n")), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 120),
        "{text}"
    );
    let answer = succeed(&["chat", QUESTION]);
    assert!(
        text.contains(&format!("{QUESTION}\n{answer}\nNext: ")),
        "{text}"
    );
    assert!(
        text.trim_end().lines().last().unwrap().contains("--help"),
        "{text}"
    );
    let n_before = text.lines().take_while(|line| *line != QUESTION).count();
    assert!(n_before <= 23, "{text}");
}

#[test]
fn the_tour_of_the_trained_model_is_right() {
    assert!(succeed(&["--quiet"]).ends_with("18只。\n"));
}

#[test]
fn json_has_numbers_that_fit_together() {
    let object = json(&[]);
    let blocks = &object["blocks"];
    let n_tokens = blocks["prompt_ids"].as_array().unwrap().len();
    assert_eq!(blocks["rope"]["position"], n_tokens - 1);
    for plane in blocks["rope"]["planes"].as_array().unwrap() {
        let angle = plane["angle"].as_f64().unwrap();
        assert!((plane["turned"][0].as_f64().unwrap() - angle.cos()).abs() < 1e-6);
        assert!((plane["turned"][1].as_f64().unwrap() - angle.sin()).abs() < 1e-6);
    }
    let looks = blocks["attention"]["looks_at"].as_array().unwrap();
    let seen: f64 = looks
        .iter()
        .map(|look| look["weight"].as_f64().unwrap())
        .sum();
    assert!(seen > 0.0 && seen <= 1.0 + 1e-6, "{seen}");
    // Keys and values of 5 layers, 2 heads of 32 features, 4 bytes each.
    assert_eq!(blocks["kvcache"]["bytes_per_token"], 2 * 5 * 2 * 32 * 4);
    assert_eq!(object["answer"]["n_prompt_tokens"], n_tokens);
    // The same formula in f32 on numbers of a normal distribution: some units in the last place.
    if !object["gpu"]["adapter"].is_null() {
        let difference = &object["gpu"]["rope"]["largest_difference"];
        assert!(difference.as_f64().unwrap() < 2e-6, "{difference}");
    }
    let likeliest = &blocks["sampling"]["likeliest"][0];
    assert_eq!(likeliest["token"], blocks["sampling"]["greedy"]);
}
