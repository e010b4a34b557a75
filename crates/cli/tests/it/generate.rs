//! `generate`: continuations.

use crate::program::{json, run_with_input, succeed};

#[test]
fn json_says_what_the_text_says() {
    let object = json(&["generate", "12+30=", "--max-new-tokens", "4"]);
    assert_eq!(object["prompt"], "12+30=");
    assert_eq!(object["model"], "base");
    assert_eq!(object["n_prompt_tokens"], 8); // [gMASK] sop and 6 characters
    assert!(object["n_new_tokens"].as_u64().unwrap() <= 4);
    let text = succeed(&["generate", "12+30=", "--max-new-tokens", "4"]);
    assert_eq!(text, format!("{}\n", object["reply"].as_str().unwrap()));
}

#[test]
fn the_base_model_can_add() {
    let text = succeed(&["generate", "12+30=", "--max-new-tokens", "2"]);
    assert_eq!(text, "42\n");
}

#[test]
fn a_text_may_come_on_standard_input() {
    let args = [
        "generate",
        "--max-new-tokens",
        "5",
        "--temperature",
        "1",
        "--seed",
        "3",
    ];
    let ran = run_with_input(&args, "鸡有20只\n".as_bytes());
    let argument = succeed(&[&args[..], &["鸡有20只"]].concat());
    assert_eq!((ran.code, ran.stdout), (Some(0), argument));
}

#[test]
fn the_model_can_be_chosen() {
    assert_eq!(
        json(&["generate", "1+1=", "--model", "chat"])["model"],
        "chat"
    );
}

#[test]
fn bans_and_penalties_hold() {
    assert_eq!(
        succeed(&[
            "generate",
            "12+30=",
            "--max-new-tokens",
            "2",
            "--forbid",
            "42"
        ])
        .chars()
        .next(),
        Some('4')
    ); // only the whole text is forbidden
    for dialect in ["hugging-face", "vllm"] {
        let text = succeed(&[
            "generate",
            "12+30=",
            "--max-new-tokens",
            "30",
            "--forbid",
            "4",
            "--forbid",
            "2",
            "--dialect",
            dialect,
        ]);
        assert!(!text.contains(['4', '2']), "{text}");
    }
    // After 1, 1 came a 1 already: the second pair cannot come again.
    let pairs = succeed(&[
        "generate",
        "1111",
        "--max-new-tokens",
        "40",
        "--no-repeat-ngram",
        "2",
    ]);
    let made: Vec<char> = "1111".chars().chain(pairs.trim_end().chars()).collect();
    let mut seen: Vec<&[char]> = Vec::new();
    for pair in made.windows(2).skip(3) {
        assert!(!seen.contains(&pair), "{pair:?} twice in {made:?}");
        seen.push(pair);
    }
    let kept = ["generate", "1", "--max-new-tokens", "9"];
    let with = |more: &[&str]| succeed(&[&kept[..], more].concat());
    // A penalty of 1 and a bias of nothing leave the greedy text as it is, in every dialect.
    for dialect in ["hugging-face", "llama.cpp", "vllm"] {
        assert_eq!(
            with(&["--repetition-penalty", "1", "--dialect", dialect]),
            with(&[])
        );
    }
    // Only the likeliest token is so likely.
    assert_eq!(
        with(&["--min-p", "1", "--temperature", "3", "--seed", "5"]),
        with(&[])
    );
}

#[test]
fn a_text_can_be_told_its_form() {
    let made = |args: &[&str]| succeed(&[&["generate", "12+30="], args].concat());
    assert_eq!(made(&["--match", "7"]), "7\n"); // and then an end token, as nothing else may come
    let drawn = |seed| {
        made(&[
            "--match",
            "(?:鸡|兔)有[1-9][0-9]?只",
            "--temperature",
            "3",
            "--seed",
            seed,
        ])
    };
    for seed in ["1", "2", "3"] {
        let text = drawn(seed);
        let number = text
            .strip_prefix("鸡有")
            .or_else(|| text.strip_prefix("兔有"))
            .and_then(|rest| rest.strip_suffix("只\n"))
            .unwrap();
        assert!(
            (1..100).contains(&number.parse::<u8>().unwrap()),
            "{text:?}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    std::fs::write(
        &schema,
        r#"{"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["a"]}"#,
    )
    .unwrap();
    let text = made(&["--json-schema", schema.to_str().unwrap()]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(value["a"].as_u64().unwrap() < 100, "{text}");
}
