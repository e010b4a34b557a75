//! JSON Schemas against a reader of JSON and a rule by hand for each schema.

use llm_sampling::grammar::{Grammar, JsonConfig, Vocabulary, Whitespace};
use proptest::prelude::*;
use serde_json::Value;

use super::{check, vocabulary};

const COMPACT: JsonConfig = JsonConfig::new(Whitespace::Compact);

fn grammar<T: AsRef<[u8]>>(schema: &str, tokens: &[T], config: &JsonConfig) -> Grammar {
    Grammar::json_schema(&vocabulary(tokens), schema, config).unwrap()
}

/// Texts in the one spelling that a value has, for values that a rule likes.
fn judge(rule: impl Fn(&Value) -> bool) -> impl Fn(&[u8]) -> bool {
    move |text| {
        let value = serde_json::from_slice::<Value>(text);
        value.is_ok_and(|value| rule(&value) && serde_json::to_vec(&value).unwrap() == text)
    }
}

/// Returns how many sequences of at most `len` tokens there are.
fn check_schema<T: AsRef<[u8]>>(
    schema: &str,
    tokens: &[T],
    len: usize,
    rule: impl Fn(&Value) -> bool,
) -> usize {
    let grammar = grammar(schema, tokens, &COMPACT);
    check(&grammar, tokens, (len, 3, 5), &judge(rule))
}

fn keys(value: &Value) -> Option<Vec<&str>> {
    Some(value.as_object()?.keys().map(String::as_str).collect())
}

#[test]
fn objects_have_their_members_and_no_others() {
    let schema = r#"{"type": "object", "properties": {
        "a": {"type": "integer", "minimum": -1, "maximum": 12}, "b": {"type": "boolean"}
    }, "required": ["a"], "title": "T", "description": "D"}"#;
    let tokens = [
        "{\"",
        "a\":",
        "1",
        "2",
        "-",
        ",\"b\":true",
        "}",
        "{\"b\":true",
    ];
    let n = check_schema(schema, &tokens, 5, |value| {
        let keys = keys(value);
        let known = keys.is_some_and(|keys| keys == ["a"] || keys == ["a", "b"]);
        let a = value["a"].as_i64().is_some_and(|a| (-1..=12).contains(&a));
        known && a && value.get("b").is_none_or(Value::is_boolean)
    });
    // {"a":  1, 2, 11, 12, -1  }, and with b for 1 and 2.
    assert_eq!(n, 7);
}

#[test]
fn members_that_may_be_left_out_take_their_comma_along() {
    let schema = r#"{"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "additionalProperties": false}"#;
    let tokens = ["{", "\"a\":1", ",", "\"b\":2", "\"c\":3", "}"];
    let rule = |value: &Value| {
        let right = |(key, value): (&String, &Value)| {
            ["a", "b", "c"].iter().position(|k| k == key) == value.as_u64().map(|v| v as usize - 1)
        };
        value
            .as_object()
            .is_some_and(|object| object.iter().all(right))
    };
    assert_eq!(check_schema(schema, &tokens, 7, rule), 8);
    let schema = schema.replacen('{', r#"{"required": ["b"], "#, 1);
    let with_b = |value: &Value| rule(value) && value.get("b").is_some();
    assert_eq!(check_schema(&schema, &tokens, 7, with_b), 4);
}

#[test]
fn members_come_in_the_order_of_the_schema() {
    let schema =
        r#"{"properties": {"z": {"type": "null"}, "a": {"type": "null"}}, "required": ["a", "z"]}"#;
    let tokens = ["{", "\"a\":null", ",", "\"z\":null", "}"];
    let grammar = grammar(schema, &tokens, &COMPACT);
    let only = |text: &[u8]| text == br#"{"z":null,"a":null}"#;
    assert_eq!(check(&grammar, &tokens, (6, 4, 5), &only), 1);
    assert_eq!(grammar.forced(grammar.start()), br#"{"z":null,"a":null}"#);
}

#[test]
fn other_members_where_there_are_no_properties() {
    let tokens = ["{", "\"k\":", "1", ",", "}", "\"", "k"];
    let schema = r#"{"type": "object", "additionalProperties": {"enum": [1, 11]}}"#;
    let grammar = grammar(schema, &tokens, &COMPACT);
    // A name may come twice, which a map forgets.
    let whole = regex::bytes::Regex::new(r#"\A\{("k*":1?1(,"k*":1?1)*)?\}\z"#).unwrap();
    // There is no colon but after a whole name.
    let accepts = |text: &[u8]| whole.is_match(text);
    assert_eq!(check(&grammar, &tokens, (7, 3, 5), &accepts), 4);
}

#[test]
fn arrays_have_as_many_items_as_they_must() {
    let tokens = ["[", "1", "\"x\"", "null", ",", "]"];
    let is_item = |item: &Value| item == 1 || item == "x" || item.is_null();
    for (keywords, least, most) in [
        ("", 0, 99),
        (r#", "minItems": 1"#, 1, 99),
        (r#", "minItems": 2"#, 2, 99),
        (r#", "maxItems": 0"#, 0, 0),
        (r#", "maxItems": 2"#, 0, 2),
        (r#", "minItems": 1, "maxItems": 1"#, 1, 1),
        (r#", "minItems": 2, "maxItems": 3"#, 2, 3),
    ] {
        let schema = format!(r#"{{"items": {{"enum": [1, "x", null]}}{keywords}}}"#);
        check_schema(&schema, &tokens, 6, |value| {
            let items = value.as_array();
            items.is_some_and(|items| {
                (least..=most).contains(&items.len()) && items.iter().all(is_item)
            })
        });
    }
}

#[test]
fn the_first_items_may_have_schemas_of_their_own() {
    let tokens = ["[", "1", "null", "2", ",", "]"];
    let prefix = |items: &[Value]| {
        let first = items.first().is_none_or(|item| item == 1);
        first && items.get(1).is_none_or(Value::is_null)
    };
    for (keywords, least, most) in [
        ("", 0, 99),
        (r#", "minItems": 1"#, 1, 99),
        (r#", "minItems": 3"#, 3, 99),
        (r#", "maxItems": 1"#, 0, 1),
        (r#", "minItems": 2, "maxItems": 3"#, 2, 3),
        (r#", "minItems": 2, "maxItems": 2"#, 2, 2),
    ] {
        let schema = format!(
            r#"{{"type": "array", "prefixItems": [{{"const": 1}}, {{"type": "null"}}], "items": {{"const": 2}}{keywords}}}"#
        );
        let rule = |value: &Value| {
            value.as_array().is_some_and(|items| {
                (least..=most).contains(&items.len())
                    && prefix(items)
                    && items.iter().skip(2).all(|item| item == 2)
            })
        };
        let grammar = grammar(&schema, &tokens, &COMPACT);
        check(&grammar, &tokens, (7, 3, 6), &judge(rule));
    }
    let closed = r#"{"prefixItems": [{"const": 1}, {"type": "null"}], "items": false}"#;
    check_schema(closed, &tokens, 6, |value| {
        value
            .as_array()
            .is_some_and(|items| items.len() <= 2 && prefix(items))
    });
}

#[test]
fn strings_are_spelled_in_one_way() {
    let tokens: [&[u8]; 8] = [
        b"\"",
        b"\\",
        b"n",
        b"u00",
        b"1f",
        b"a",
        b"\n",
        &[0xC3, 0xA9],
    ];
    let string = |value: &Value| value.as_str().map(|s| s.chars().count());
    check_schema(r#"{"type": "string"}"#, &tokens, 5, |v| string(v).is_some());
    let schema = r#"{"minLength": 1, "maxLength": 2}"#;
    check_schema(schema, &tokens, 5, |v| {
        string(v).is_some_and(|n| (1..=2).contains(&n))
    });
    // Every character that has an escape, and its neighbors.
    let grammar = grammar(r#"{"type": "string"}"#, &all_bytes(), &COMPACT);
    for c in ('\0'..='\u{100}').chain([
        '\u{D7FF}',
        '\u{E000}',
        '\u{FFFF}',
        '\u{10000}',
        '\u{10FFFF}',
    ]) {
        let text = serde_json::to_string(&c.to_string()).unwrap();
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        assert!(grammar.is_complete(grammar.after(&ids).unwrap()), "{text}");
        for other in [format!("\"\\u{:04x}\"", c as u32), format!("\"{c}\"")] {
            let ids: Vec<u32> = other.bytes().map(u32::from).collect();
            let state = grammar.after(&ids);
            let accepted = state.is_ok_and(|state| grammar.is_complete(state));
            assert_eq!(accepted, other == text, "{other}");
        }
    }
}

fn all_bytes() -> Vec<Vec<u8>> {
    (0..=255).map(|byte| vec![byte]).collect()
}

#[test]
fn patterns_are_searched_for_in_what_the_string_says() {
    let tokens: [&[u8]; 7] = [b"\"", b"\\", b"n", b"a", b"b", b"7", "é".as_bytes()];
    type Rule = fn(&str) -> bool;
    let cases: [(&str, Rule); 20] = [
        (r"^a+$", |s| !s.is_empty() && s.chars().all(|c| c == 'a')),
        (r"a", |s| s.contains('a')),
        (r"^a", |s| s.starts_with('a')),
        (r"ab$", |s| s.ends_with("ab")),
        (r"^(a|b)$", |s| s == "a" || s == "b"),
        (r"^a$|b", |s| s == "a" || s.contains('b')),
        (r"(^a|b$)", |s| s.starts_with('a') || s.ends_with('b')),
        (r"^\\d$", |s| s == "7"),
        (r"^[^\\w]+$", |s| {
            !s.is_empty() && s.chars().all(|c| !c.is_ascii_alphanumeric())
        }),
        (r#"^[\"\\\\]$"#, |s| s == "\"" || s == "\\"),
        (r"^\\n.?$", |s| {
            s.starts_with('\n') && s.chars().count() <= 2 && !s[1..].contains('\n')
        }),
        (r"", |_| true),
        (r"^a$|^b$", |s| s == "a" || s == "b"),
        (r"^a{2}$|^a{3}$|^7", |s| {
            s == "aa" || s == "aaa" || s.starts_with('7')
        }),
        (r"^(ab$|a7)", |s| s == "ab" || s.starts_with("a7")),
        (r"(^a|b)(b|7$)", |s| {
            s.starts_with("ab") || s.contains("bb") || s == "a7" || s.ends_with("b7")
        }),
        (r"(?:^|a)b(?:7|$)", |s| {
            s == "b" || s.starts_with("b7") || s.contains("ab7") || s.ends_with("ab")
        }),
        (r"((^a|^b)$)", |s| s == "a" || s == "b"),
        (r"^(?<n>a)+?$", |s| {
            !s.is_empty() && s.chars().all(|c| c == 'a')
        }),
        (r"^[a-]$", |s| s == "a"),
    ];
    for (pattern, rule) in cases {
        let schema = format!(r#"{{"type": "string", "pattern": "{pattern}"}}"#);
        check_schema(&schema, &tokens, 5, |value| {
            value.as_str().is_some_and(rule)
        });
    }
}

/// By the tables of ECMA-262 for white space and the ends of lines.
#[test]
fn classes_are_those_of_ecma_262() {
    let spaces = "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
    let line_ends = "\n\r\u{2028}\u{2029}";
    // Among them what Unicode has as a space, a digit or a letter, and ECMA-262 has not.
    let others = "\0\u{8}\u{e}\u{1f}\u{85}\u{180e}\u{200b}\u{2060}a_Z09é٣語.-+[&~\u{10ffff}";
    let all: Vec<char> = spaces.chars().chain(others.chars()).collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    type Rule = Box<dyn Fn(char) -> bool>;
    let rules: [(&str, Rule); 13] = [
        (r"^\s$", Box::new(move |c| spaces.contains(c))),
        (r"^\S$", Box::new(move |c| !spaces.contains(c))),
        (r"^[\s]$", Box::new(move |c| spaces.contains(c))),
        (r"^[^\s]$", Box::new(move |c| !spaces.contains(c))),
        (r"^[\Sa]$", Box::new(move |c| !spaces.contains(c))),
        (r"^.$", Box::new(move |c| !line_ends.contains(c))),
        (r"^[.]$", Box::new(|c| c == '.')),
        (r"^\d$", Box::new(|c| c.is_ascii_digit())),
        (r"^[^\d]$", Box::new(|c| !c.is_ascii_digit())),
        (r"^\w$", Box::new(is_word)),
        (r"^[\W]$", Box::new(move |c| !is_word(c))),
        (
            r"^[+\d-]$",
            Box::new(|c| c.is_ascii_digit() || "+-".contains(c)),
        ),
        (r"^[&\[~-]$", Box::new(|c| "&[~-".contains(c))),
    ];
    for (pattern, rule) in rules {
        let schema = serde_json::json!({ "pattern": pattern }).to_string();
        let grammar = grammar(&schema, &all_bytes(), &COMPACT);
        for &c in &all {
            let text = serde_json::to_string(&c.to_string()).unwrap();
            let ids: Vec<u32> = text.bytes().map(u32::from).collect();
            let state = grammar.after(&ids);
            let accepted = state.is_ok_and(|state| grammar.is_complete(state));
            assert_eq!(accepted, rule(c), "{pattern} {c:?}");
        }
    }
}

#[test]
fn numbers_are_those_of_json() {
    let tokens = ["0", "1", ".", "e", "E", "-", "+"];
    let grammar = grammar(r#"{"type": "number"}"#, &tokens, &COMPACT);
    let accepts = |text: &[u8]| {
        let number = serde_json::from_slice::<f64>(text).is_ok_and(f64::is_finite);
        let exponent = text.iter().position(|b| b"eE".contains(b));
        let exponent = exponent.map_or(&[][..], |e| &text[e..]);
        number && exponent.iter().filter(|b| b.is_ascii_digit()).count() <= 2
    };
    check(&grammar, &tokens, (5, 3, 4), &accepts);
}

#[test]
fn long_numbers_end_where_it_is_said() {
    let accepts = |schema: &str, text: &str| {
        let grammar = grammar(schema, &all_bytes(), &COMPACT);
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        grammar
            .after(&ids)
            .is_ok_and(|state| grammar.is_complete(state))
    };
    let integer = r#"{"type": "integer"}"#;
    for digits in [1, 17, 18, 19] {
        assert_eq!(accepts(integer, &"9".repeat(digits)), digits <= 18);
        assert_eq!(
            accepts(integer, &format!("-{}", "9".repeat(digits))),
            digits <= 18
        );
    }
    assert!(accepts(integer, "0") && !accepts(integer, "-0") && !accepts(integer, "01"));
    let number = r#"{"type": ["number", "integer"]}"#;
    for digits in [1, 15, 16] {
        assert_eq!(accepts(number, &"9".repeat(digits)), digits <= 15);
        assert_eq!(
            accepts(number, &format!("0.{}", "9".repeat(digits))),
            digits <= 15
        );
    }
    assert!(accepts(number, "9e+99") && !accepts(number, "9e100"));
    // Bounds that no 64 bits hold, and bounds between integers.
    assert!(accepts(r#"{"minimum": -1e300, "maximum": 1e300}"#, "5"));
    assert!(accepts(
        r#"{"minimum": 18446744073709551615, "type": ["integer", "null"]}"#,
        "null"
    ));
    assert!(
        accepts(r#"{"exclusiveMinimum": 1.5}"#, "2")
            && !accepts(r#"{"exclusiveMinimum": 1.5}"#, "1")
    );
    assert!(
        accepts(r#"{"exclusiveMaximum": 1.0}"#, "0")
            && !accepts(r#"{"exclusiveMaximum": 1.0}"#, "1")
    );
    assert!(accepts(r#"{"minimum": -1.5}"#, "-1") && !accepts(r#"{"minimum": -1.5}"#, "-2"));
}

#[test]
fn one_of_several_schemas() {
    let tokens = ["1", "null", "\"x\"", "[", "]", "true", ","];
    let is_x_or_one = |value: &Value| value == "x" || value == 1;
    check_schema(
        r#"{"anyOf": [{"const": 1}, {"type": "string"}]}"#,
        &tokens,
        4,
        is_x_or_one,
    );
    check_schema(r#"{"enum": [1, "x", 1]}"#, &tokens, 4, is_x_or_one);
    check_schema(r#"{"type": ["string", "null"]}"#, &tokens, 4, |v| {
        v == "x" || v.is_null()
    });
    check_schema(
        r#"{"type": ["null", "string"], "enum": [1, "x", null]}"#,
        &tokens,
        4,
        |v| v == "x" || v.is_null(),
    );
    check_schema(
        r#"{"type": "integer", "enum": [1.0, 1, 1.5, "x"]}"#,
        &tokens,
        4,
        |v| v == 1,
    );
    check_schema(r#"{"allOf": [{"type": "boolean"}]}"#, &tokens, 4, |v| {
        v == true
    });
    check_schema(r#"{"const": [1, []]}"#, &tokens, 6, |v| {
        *v == serde_json::json!([1, []])
    });
    let schema = r##"{"$defs": {"a/b": {"type": "null"}, "c": {"items": {"$ref": "#/$defs/a~1b"}, "maxItems": 2}}, "$ref": "#/$defs/c"}"##;
    check_schema(schema, &tokens, 5, |value| {
        value
            .as_array()
            .is_some_and(|items| items.len() <= 2 && items.iter().all(Value::is_null))
    });
    // A place can be used again beside itself, only not within itself.
    let schema = r##"{"$defs": {"n": {"type": "null"}}, "prefixItems": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}], "minItems": 2, "items": false}"##;
    assert_eq!(
        check_schema(schema, &tokens, 5, |v| *v
            == serde_json::json!([null, null])),
        1
    );
}

/// Brackets that are open at once. (A reader forgets the first of two members of one name.)
fn depth(text: &[u8]) -> usize {
    let (mut open, mut most) = (0, 0);
    for byte in text {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open -= 1,
            _ => {}
        }
        most = most.max(open);
    }
    most
}

#[test]
fn values_of_which_nothing_is_said_have_their_depth() {
    let tokens = ["[", "]", "{", "}", "\"k\":", "0", ","];
    for free_depth in 0..=2 {
        for schema in ["true", "{}", r#"{"title": "x"}"#] {
            let grammar = grammar(schema, &tokens, &COMPACT.with_free_depth(free_depth));
            let accepts = |text: &[u8]| {
                let value = serde_json::from_slice::<Value>(text);
                value.is_ok() && depth(text) <= usize::from(free_depth)
            };
            check(&grammar, &tokens, (5, 3, 4), &accepts);
        }
        for (schema, open) in [
            (r#"{"type": "array"}"#, b'['),
            (r#"{"type": "object"}"#, b'{'),
        ] {
            let grammar = grammar(schema, &tokens, &COMPACT.with_free_depth(free_depth));
            let accepts = |text: &[u8]| {
                let value = serde_json::from_slice::<Value>(text);
                text.first() == Some(&open)
                    && value.is_ok()
                    && depth(text) <= usize::from(free_depth) + 1
            };
            check(&grammar, &tokens, (5, 2, 5), &accepts);
        }
    }
}

#[test]
fn white_space_stands_where_it_is_said() {
    let schema = r#"{"properties": {"a": {"items": {"const": 1}}, "b": {"const": {"c": 2}}}, "required": []}"#;
    let tokens = ["{", "\"a\":", "[", "]", "1", ",", " ", "}"];
    // Python's spelling.
    let spaced = grammar(schema, &tokens, &JsonConfig::new(Whitespace::Spaced));
    let python = regex::bytes::Regex::new(r#"\A\{("a": \[(1(, 1)*)?\])?\}\z"#).unwrap();
    check(&spaced, &tokens, (6, 3, 5), &|text: &[u8]| {
        python.is_match(text)
    });
    for n in 0..=2 {
        let grammar = grammar(schema, &tokens, &JsonConfig::new(Whitespace::UpTo(n)));
        let too_long = " ".repeat(usize::from(n) + 1);
        let accepts = |text: &[u8]| {
            let text = core::str::from_utf8(text).unwrap();
            let inside = text.starts_with('{') && text.ends_with('}');
            let once = text.matches("a").count() <= 1;
            let ones = |value: &Value| value.as_array().is_some_and(|a| a.iter().all(|x| *x == 1));
            let value = serde_json::from_str::<Value>(text);
            inside
                && once
                && !text.contains(&too_long)
                && value.is_ok_and(|value| value.get("a").is_none_or(ones))
        };
        check(&grammar, &tokens, (5, 2, 4), &accepts);
    }
    let any = grammar(schema, &all_bytes(), &JsonConfig::new(Whitespace::UpTo(3)));
    let text = "{ \"a\"\t:\n[ 1 ,\r\n1 ] , \"b\" : { \"c\" : 2 } }";
    let ids: Vec<u32> = text.bytes().map(u32::from).collect();
    assert!(any.is_complete(any.after(&ids).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// All integers between the bounds, and no others.
    #[test]
    fn bounds_of_integers_hold(a in -2500_i64..2500, b in -2500_i64..2500, low_open in any::<bool>(), high_open in any::<bool>()) {
        let (min, max) = (a.min(b), a.max(b));
        let low = if low_open { "exclusiveMinimum" } else { "minimum" };
        let high = if high_open { "exclusiveMaximum" } else { "maximum" };
        let schema = format!(r#"{{"{low}": {min}, "{high}": {max}}}"#);
        let bytes: Vec<Vec<u8>> = b"0123456789-".iter().map(|b| vec![*b]).collect();
        let vocabulary = Vocabulary::new(&bytes, &[], &[]).unwrap();
        let (first, last) = (min + i64::from(low_open), max - i64::from(high_open));
        match Grammar::json_schema(&vocabulary, &schema, &COMPACT) {
            Ok(grammar) => for i in -3000..3000_i64 {
                let ids: Vec<u32> = i.to_string().bytes().map(|b| if b == b'-' { 10 } else { u32::from(b - b'0') }).collect();
                let accepted = grammar.after(&ids).is_ok_and(|state| grammar.is_complete(state));
                prop_assert_eq!(accepted, (first..=last).contains(&i), "{}", i);
            },
            Err(error) => {
                prop_assert!(first > last);
                prop_assert_eq!(error, llm_sampling::grammar::GrammarError::NoText);
            }
        }
    }

    #[test]
    fn no_schema_panics(schema in r#"[{}\[\]":,a-z0-9$#/. \\-]{0,40}"#) {
        let _ = Grammar::json_schema(&vocabulary(&["a", "1"]), &schema, &COMPACT);
    }
}
