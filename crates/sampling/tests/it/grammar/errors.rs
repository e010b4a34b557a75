//! What is refused, and by which error.

use llm_sampling::grammar::{
    Grammar, GrammarError, JsonConfig, MAX_SOURCE, Vocabulary, Whitespace,
};
use llm_sampling::{Candidates, Chain, Context, Processor, SamplingError, processor};
use ndarray::array;

use super::vocabulary;

pub(super) fn regex(pattern: &str) -> GrammarError {
    Grammar::regex(&vocabulary(&["a", "b"]), pattern).unwrap_err()
}

pub(super) fn schema(schema: &str) -> GrammarError {
    let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let vocabulary = Vocabulary::new(&bytes, &[], &[]).unwrap();
    Grammar::json_schema(&vocabulary, schema, &JsonConfig::new(Whitespace::Compact)).unwrap_err()
}

#[test]
fn vocabularies_that_are_none() {
    let none: [&str; 0] = [];
    assert_eq!(
        Vocabulary::new(&none, &[], &[]).unwrap_err(),
        SamplingError::Vocab(0).into()
    );
    let refused = GrammarError::from(SamplingError::TokenId { token: 2, vocab: 2 });
    assert_eq!(
        Vocabulary::new(&["a", "b"], &[2], &[]).unwrap_err(),
        refused
    );
    assert_eq!(
        Vocabulary::new(&["a", "b"], &[1], &[0, 2]).unwrap_err(),
        refused
    );
    // The same 64 KiB again and again; nothing is copied before it is counted.
    let token = vec![b'x'; 1 << 16];
    let tokens = vec![token.as_slice(); 1 << 16];
    let refused = GrammarError::VocabularyBytes(1 << 32);
    assert_eq!(Vocabulary::new(&tokens, &[], &[]).unwrap_err(), refused);
}

#[test]
fn patterns_that_are_none() {
    for (pattern, offset) in [
        ("a(b", 1),
        ("*a", 0),
        ("a[b", 1),
        ("a{2,1}", 1),
        (r"\q", 0),
        (r"\p{Nothing}", 0),
    ] {
        let error = regex(pattern);
        assert!(
            matches!(error, GrammarError::Regex { offset: at, .. } if at == offset),
            "{error}"
        );
    }
    assert_eq!(
        regex("a(b").to_string(),
        "the pattern must be a regular expression: unclosed group, at byte 1"
    );
    for pattern in [r"a\1", "(?=a)", r"(?-u:\xFF)"] {
        assert!(
            matches!(regex(pattern), GrammarError::Regex { .. }),
            "{pattern}"
        );
    }
    for pattern in [r"\ba", r"a\B"] {
        let error = regex(pattern);
        assert!(matches!(error, GrammarError::Unsupported(_)), "{error}");
    }
    let long = "a".repeat(MAX_SOURCE + 1);
    assert_eq!(regex(&long), GrammarError::SourceLen(MAX_SOURCE + 1));
    assert!(matches!(
        regex(&"(".repeat(5000)),
        GrammarError::Regex { .. }
    ));
}

#[test]
fn languages_without_texts() {
    assert_eq!(regex("a[b&&c]"), GrammarError::NoText);
    assert_eq!(regex(r"a\Ab"), GrammarError::NoText);
    assert_eq!(schema("false"), GrammarError::NoText);
    assert_eq!(schema(r#"{"enum": []}"#), GrammarError::NoText);
    assert_eq!(
        schema(r#"{"minLength": 2, "maxLength": 1}"#),
        GrammarError::NoText
    );
    assert_eq!(
        schema(r#"{"minItems": 2, "maxItems": 1}"#),
        GrammarError::NoText
    );
    assert_eq!(schema(r#"{"minimum": 1e18}"#), GrammarError::NoText); // more digits than an integer has here
    assert_eq!(
        schema(r#"{"prefixItems": [false], "minItems": 1}"#),
        GrammarError::NoText
    );
    let required = r#"{"properties": {"a": false}, "required": ["a"]}"#;
    assert_eq!(schema(required), GrammarError::NoText);
}

#[test]
fn languages_that_the_tokens_cannot_write() {
    assert_eq!(regex("c"), GrammarError::NoTokens);
    assert_eq!(regex("(?:abc)+"), GrammarError::NoTokens);
    // The tokens that could are special, or have no bytes.
    let vocabulary = Vocabulary::new(&["a", "b", ""], &[1], &[0]).unwrap();
    for pattern in ["a", "b", "ab"] {
        let error = Grammar::regex(&vocabulary, pattern).unwrap_err();
        assert_eq!(error, GrammarError::NoTokens);
    }
    assert!(Grammar::regex(&vocabulary, "a?").is_ok());
}

#[test]
fn schemas_that_are_no_json() {
    let error = schema("{\"type\":\n tru}");
    assert!(
        matches!(error, GrammarError::Json { line: 2, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("the schema must be JSON: expected ident, in line 2")
    );
    for text in [
        "",
        "{",
        "[1,]",
        "nul",
        "{} {}",
        "{\"a\": 1e999}",
        &"[".repeat(200),
    ] {
        assert!(matches!(schema(text), GrammarError::Json { .. }), "{text}");
    }
    let twice = schema(r#"{"type": "null", "type": "string"}"#);
    assert!(
        twice.to_string().contains("a name came twice: type"),
        "{twice}"
    );
    let long = " ".repeat(MAX_SOURCE + 1);
    assert_eq!(schema(&long), GrammarError::SourceLen(MAX_SOURCE + 1));
}

#[test]
fn keywords_with_values_that_they_cannot_have() {
    let cases = [
        ("1", ""),
        (r#"{"type": "text"}"#, "/type"),
        (r#"{"type": ["null", 1]}"#, "/type"),
        (r#"{"enum": 1}"#, "/enum"),
        (r#"{"anyOf": []}"#, "/anyOf"),
        (r#"{"anyOf": [1]}"#, "/anyOf/0"),
        (r#"{"$ref": 1}"#, "/$ref"),
        (r#"{"minimum": "1"}"#, "/minimum"),
        (r#"{"minLength": -1}"#, "/minLength"),
        (r#"{"maxItems": 1.5}"#, "/maxItems"),
        (r#"{"pattern": 1}"#, "/pattern"),
        (r#"{"prefixItems": {}}"#, "/prefixItems"),
        (r#"{"prefixItems": [1]}"#, "/prefixItems/0"),
        (r#"{"items": [1]}"#, "/items"),
        (r#"{"properties": []}"#, "/properties"),
        (
            r#"{"properties": {"a/b~": {"type": 1}}}"#,
            "/properties/a~1b~0/type",
        ),
        (r#"{"required": [1]}"#, "/required"),
        (r#"{"additionalProperties": 1}"#, "/additionalProperties"),
    ];
    for (text, place) in cases {
        let error = schema(text);
        assert!(
            matches!(&error, GrammarError::Keyword { at, .. } if at == place),
            "{text}: {error}"
        );
    }
    let error = schema(r#"{"properties": {"a": {"maxItems": -1}}}"#);
    let want = "the value at `/properties/a/maxItems` must be a whole number, not negative";
    assert_eq!(error.to_string(), want);
}

#[test]
fn keywords_that_are_not_known_here() {
    let cases = [
        (r#"{"not": {}}"#, "not", ""),
        (r#"{"type": "string", "oneOf": []}"#, "oneOf", ""),
        (r#"{"items": {"multipleOf": 2}}"#, "multipleOf", "/items"),
        (r#"{"patternProperties": {}}"#, "patternProperties", ""),
        (r#"{"uniqueItems": true}"#, "uniqueItems", ""),
        (r#"{"type": "number", "minimum": 1}"#, "minimum", ""),
        (r#"{"pattern": "a", "maxLength": 2}"#, "maxLength", ""),
        (r#"{"required": ["a"]}"#, "required", ""),
        (
            r#"{"properties": {"a": true}, "additionalProperties": {}}"#,
            "additionalProperties",
            "",
        ),
        (r#"{"enum": [1], "minimum": 0}"#, "minimum", ""),
        (r#"{"enum": [1], "const": 1}"#, "const", ""),
        (r#"{"anyOf": [true], "type": "null"}"#, "type", ""),
        (r#"{"allOf": [true, true]}"#, "allOf", ""),
    ];
    for (text, name, place) in cases {
        let error = schema(text);
        let right = matches!(&error, GrammarError::UnsupportedKeyword { at, keyword, .. } if at == place && keyword == name);
        assert!(right, "{text}: {error}");
    }
}

#[test]
fn patterns_of_schemas_say_where_they_are() {
    let error = schema(r#"{"items": {"pattern": "a("}}"#);
    assert!(
        matches!(&error, GrammarError::Pattern { at, .. } if at == "/items/pattern"),
        "{error}"
    );
    for pattern in [r"a^b", r"a\\b", r"(a$)b"] {
        let error = schema(&format!(r#"{{"pattern": "{pattern}"}}"#));
        let refused = matches!(&error, GrammarError::Pattern { source, .. } if matches!(**source, GrammarError::Unsupported(_)));
        assert!(refused, "{pattern}: {error}");
    }
}

/// What ECMA-262 reads in another way than the crate `regex`, or not at all.
#[test]
fn patterns_that_are_not_those_of_ecma_262() {
    let unsupported = [
        "[a&&b]",
        "[a--b]",
        "[a~~b]",
        "[a[b]]",
        "[[:alpha:]]",
        "[]a]",
        "[^]a]",
        "[--a]",
        "[^--a]",
        r"\Aa",
        r"a\z",
        r"\<a",
        r"a\>",
        r"\b{start}a",
        "(?i)a",
        "(?i:a)",
        "(?P<n>a)",
        "a**",
        "a{2}{3}",
        "a?+",
        "^*a",
        "a{ 2 }",
        "a{2, 3}",
        r"\a",
        r"\x{61}",
        r"\U00000061",
        r"[\x{61}]",
        r"[a-\x{7A}]",
        r"\pL",
        r"\p{sc:Greek}",
        r"\p{sc!=Greek}",
        r"[\pL]",
    ];
    for pattern in unsupported {
        let text = serde_json::json!({ "pattern": pattern }).to_string();
        let error = schema(&text);
        let refused = matches!(&error, GrammarError::Pattern { source, .. } if matches!(**source, GrammarError::Unsupported(_)));
        assert!(refused, "{pattern}: {error}");
    }
    for pattern in [
        r"[+-\d]", r"[\d-a]", r"[\w-z]", r"\1", "(?=a)", "(?!a)", r"\cJ", r"\0",
    ] {
        let text = serde_json::json!({ "pattern": pattern }).to_string();
        let error = schema(&text);
        let refused = matches!(&error, GrammarError::Pattern { source, .. } if matches!(**source, GrammarError::Regex { .. }));
        assert!(refused, "{pattern}: {error}");
    }
}

#[test]
fn identifiers_that_change_what_references_are_relative_to() {
    let root = r##"{"$id": "x", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"const": 1}}}"##;
    let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let vocabulary = Vocabulary::new(&bytes, &[], &[]).unwrap();
    let config = JsonConfig::new(Whitespace::Compact);
    assert!(Grammar::json_schema(&vocabulary, root, &config).is_ok());
    let property = r##"{"properties": {"$id": {"const": 1}, "a": {"$ref": "#/properties/$id"}}}"##;
    assert!(Grammar::json_schema(&vocabulary, property, &config).is_ok());
    let cases = [
        (
            r#"{"items": {"$id": "y", "type": "null"}}"#,
            "$id",
            "/items",
        ),
        (
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"$id": "y", "const": 1}}}"##,
            "$ref",
            "",
        ),
        // What is referred to has none itself, but lies in a schema that has one.
        (
            r##"{"items": {"$ref": "#/$defs/a/items"}, "$defs": {"a": {"$id": "y", "items": {"const": 1}}}}"##,
            "$ref",
            "/items",
        ),
    ];
    for (text, name, place) in cases {
        let error = schema(text);
        let right = matches!(&error, GrammarError::UnsupportedKeyword { at, keyword, .. } if at == place && keyword == name);
        assert!(right, "{text}: {error}");
    }
}

#[test]
fn references_that_lead_nowhere_or_in_circles() {
    for reference in [
        "other.json",
        "#/a",
        "#a",
        "#/$defs/b/c",
        "#/$defs/b/0",
        "#/anyOf/2",
    ] {
        let text = format!(r#"{{"anyOf": [{{"$ref": "{reference}"}}], "$defs": {{"b": {{}}}}}}"#);
        let error = schema(&text);
        let right = matches!(&error, GrammarError::Reference { at, .. } if at == "/anyOf/0");
        assert!(right, "{reference}: {error}");
    }
    let circles = [
        (r##"{"$ref": "#"}"##, ""),
        (r##"{"items": {"$ref": "#"}}"##, "/items"),
        (
            r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}"##,
            "/$defs/b/items",
        ),
    ];
    for (text, place) in circles {
        let error = schema(text);
        assert!(
            matches!(&error, GrammarError::Recursion { at, .. } if at == place),
            "{error}"
        );
    }
    // A circle by way of another place within itself.
    let error = schema(r##"{"properties": {"a": {"$ref": "#/properties"}}}"##);
    assert!(
        matches!(error, GrammarError::UnsupportedKeyword { .. }),
        "{error}"
    );
}

#[test]
fn rows_that_leave_their_grammar_are_named() {
    let grammar = Grammar::regex(&vocabulary(&["a", "b"]), "ab").unwrap();
    let contexts = [Context::new(&[], &[0]), Context::new(&[], &[0, 0, 7])];
    let mut logits = array![[0.0_f32; 3], [0.0; 3]];
    let refused = SamplingError::GrammarToken(1, 0);
    let applied = processor::apply_inplace(&mut logits, &contexts, &grammar);
    assert_eq!(applied.unwrap_err(), refused);
    assert_eq!(logits, array![[0.0_f32; 3], [0.0; 3]]);
    assert_eq!(
        refused.to_string(),
        "row 1 must follow its grammar, got token 0, which is not allowed there"
    );
    for token in [1, 2, 3, u32::MAX] {
        let refused = SamplingError::GrammarToken(0, token);
        assert_eq!(
            grammar.advance(grammar.start(), token).unwrap_err(),
            refused
        );
    }
}

#[test]
fn rows_whose_allowed_tokens_are_all_banned_are_named() {
    const MASKED: f32 = f32::NEG_INFINITY;
    let grammar = Grammar::regex(&vocabulary(&["a", "b"]), "ab").unwrap();
    let mut chain = Chain::new().with(grammar);
    let logits = array![[0.0, 0.0, 0.0], [0.0, MASKED, 0.0]];
    let contexts = [Context::new(&[], &[]), Context::new(&[], &[0])];
    let error = chain.sample(&logits, &contexts).unwrap_err();
    assert_eq!(error, SamplingError::MaskedRow { row: 1 });
    // A text that can neither go on nor be ended.
    let vocabulary = Vocabulary::new(&["a", "b"], &[], &[]).unwrap();
    let mut chain = Chain::new().with(Grammar::regex(&vocabulary, "a").unwrap());
    let error = chain
        .sample(&array![[0.0, 0.0]], &[Context::new(&[], &[0])])
        .unwrap_err();
    assert_eq!(error, SamplingError::MaskedRow { row: 0 });
}

#[test]
fn logits_that_do_not_fit() {
    let grammar = Grammar::regex(&vocabulary(&["a", "b"]), "ab").unwrap();
    let apply = |row: &[f32]| {
        let mut candidates = Candidates::new();
        candidates.fill(row).unwrap();
        grammar.apply(&mut candidates, &Context::new(&[], &[]))
    };
    let refused = SamplingError::Axis {
        array: "logits",
        axis: "vocab of at least",
        expected: 3,
        got: 2,
    };
    assert_eq!(apply(&[0.0; 2]), Err(refused));
    assert_eq!(
        refused.to_string(),
        "logits must have vocab of at least 3, got 2"
    );
    let nan = SamplingError::NanLogits { row: 0, token: 2 };
    assert_eq!(apply(&[0.0, 0.0, f32::NAN]), Err(nan));
    assert_eq!(apply(&[0.0; 3]), Ok(()));
}
