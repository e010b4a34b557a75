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
