//! Objects.

use regex_syntax::hir::Hir;

use super::{Compiler, Expression};
use crate::grammar::json::Json;
use crate::grammar::json_text::{self as write, n_parts, optional, repeat};

/// A member of an object with properties.
struct Member {
    hir: Hir,
    n_parts: usize,
    is_required: bool,
}

impl<'a> Compiler<'a> {
    pub(super) fn object(&mut self, schema: &'a Json) -> Expression {
        let properties: &[(String, Json)] = match schema.get("properties") {
            None => &[],
            Some(Json::Object(properties)) => properties,
            Some(_) => return self.expected("properties", "an object of schemas"),
        };
        let required: &[Json] = match schema.get("required") {
            None => &[],
            Some(Json::Array(names)) => names,
            Some(_) => return self.expected("required", "a list of names"),
        };
        for name in required {
            let Json::String(name) = name else {
                return self.expected("required", "a list of names");
            };
            if !properties.iter().any(|(other, _)| other == name) {
                return self.unsupported("required", "a name is not among the properties");
            }
        }
        let others = schema.get("additionalProperties");
        if properties.is_empty() && schema.get("properties").is_none() {
            let (first, again) = (self.other_member(others)?, self.other_member(others)?);
            return Ok(self.map(first, again));
        }
        if !matches!(others, None | Some(Json::Bool(_))) {
            return self.unsupported("additionalProperties", "there are properties");
        }
        let mut members = Vec::new();
        for (name, schema) in properties {
            let is = |other: &Json| matches!(other, Json::String(other) if other == name);
            let is_required = required.iter().any(is);
            let hir = self.member(name, schema)?;
            let n_parts = n_parts(&hir);
            members.push(Member {
                hir,
                n_parts,
                is_required,
            });
        }
        let may_be_empty = !members.iter().any(|member| member.is_required);
        let all = match members.is_empty() {
            true => Hir::fail(),
            false => self.some_of(&members)?,
        };
        let whitespace = self.config.whitespace;
        Ok(write::within("{}", Some(all), may_be_empty, whitespace))
    }

    fn member(&mut self, name: &'a str, schema: &'a Json) -> Expression {
        let value = self.within(&["properties", name], |c| c.schema(schema))?;
        let name = self.counted(write::name_of(name, self.config.whitespace))?;
        Ok(Hir::concat(vec![name, value]))
    }

    /// One or more of these members, and those that are required.
    ///
    /// Either some come from the first half, and any of the second, or all from the second: each member is written about as often as the list
    /// can be halved.
    fn some_of(&mut self, members: &[Member]) -> Expression {
        if let [member] = members {
            self.count(member.n_parts)?;
            return Ok(member.hir.clone());
        }
        let (first, second) = members.split_at(members.len() / 2);
        let mut parts = vec![self.some_of(first)?];
        for member in second {
            self.count(member.n_parts + 4)?;
            let comma = write::mark(",", self.config.whitespace);
            let part = Hir::concat(vec![comma, member.hir.clone()]);
            parts.push(if member.is_required {
                part
            } else {
                optional(part)
            });
        }
        let both = Hir::concat(parts);
        if first.iter().any(|member| member.is_required) {
            return Ok(both);
        }
        Ok(Hir::alternation(vec![both, self.some_of(second)?]))
    }

    /// A member of any name.
    fn other_member(&mut self, schema: Option<&'a Json>) -> Expression {
        let value = match schema {
            Some(schema) => self.within(&["additionalProperties"], |c| c.schema(schema))?,
            None => self.free(self.config.free_depth)?,
        };
        Ok(self.any_member(value))
    }

    pub(super) fn any_member(&self, value: Hir) -> Hir {
        let colon = write::mark(":", self.config.whitespace);
        Hir::concat(vec![write::string(0, None), colon, value])
    }

    pub(super) fn map(&self, first: Hir, again: Hir) -> Hir {
        let comma = write::mark(",", self.config.whitespace);
        let again = repeat(Hir::concat(vec![comma, again]), 0, None);
        let members = Hir::concat(vec![first, again]);
        write::within("{}", Some(members), true, self.config.whitespace)
    }
}
