//! Examples print what their first lines say.

#[expect(dead_code, reason = "the example's main prints the report")]
#[path = "../../examples/forbidden_tokens.rs"]
mod forbidden_tokens;
#[cfg(feature = "grammar")]
#[expect(dead_code, reason = "the example's main prints the report")]
#[path = "../../examples/json_answer.rs"]
mod json_answer;
#[expect(dead_code, reason = "the example's main prints the report")]
#[path = "../../examples/seven_modes.rs"]
mod seven_modes;

/// The text between the first two fences of a source.
fn recorded(source: &str) -> String {
    let lines = source
        .lines()
        .map(|line| line.strip_prefix("//! ").unwrap_or(line));
    let fence = |line: &&str| !line.starts_with("```");
    let recorded = lines.skip_while(fence).skip(1).take_while(fence);
    recorded.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_seven_modes_say_what_is_recorded() {
    let source = include_str!("../../examples/seven_modes.rs");
    let report = seven_modes::report().unwrap();
    assert_eq!(report.lines().filter(|line| line.contains(':')).count(), 7);
    assert_eq!(report, recorded(source));
}

#[test]
fn forbidden_tokens_do_not_come() {
    let source = include_str!("../../examples/forbidden_tokens.rs");
    let report = forbidden_tokens::report().unwrap();
    assert_eq!(report, recorded(source));
    let forbidden = |line: &str| line.contains("勇敢") || line.chars().any(|c| c.is_ascii_digit());
    let lines: Vec<bool> = report.lines().map(forbidden).collect();
    assert_eq!(lines, [true, false]);
}

#[cfg(feature = "grammar")]
#[test]
fn an_answer_follows_its_schema() {
    let source = include_str!("../../examples/json_answer.rs");
    let report = json_answer::report().unwrap();
    assert_eq!(report, recorded(source));
    let answer = report
        .lines()
        .find_map(|line| line.strip_prefix("schema: "));
    let answer: serde_json::Value = serde_json::from_str(answer.unwrap()).unwrap();
    assert_eq!(answer, serde_json::json!({"degrees": 21, "sky": "sunny"}));
}
