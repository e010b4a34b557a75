//! How JSON is written.

/// How the values of a schema are written.
///
/// ```text
/// L = the texts of valid values, each value in one spelling (but for numbers and white space)
/// ```
///
/// - **Objects** have the members of `properties`, in that order, those of `required` always, and no others. Where there are no `properties`, the
///   members are those that `additionalProperties` allows, in any order, and a name may come twice; without both keywords, any.
/// - **Arrays**: `items`, `prefixItems`, `minItems`, `maxItems`.
/// - **Strings**: `minLength`, `maxLength` (in code points), or `pattern`. A pattern is searched for anywhere in the string and has the meaning of
///   ECMA-262 with Unicode: `\d` and `\w` are of ASCII, `\s` and `.` go by the white space and the ends of lines of ECMA-262. It may have literals,
///   escapes, classes, `\p{..}`, groups, alternatives and repetitions, and anchors at the beginning or end of an alternative; all else (back-references,
///   look-around, `\b`, flags, an unescaped `[`, `&&`, `--` or `~~` in a class) is an error. Characters of strings stand for themselves; only control
///   characters, quotes and backslashes are escaped, as `serde_json` does.
/// - **Integers**: `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`; at most 18 digits, so that they fit into 64 bits.
/// - **Numbers**: at most 15 digits before and after the point, and an exponent of two, so that they are finite. No bounds.
/// - `enum`, `const`, `type` (one or a list), `anyOf`, `$ref` within the schema, `true`, `false`, `{}`. `allOf` with one schema.
///
/// A schema without `type` is of the types that its keywords are about; without such keywords, of any. Keywords that only describe
/// (`title`, `default`, `format` and the like) change nothing. All others are errors, as a text that ignores them might not be valid;
/// so is `$id` but at the root. So are schemas
/// that contain themselves: their texts are no regular language.
///
/// Values of which the schema says nothing have at most [`free_depth`](Self::free_depth) arrays and objects in one another.
///
/// # Example
///
/// ```
/// use llm_sampling::grammar::{Grammar, JsonConfig, Vocabulary, Whitespace};
///
/// let schema = r#"{
///     "type": "object",
///     "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 12}},
///     "required": ["ok"]
/// }"#;
/// let tokens = ["{\"", "ok", "n", "\": ", "true", "false", ", \"", "}", "1", "2", "3", "<eos>"];
/// let vocabulary = Vocabulary::new(&tokens, &[11], &[])?;
/// let grammar = Grammar::json_schema(&vocabulary, schema, &JsonConfig::new(Whitespace::Spaced))?;
///
/// let state = grammar.after(&[0, 1, 3, 4, 6])?; // {"ok": true, "
/// assert_eq!(grammar.forced(state), b"n\": ");
/// let state = grammar.after(&[0, 1, 3, 4, 6, 2, 3, 8])?; // {"ok": true, "n": 1
/// assert_eq!(grammar.allowed(state), [7, 8, 9]); // }, 1 and 2, but not 3
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: JSON Schema, draft 2020-12 (Core and Validation); RFC 8259.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct JsonConfig {
    /// What may stand between the marks.
    pub whitespace: Whitespace,
    /// Arrays and objects in one another, in values of which the schema says nothing.
    pub free_depth: u8,
}

/// White space between the marks of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Whitespace {
    /// None: `{"a":1,"b":[2,3]}`, as `serde_json` and JavaScript write.
    Compact,
    /// A blank after each comma and colon: `{"a": 1, "b": [2, 3]}`, as Python writes.
    Spaced,
    /// At most so many blanks, tabs and ends of lines wherever JSON allows them (but not around the whole).
    UpTo(u8),
}

impl JsonConfig {
    /// With this white space, and a [`free_depth`](Self::free_depth) of 1.
    #[must_use]
    pub const fn new(whitespace: Whitespace) -> Self {
        Self {
            whitespace,
            free_depth: 1,
        }
    }

    /// Sets [`free_depth`](Self::free_depth).
    #[must_use]
    pub const fn with_free_depth(mut self, free_depth: u8) -> Self {
        self.free_depth = free_depth;
        self
    }
}
