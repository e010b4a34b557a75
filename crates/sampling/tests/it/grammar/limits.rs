//! How large a grammar may be, and which limit an error names.

use llm_sampling::grammar::{Grammar, GrammarError, JsonConfig, MAX_DEPTH, Vocabulary, Whitespace};

use super::errors::{regex, schema};
use super::vocabulary;

/// What there would be too many of.
fn too_many(error: &GrammarError) -> &'static str {
    match error {
        GrammarError::TooLarge { what, .. } => what,
        other => panic!("another error: {other}"),
    }
}

const BYTES: &str = "bytes of memory at each stage of its making";
const PARTS: &str = "parts of a schema's expression";
const OPTIONAL: &str = "items of prefixItems that may be missing";

#[test]
fn automata_that_are_too_large() {
    for pattern in [
        r"(?:a{1000}){1000}",
        r"[ab]*a[ab]{20}",
        r"\w{5000}",
        r"(?:\w{50}\d{50}){50}",
        "a{4294967295}",
    ] {
        assert_eq!(too_many(&regex(pattern)), BYTES, "{pattern}");
    }
    let error = regex("a{4294967295}").to_string();
    let want = "a grammar must have at most 16777216 bytes of memory at each stage of its making, got more";
    assert_eq!(error, want);
    let error = schema(r#"{"minLength": 4294967296}"#);
    assert_eq!(too_many(&error), BYTES);
    let error = schema(r#"{"type": "array", "minItems": 1e9}"#);
    assert_eq!(too_many(&error), BYTES);
    assert_eq!(too_many(&regex("a{65535}")), "states");
    assert!(Grammar::regex(&vocabulary(&["a", "b"]), "a{65000}").is_ok());
    // Each refers to the one before it twice.
    let mut doubled = r##"{"$ref": "#/$defs/d30", "$defs": {"d0": {"type": "null"}"##.to_owned();
    for i in 1..=30 {
        let one = format!(r##"{{"$ref": "#/$defs/d{}"}}"##, i - 1);
        doubled += &format!(r#", "d{i}": {{"prefixItems": [{one}, {one}]}}"#);
    }
    assert_eq!(too_many(&schema(&(doubled + "}}"))), PARTS);
}

/// Before their expressions are made, which would take hundreds of megabytes.
#[test]
fn patterns_with_too_many_ranges() {
    const RANGES: &str = "ranges of characters";
    for class in [r"\w", r"\W", r"[\w]", r"\p{L}", r"[a\PL]", r"(\d)"] {
        let many = class.repeat(8000);
        assert_eq!(too_many(&regex(&many)), RANGES, "{class}");
    }
    let error = schema(&format!(r#"{{"pattern": "{}"}}"#, r"\\p{L}".repeat(2000)));
    let GrammarError::Pattern { source, .. } = error else {
        panic!("another error: {error}");
    };
    assert_eq!(too_many(&source), RANGES);
}

/// On a small stack, as they are written within one another.
#[test]
fn too_many_items_that_may_be_missing() {
    let work = || {
        let items = |n: usize, last: &str| {
            let first = "{},".repeat(n - 1);
            format!(r#"{{"prefixItems": [{first}{last}], "items": false}}"#)
        };
        let nulls = |n: usize| items(n, "{}").replace("{}", r#"{"const":1}"#);
        let falses = ["false"; 10_000].join(",");
        let falses = format!(r#"{{"prefixItems": [{falses}]}}"#);
        assert_eq!(too_many(&schema(&falses)), OPTIONAL);
        assert_eq!(too_many(&schema(&nulls(258))), OPTIONAL);
        // 256 may be missing, as the first has none before it.
        let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let vocabulary = Vocabulary::new(&bytes, &[], &[]).unwrap();
        let config = JsonConfig::new(Whitespace::Compact);
        assert!(Grammar::json_schema(&vocabulary, &nulls(257), &config).is_ok());
        // Arrays within the last items of arrays: the sum counts.
        let mut nested = "{}".to_owned();
        for _ in 0..50 {
            nested = items(200, &nested);
        }
        assert_eq!(too_many(&schema(&nested.replace("{}", "true"))), OPTIONAL);
        // Required items are not written within one another.
        let required = items(4000, "{}").replace("{}", "{\"const\":1}");
        let required = required.replace("\"items\": false", "\"minItems\": 4000");
        assert!(Grammar::json_schema(&vocabulary, &required, &config).is_ok());
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(work).unwrap().join().unwrap();
}

#[test]
fn searches_for_dead_ends_that_are_too_long() {
    let letters: Vec<char> = ('0'..='9').chain('a'..='z').chain('A'..='Z').collect();
    let mut tokens = Vec::new();
    for a in &letters {
        for b in &letters {
            tokens.extend(letters.iter().map(|c| format!("{a}{b}{c}")));
        }
    }
    // There is no token with a "!", which is only clear after all tokens are followed from all states.
    let error = |n: usize| {
        let pattern = format!("[0-9a-zA-Z]{{{n}}}!");
        Grammar::regex(&vocabulary(&tokens), &pattern).unwrap_err()
    };
    assert_eq!(error(20), GrammarError::NoTokens);
    let what = "bytes of tokens to follow in the search for dead ends";
    assert_eq!(too_many(&error(1500)), what);
}

#[test]
fn objects_with_many_members_are_not_too_large() {
    let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let vocabulary = Vocabulary::new(&bytes, &[], &[]).unwrap();
    let config = JsonConfig::new(Whitespace::Compact);
    for value in ["integer", "number", "string"] {
        let members: Vec<_> = (0..100)
            .map(|i| format!(r#""m{i}": {{"type": "{value}"}}"#))
            .collect();
        let schema = format!(r#"{{"properties": {{{}}}}}"#, members.join(", "));
        let grammar = Grammar::json_schema(&vocabulary, &schema, &config).unwrap();
        let accepts = |text: &str| {
            let ids: Vec<u32> = text.bytes().map(u32::from).collect();
            let state = grammar.after(&ids);
            state.is_ok_and(|state| grammar.is_complete(state))
        };
        let one = if value == "string" { r#""x""# } else { "-1" };
        let object = |names: &[usize]| {
            let members: Vec<_> = names.iter().map(|i| format!(r#""m{i}":{one}"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        let all: Vec<usize> = (0..100).collect();
        for names in [&[][..], &[0], &[99], &[3, 50, 98], &[49, 50], &all] {
            assert!(accepts(&object(names)), "{names:?}");
        }
        for names in [&[1, 0][..], &[99, 50], &[7, 7]] {
            assert!(!accepts(&object(names)), "{names:?}");
        }
    }
}

#[test]
fn schemas_that_are_too_deep() {
    let deep = |n: usize| {
        format!(
            "{}{{\"type\": \"null\"}}{}",
            "{\"items\":".repeat(n),
            "}".repeat(n)
        )
    };
    assert!(matches!(
        schema(&deep(MAX_DEPTH)),
        GrammarError::Depth { .. }
    ));
    let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let vocabulary = Vocabulary::new(&bytes, &[], &[]).unwrap();
    let config = JsonConfig::new(Whitespace::Compact);
    assert!(Grammar::json_schema(&vocabulary, &deep(8), &config).is_ok());
    let mut chain = r##"{"$ref": "#/$defs/d100", "$defs": {"d0": {}"##.to_owned();
    for i in 1..=100 {
        chain += &format!(r##", "d{i}": {{"$ref": "#/$defs/d{}"}}"##, i - 1);
    }
    assert!(matches!(
        schema(&(chain + "}}")),
        GrammarError::Depth { .. }
    ));
}
