//! `eval`: the exam.

use crate::models::endless;
use crate::program::{json, succeed};

#[test]
fn a_table_has_a_row_for_each_language() {
    let table = succeed(&["eval", "-n", "5"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    for (line, language) in lines[1..].iter().zip(["zh", "en"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], [language, "5"], "{table}");
        assert_eq!((words[3], words[5], words.len()), ("%", "%", 7), "{table}");
    }
    let table = succeed(&["eval", "-n", "2", "--language", "en"]);
    assert_eq!(table.lines().count(), 2);
}

#[test]
fn json_counts() {
    let object = json(&["eval", "-n", "5", "--language", "zh", "--failures", "5"]);
    let result = &object["results"][0];
    assert_eq!(object["results"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&result["language"], &result["problems"]),
        (&"zh".into(), &5.into())
    );
    let right = result["final_answer_right"].as_u64().unwrap();
    assert_eq!(
        result["final_answer_share"].as_f64().unwrap(),
        right as f64 / 5.0
    );
    let failures = object["failures"].as_array().unwrap();
    let wrong = failures
        .iter()
        .filter(|f| f["final_answer_right"] == false)
        .count() as u64;
    assert_eq!(wrong, 5 - right);
}

#[test]
fn threads_change_no_answer() {
    let run = |threads| {
        let mut object = json(&["eval", "-n", "4", "--failures", "4", "--threads", threads]);
        for result in object["results"].as_array_mut().unwrap() {
            result["seconds"] = 0.into();
        }
        object
    };
    assert_eq!(run("1"), run("2"));
}

#[test]
fn the_embedded_model_passes() {
    let object = json(&["eval", "-n", "40"]);
    for result in object["results"].as_array().unwrap() {
        assert!(
            result["final_answer_right"].as_u64().unwrap() >= 38,
            "{object}"
        );
    }
}

#[test]
fn wrong_answers_are_printed_on_request() {
    let folder = endless(128);
    let path = folder.path().to_str().unwrap();
    let args = [
        "eval",
        "-n",
        "3",
        "--language",
        "zh",
        "--model",
        path,
        "--failures",
        "2",
    ];
    let text = succeed(&args);
    assert_eq!(
        text.matches("\nwrong result, expected ").count(),
        2,
        "{text}"
    );
    let object = json(&args);
    assert_eq!(object["failures"].as_array().unwrap().len(), 2);
    assert_eq!(object["results"][0]["final_answer_right"], 0);
}
