//! Numbers and strings.

use regex_syntax::hir::Hir;

use super::{Compiler, Expression};
use crate::grammar::json::Json;
use crate::grammar::json_text::{self as write, MAX_INTEGER};
use crate::grammar::{GrammarError, search};

impl Compiler<'_> {
    pub(super) fn number(&mut self, schema: &Json) -> Expression {
        for name in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
            if schema.get(name).is_some() {
                return self.unsupported(name, "bounds are for the type integer only");
            }
        }
        self.counted(write::number())
    }

    pub(super) fn integer(&mut self, schema: &Json) -> Expression {
        let (mut min, mut max) = (-MAX_INTEGER, MAX_INTEGER);
        for (name, is_min, exclusive) in [
            ("minimum", true, 0),
            ("exclusiveMinimum", true, 1),
            ("maximum", false, 0),
            ("exclusiveMaximum", false, 1),
        ] {
            let (bound, open) = match schema.get(name) {
                None => continue,
                Some(&Json::Float(x)) => {
                    let inner = if is_min { x.ceil() } else { x.floor() };
                    let open = if x == inner { exclusive } else { 0 };
                    (inner.clamp(-1e30, 1e30) as i128, open)
                }
                Some(&Json::Integer(x)) => (x, exclusive),
                Some(_) => return self.expected(name, "a number"),
            };
            if is_min {
                min = min.max(bound.saturating_add(open));
            } else {
                max = max.min(bound.saturating_sub(open));
            }
        }
        self.counted(write::integer(min, max))
    }

    pub(super) fn string(&mut self, schema: &Json) -> Expression {
        let Some(pattern) = schema.get("pattern") else {
            let (min, max) = self.bounds(schema, "minLength", "maxLength")?;
            return match max {
                Some(max) if max < min => Ok(Hir::fail()),
                _ => self.counted(write::string(min, max)),
            };
        };
        for name in ["minLength", "maxLength"] {
            if schema.get(name).is_some() {
                return self.unsupported(name, "there is a pattern, which may say it too");
            }
        }
        let Json::String(pattern) = pattern else {
            return self.expected("pattern", "a string");
        };
        let hir = search::pattern_string(pattern).map_err(|source| GrammarError::Pattern {
            at: format!("{}/pattern", self.at()),
            source: Box::new(source),
        })?;
        self.counted(hir)
    }
}
