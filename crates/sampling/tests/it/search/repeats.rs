//! The example of beam search that repeats itself prints what its first lines say.

#[expect(dead_code, reason = "the example's main prints the report")]
#[path = "../../../examples/beam_repeats.rs"]
mod beam_repeats;

#[test]
fn the_example_says_what_it_prints() {
    let source = include_str!("../../../examples/beam_repeats.rs");
    let lines = source
        .lines()
        .map(|line| line.trim_start_matches("//!").trim());
    let fence = |line: &&str| !line.starts_with("```");
    let recorded: Vec<&str> = lines.skip_while(fence).skip(1).take_while(fence).collect();
    assert_eq!(recorded.len(), 3);
    let report = beam_repeats::report().unwrap();
    assert_eq!(report.lines().collect::<Vec<_>>(), recorded);
}
