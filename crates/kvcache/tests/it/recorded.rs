//! Examples print what their first lines say.

#[expect(dead_code, reason = "the example's main prints the report")]
#[path = "../../examples/compute_or_memory.rs"]
mod compute_or_memory;
#[expect(dead_code, reason = "the example's main prints the report")]
#[path = "../../examples/light_boat.rs"]
mod light_boat;

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
fn the_poem_is_written_as_recorded() {
    let report = light_boat::report().unwrap();
    assert_eq!(
        report,
        recorded(include_str!("../../examples/light_boat.rs"))
    );
    assert!(report.ends_with("all: 轻舟已过万重山, 56 without a cache, 11 with one\n"));
}

#[test]
fn prefill_is_bound_by_arithmetic_and_decoding_by_memory() {
    let report = compute_or_memory::report().unwrap();
    let source = include_str!("../../examples/compute_or_memory.rs");
    assert_eq!(report, recorded(source));
    // Long prompts, and no decode step.
    let bound = |line: &&str| line.ends_with("arithmetic");
    let lines: Vec<&str> = report.lines().filter(bound).collect();
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line.starts_with("prefill")),
        "{report}"
    );
}
