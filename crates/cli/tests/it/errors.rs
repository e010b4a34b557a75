//! Bad input gets a clear error on standard error, nothing on standard output, and exit code 2 or 1.

use llm_blocks::decoder::checkpoint::{self, WeightType};
use llm_blocks::tiny_model::TinyModel;

use crate::program::{run, run_with_input};

/// The message of a run that must fail with this exit code.
fn fails(args: &[&str], code: i32) -> String {
    let ran = run(args);
    assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    assert_eq!(ran.stdout, "", "{args:?}");
    assert!(
        ran.stderr.starts_with("error: "),
        "{args:?}: {}",
        ran.stderr
    );
    ran.stderr
}

/// It must fail with exit code 2 and say all of this.
fn refused(args: &[&str], says: &[&str]) {
    let message = fails(args, 2);
    for words in says {
        assert!(
            message.contains(words),
            "{args:?}: {words:?} is not in {message}"
        );
    }
}

#[test]
fn unknown_flags_and_verbs() {
    refused(&["--frobnicate"], &["--frobnicate"]);
    refused(&["chat", "--frobnicate", "hi"], &["--frobnicate"]);
    refused(&["frobnicate"], &["frobnicate"]);
    refused(&["chat", "one", "two"], &["two"]);
    refused(&["eval", "--language", "fr"], &["fr", "zh"]);
}

#[test]
fn temperatures_that_are_none() {
    for (args, got) in [
        (&["chat", "hi", "--temperature", "-1"][..], "got -1"),
        (&["chat", "hi", "--temperature=-1"], "got -1"),
        (&["generate", "hi", "--temperature", "-1"], "got -1"),
        (&["chat", "hi", "--temperature", "0"], "got 0"),
        (&["chat", "hi", "--temperature", "nan"], "got NaN"),
        (&["chat", "hi", "--temperature", "inf"], "got inf"),
    ] {
        refused(
            args,
            &["temperature must be finite and > 0", got, "\nhint: "],
        );
    }
    refused(
        &["chat", "hi", "--temperature", "warm"],
        &["warm", "--temperature"],
    );
}

#[test]
fn top_k_and_top_p_that_keep_nothing() {
    refused(&["chat", "hi", "--top-k", "-3"], &["-3", "--top-k"]);
    for p in ["0", "-0.5", "1.5", "nan"] {
        refused(
            &["generate", "hi", "--top-p", p],
            &["top_p must be in (0, 1]", "hint: "],
        );
    }
}

#[test]
fn counts_that_are_none() {
    refused(
        &["chat", "hi", "--max-new-tokens", "0"],
        &["--max-new-tokens must be at least 1, got 0"],
    );
    refused(
        &["chat", "hi", "--threads", "0"],
        &["--threads must be in 1..=1024, got 0"],
    );
    refused(&["--threads", "0"], &["got 0"]);
    refused(&["eval", "--threads", "100000"], &["got 100000"]);
    refused(&["chat", "hi", "--seed", "-1"], &["-1"]);
    refused(&["eval", "-n", "0"], &["-n must be at least 1, got 0"]);
    refused(&["eval", "-n", "1001"], &["1000 held-out problems", "1001"]);
}

#[test]
fn empty_prompts() {
    for args in [
        &["chat", ""][..],
        &["chat", " \n"],
        &["generate", ""],
        &["chat"],
        &["generate"],
    ] {
        refused(args, &["the prompt must not be empty", "hint: "]);
    }
    let ran = run_with_input(&["chat"], b"\n\n");
    assert_eq!(ran.code, Some(2));
}

#[test]
fn characters_outside_the_vocabulary_are_named() {
    for verb in ["chat", "generate"] {
        refused(&[verb, "鸡🐔和ünï鸡🐔"], &["'🐔'", "'ü'", "'ï'", "hint: "]);
        let message = fails(&[verb, "鸡🐔🐔"], 2);
        assert_eq!(message.matches('🐔').count(), 1, "{message}");
        assert!(!message.contains('鸡'), "{message}");
    }
    refused(&["chat", "tab\there"], &["'\\t'"]);
    refused(&["chat", "hi", "--system", "Ж"], &["'Ж'"]);
}

#[test]
fn prompts_longer_than_the_context() {
    let long = "1+".repeat(300);
    for verb in ["chat", "generate"] {
        refused(
            &[verb, &long],
            &["a prompt may have at most 511 tokens, got 60", "hint: "],
        );
    }
}

#[test]
fn standard_input_that_is_no_text() {
    let ran = run_with_input(&["chat"], b"\xff\xfe");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("UTF-8"), "{}", ran.stderr);
    let ran = run_with_input(&["generate"], &vec![b'1'; (1 << 20) + 1]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("1048576 bytes"), "{}", ran.stderr);
}

#[test]
fn weight_files_that_are_missing_or_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let path = file.to_str().unwrap();
    let check = |words: &str| {
        for args in [
            &["chat", "hi", "--model", path][..],
            &["generate", "hi", "--model", path],
            &["eval", "-n", "1", "--model", path],
        ] {
            let message = fails(args, 1);
            assert!(message.contains(words), "{words:?} is not in {message}");
            assert!(
                message.contains(path) && message.contains("hint: "),
                "{message}"
            );
        }
    };
    check("No such file");

    let whole =
        checkpoint::to_bytes(TinyModel::chat_model().unwrap().decoder(), WeightType::F16).unwrap();
    for damaged in [
        vec![],
        b"not a safetensors file".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat(),
    ] {
        std::fs::write(&file, damaged).unwrap();
        check("not a valid safetensors file");
    }
    // A value that is no number.
    let mut nan = whole;
    let end = nan.len();
    nan[end - 2..].copy_from_slice(&[0, 0x7e]);
    std::fs::write(&file, nan).unwrap();
    check("must be finite");
    // A folder without a configuration.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    check("config.json");
    std::fs::write(file.join("config.json"), "{").unwrap();
    check("config.json");
}

#[test]
fn settings_that_a_dialect_does_not_have() {
    refused(
        &[
            "generate",
            "hi",
            "--dialect",
            "openai",
            "--top-k",
            "5",
            "--presence-penalty",
            "1",
        ],
        &["OpenAI has no setting top_k", "hint: "],
    );
    refused(
        &["chat", "hi", "--presence-penalty", "1"],
        &["Hugging Face has no setting presence_penalty", "--dialect"],
    );
    refused(
        &[
            "chat",
            "hi",
            "--dialect",
            "openai",
            "--presence-penalty",
            "3",
        ],
        &["got 3", "hint: "],
    );
    refused(&["chat", "hi", "--min-p", "2"], &["got 2", "hint: "]);
    refused(
        &["chat", "hi", "--repetition-penalty", "0"],
        &["got 0", "hint: "],
    );
    refused(
        &["chat", "hi", "--no-repeat-ngram", "0"],
        &["got 0", "hint: "],
    );
    refused(&["chat", "hi", "--forbid", ""], &["--forbid needs a text"]);
    refused(&["chat", "hi", "--forbid", "\u{1F600}"], &["vocabulary"]);
    refused(&["chat", "hi", "--dialect", "gpt"], &["gpt", "llama.cpp"]);
}

#[test]
fn forms_that_no_text_has() {
    refused(
        &["generate", "hi", "--match", "a("],
        &["--match: the pattern must be a regular expression"],
    );
    refused(
        &["generate", "hi", "--match", "\u{1F600}"],
        &["--match: ", "tokens"],
    );
    refused(
        &["chat", "hi", "--json-schema", "/nowhere.json"],
        &["cannot read /nowhere.json"],
    );
    refused(
        &["chat", "hi", "--match", "a", "--json-schema", "b"],
        &["--json-schema"],
    );
}
