//! Arrays.

use regex_syntax::hir::Hir;

use super::{Compiler, Expression};
use crate::grammar::json::Json;
use crate::grammar::json_text::{self as write, optional, repeat};
use crate::grammar::{GrammarError, MAX_OPTIONAL};

impl<'a> Compiler<'a> {
    pub(super) fn array(&mut self, schema: &'a Json) -> Expression {
        let (min, max) = self.bounds(schema, "minItems", "maxItems")?;
        if max.is_some_and(|max| max < min) {
            return Ok(Hir::fail());
        }
        let prefix: &[Json] = match schema.get("prefixItems") {
            None => &[],
            Some(Json::Array(schemas)) => schemas,
            Some(_) => return self.expected("prefixItems", "a list of schemas"),
        };
        let items = schema.get("items");
        let n_prefix = prefix.len() as u32; // fewer than bytes of the source
        let fits = |i: u32| max.is_none_or(|max| i < max);
        let outer = self.n_optional;
        let n_optional = |place: usize| outer + (place + 1).saturating_sub(min.max(1) as usize);
        let last = prefix.len().min(max.map_or(usize::MAX, |max| max as usize));
        self.n_optional = last.checked_sub(1).map_or(outer, n_optional);
        if self.n_optional > MAX_OPTIONAL {
            let what = "items of prefixItems that may be missing";
            return Err(GrammarError::too_large(what, MAX_OPTIONAL));
        }
        // From behind: what follows the item before.
        let mut tail = Hir::empty();
        let mut first = None;
        if fits(n_prefix) {
            let comma = write::mark(",", self.config.whitespace);
            if prefix.is_empty() {
                let again = Hir::concat(vec![comma, self.item(items)?]);
                let max = max.map(|max| max - 1);
                tail = repeat(again, min.saturating_sub(1), max);
                first = Some(Hir::concat(vec![self.item(items)?, tail]));
                tail = Hir::empty();
            } else {
                let item = Hir::concat(vec![comma, self.item(items)?]);
                let max = max.map(|max| max - n_prefix);
                tail = repeat(item, min.saturating_sub(n_prefix), max);
            }
        }
        for (i, item) in prefix.iter().enumerate().rev() {
            let place = i as u32;
            if !fits(place) {
                continue;
            }
            // Later items are written within earlier ones that may be missing.
            self.n_optional = n_optional(i);
            let item = self.within(&["prefixItems", &i.to_string()], |c| c.schema(item))?;
            let rest = core::mem::replace(&mut tail, Hir::empty());
            if i == 0 {
                first = Some(Hir::concat(vec![item, rest]));
                break;
            }
            let comma = write::mark(",", self.config.whitespace);
            tail = Hir::concat(vec![comma, item, rest]);
            if place >= min {
                tail = optional(tail);
            }
        }
        self.n_optional = outer;
        let whitespace = self.config.whitespace;
        Ok(write::within("[]", first, min == 0, whitespace))
    }

    /// An item after the prefix.
    fn item(&mut self, items: Option<&'a Json>) -> Expression {
        match items {
            None => self.free(self.config.free_depth),
            Some(items) => self.within(&["items"], |c| c.schema(items)),
        }
    }
}
