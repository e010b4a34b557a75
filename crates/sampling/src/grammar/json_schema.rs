//! From a JSON Schema to an expression for the texts that are valid.

use regex_syntax::hir::Hir;

use super::json::{self, Json};
use super::json_text::{self as write, MAX_INTEGER, optional, repeat};
use super::{GrammarError, JsonConfig, MAX_DEPTH};

/// Parts of an expression at most, before it is compiled.
const MAX_PARTS: usize = 1 << 17;

/// The expression for the texts of a schema.
pub(super) fn compile(schema: &Json, config: &JsonConfig) -> Result<Hir, GrammarError> {
    let mut compiler = Compiler {
        root: schema,
        config,
        path: Vec::new(),
        open: Vec::new(),
        depth: 0,
        n_parts: 0,
    };
    compiler.schema(schema)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "string" => Self::String,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    fn has(self, value: &Json) -> bool {
        match value {
            Json::Null => self == Self::Null,
            Json::Bool(_) => self == Self::Boolean,
            Json::Integer(_) => matches!(self, Self::Integer | Self::Number),
            Json::Float(x) => self == Self::Number || (self == Self::Integer && x.fract() == 0.0),
            Json::String(_) => self == Self::String,
            Json::Array(_) => self == Self::Array,
            Json::Object(_) => self == Self::Object,
        }
    }
}

/// What a keyword is about.
enum Keyword {
    /// Nothing that a text shows.
    Note,
    /// Values of this type.
    Of(Type),
    /// The whole schema.
    Whole,
}

fn keyword(name: &str) -> Option<Keyword> {
    Some(match name {
        "$schema" | "$id" | "$comment" | "$defs" | "definitions" | "$anchor" | "title"
        | "description" | "default" | "examples" | "deprecated" | "readOnly" | "writeOnly"
        | "format" | "contentEncoding" | "contentMediaType" => Keyword::Note,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            Keyword::Of(Type::Integer)
        }
        "minLength" | "maxLength" | "pattern" => Keyword::Of(Type::String),
        "items" | "prefixItems" | "minItems" | "maxItems" => Keyword::Of(Type::Array),
        "properties" | "required" | "additionalProperties" => Keyword::Of(Type::Object),
        "type" | "enum" | "const" | "anyOf" | "allOf" | "$ref" => Keyword::Whole,
        _ => return None,
    })
}

struct Compiler<'a> {
    root: &'a Json,
    config: &'a JsonConfig,
    /// Names that lead to where it is.
    path: Vec<String>,
    /// References that it is within.
    open: Vec<&'a str>,
    depth: usize,
    n_parts: usize,
}

type Expression = Result<Hir, GrammarError>;

impl<'a> Compiler<'a> {
    fn at(&self) -> String {
        let parts = self
            .path
            .iter()
            .map(|part| part.replace('~', "~0").replace('/', "~1"));
        parts.fold(String::new(), |at, part| at + "/" + &part)
    }

    fn expected<T>(&self, keyword: &str, expected: &'static str) -> Result<T, GrammarError> {
        let at = if keyword.is_empty() {
            self.at()
        } else {
            format!("{}/{keyword}", self.at())
        };
        Err(GrammarError::Keyword { at, expected })
    }

    fn unsupported<T>(&self, keyword: &str, reason: &'static str) -> Result<T, GrammarError> {
        Err(GrammarError::UnsupportedKeyword {
            at: self.at(),
            keyword: keyword.to_owned(),
            reason,
        })
    }

    /// Runs `work` one step further down.
    fn within<T>(
        &mut self,
        names: &[&str],
        work: impl FnOnce(&mut Self) -> Result<T, GrammarError>,
    ) -> Result<T, GrammarError> {
        let len = self.path.len();
        self.path
            .extend(names.iter().map(|name| (*name).to_owned()));
        let result = work(self);
        self.path.truncate(len);
        result
    }

    /// Counts a part, as references can make a small schema large.
    fn count(&mut self, n: usize) -> Result<(), GrammarError> {
        self.n_parts = self.n_parts.saturating_add(n);
        let fits = self.n_parts <= MAX_PARTS;
        fits.then_some(()).ok_or(GrammarError::TooLarge)
    }

    fn schema(&mut self, schema: &'a Json) -> Expression {
        self.count(8)?;
        if self.depth == MAX_DEPTH {
            return Err(GrammarError::Depth { at: self.at() });
        }
        self.depth += 1;
        let result = self.open_schema(schema);
        self.depth -= 1;
        result
    }

    fn open_schema(&mut self, schema: &'a Json) -> Expression {
        let members = match schema {
            Json::Bool(true) => return self.free(self.config.free_depth),
            Json::Bool(false) => return Ok(Hir::fail()),
            Json::Object(members) => members,
            _ => return self.expected("", "a schema: an object, true or false"),
        };
        let mut whole = None;
        let mut types = Vec::new();
        for (name, _) in members {
            match keyword(name) {
                None => return self.unsupported(name, "it is not known here"),
                Some(Keyword::Whole) if name != "type" => {
                    if whole.replace(name.as_str()).is_some() {
                        return self.unsupported(name, "there is another that says all");
                    }
                }
                Some(Keyword::Of(about)) => types.push((about, name)),
                Some(_) => {}
            }
        }
        if let Some(whole) = whole {
            if let Some((_, name)) = types.first() {
                return self.unsupported(name, "there is another that says all");
            }
            return self.whole(schema, whole);
        }
        let types = match self.types(schema)? {
            Some(types) => types,
            None if types.is_empty() => return self.free(self.config.free_depth),
            None => types.into_iter().map(|(about, _)| about).collect(),
        };
        let mut all = Vec::new();
        for (i, about) in types.iter().enumerate() {
            let again = types[..i].contains(about);
            let covered = *about == Type::Integer && types.contains(&Type::Number);
            if !again && !covered {
                all.push(self.of_type(schema, *about)?);
            }
        }
        Ok(Hir::alternation(all))
    }

    /// The types that are named.
    fn types(&self, schema: &Json) -> Result<Option<Vec<Type>>, GrammarError> {
        let one = |name: &Json| match name {
            Json::String(name) => Type::named(name),
            _ => None,
        };
        let types = match schema.get("type") {
            None => return Ok(None),
            Some(Json::Array(names)) => names.iter().map(one).collect(),
            Some(name) => one(name).map(|name| vec![name]),
        };
        match types {
            Some(types) => Ok(Some(types)),
            None => self.expected("type", "a type of JSON or a list of them"),
        }
    }

    /// A schema with a keyword that says all but the type.
    fn whole(&mut self, schema: &'a Json, keyword: &'a str) -> Expression {
        let types = self.types(schema)?;
        let Some(value) = schema.get(keyword) else {
            return Ok(Hir::fail());
        };
        let values = match (keyword, value) {
            ("const", value) => core::slice::from_ref(value),
            ("enum", Json::Array(values)) => values,
            ("enum", _) => return self.expected(keyword, "a list of values"),
            _ if types.is_some() => {
                return self.unsupported("type", "there is another that says all");
            }
            ("$ref", Json::String(reference)) => return self.reference(reference),
            ("$ref", _) => return self.expected(keyword, "a string"),
            (_, Json::Array(schemas)) if !schemas.is_empty() => {
                if keyword == "allOf" && schemas.len() > 1 {
                    return self.unsupported(keyword, "it has more than one schema");
                }
                let mut all = Vec::new();
                for (i, schema) in schemas.iter().enumerate() {
                    let names = [keyword, &i.to_string()];
                    all.push(self.within(&names, |c| c.schema(schema))?);
                }
                return Ok(Hir::alternation(all));
            }
            _ => return self.expected(keyword, "a list of schemas, not empty"),
        };
        let is_typed = |value: &&Json| {
            let types = types.as_ref();
            types.is_none_or(|types| types.iter().any(|about| about.has(value)))
        };
        let mut all = Vec::new();
        for value in values.iter().filter(is_typed) {
            self.count(size(value))?;
            all.push(write::literal(value, self.config.whitespace));
        }
        Ok(Hir::alternation(all))
    }

    fn reference(&mut self, reference: &'a str) -> Expression {
        let target = reference.strip_prefix('#');
        let Some(target) = target.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(GrammarError::Reference {
                at: self.at(),
                reference: reference.to_owned(),
            });
        };
        if reference == "#" || self.open.contains(&reference) {
            return Err(GrammarError::Recursion {
                at: self.at(),
                reference: reference.to_owned(),
            });
        }
        self.open.push(reference);
        let there = reference.split('/').skip(1).map(json::unescape).collect();
        let here = core::mem::replace(&mut self.path, there);
        let result = self.schema(target);
        self.path = here;
        self.open.pop();
        result
    }

    fn of_type(&mut self, schema: &'a Json, about: Type) -> Expression {
        match about {
            Type::Null => Ok(write::text("null")),
            Type::Boolean => Ok(Hir::alternation(vec![
                write::text("true"),
                write::text("false"),
            ])),
            Type::Integer => self.integer(schema),
            Type::Number => self.number(schema),
            Type::String => self.string(schema),
            Type::Array => self.array(schema),
            Type::Object => self.object(schema),
        }
    }

    fn number(&mut self, schema: &Json) -> Expression {
        for name in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
            if schema.get(name).is_some() {
                return self.unsupported(name, "bounds are for the type integer only");
            }
        }
        self.count(64)?;
        Ok(write::number())
    }

    fn integer(&mut self, schema: &Json) -> Expression {
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
        self.count(256)?;
        Ok(write::integer(min, max))
    }

    fn string(&mut self, schema: &Json) -> Expression {
        self.count(64)?;
        let Some(pattern) = schema.get("pattern") else {
            let (min, max) = self.bounds(schema, "minLength", "maxLength")?;
            return Ok(match max {
                Some(max) if max < min => Hir::fail(),
                _ => write::string(min, max),
            });
        };
        for name in ["minLength", "maxLength"] {
            if schema.get(name).is_some() {
                return self.unsupported(name, "there is a pattern, which may say it too");
            }
        }
        let Json::String(pattern) = pattern else {
            return self.expected("pattern", "a string");
        };
        self.count(pattern.len() * 16)?;
        write::pattern_string(pattern).map_err(|source| GrammarError::Pattern {
            at: format!("{}/pattern", self.at()),
            source: Box::new(source),
        })
    }

    /// A least and a largest number.
    fn bounds(
        &self,
        schema: &Json,
        min: &str,
        max: &str,
    ) -> Result<(u32, Option<u32>), GrammarError> {
        let read = |name: &str| match schema.get(name) {
            None => Ok(None),
            Some(value) => match value.integer() {
                Some(n) if n >= 0 => Ok(Some(u32::try_from(n).unwrap_or(u32::MAX))),
                _ => self.expected(name, "a whole number, not negative"),
            },
        };
        let max = read(max)?.filter(|max| *max < u32::MAX); // no text is that long
        Ok((read(min)?.unwrap_or(0), max))
    }

    fn array(&mut self, schema: &'a Json) -> Expression {
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

    fn object(&mut self, schema: &'a Json) -> Expression {
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
        let is_required = |name: &str| {
            let is = |other: &Json| matches!(other, Json::String(other) if other == name);
            required.iter().any(is)
        };
        let members: Vec<_> = properties
            .iter()
            .map(|(name, schema)| (name.as_str(), schema, is_required(name)))
            .collect();
        // The first member that comes can be any up to the first that is required.
        let mut all = Vec::new();
        let mut may_be_empty = true;
        for first in 0..members.len() {
            let mut parts = vec![self.member(members[first])?];
            for &member in &members[first + 1..] {
                let comma = write::mark(",", self.config.whitespace);
                let part = Hir::concat(vec![comma, self.member(member)?]);
                parts.push(if member.2 { part } else { optional(part) });
            }
            all.push(Hir::concat(parts));
            if members[first].2 {
                may_be_empty = false;
                break;
            }
        }
        let all = Hir::alternation(all);
        let whitespace = self.config.whitespace;
        Ok(write::within("{}", Some(all), may_be_empty, whitespace))
    }

    fn member(&mut self, (name, schema, _): (&'a str, &'a Json, bool)) -> Expression {
        self.count(name.len())?;
        let value = self.within(&["properties", name], |c| c.schema(schema))?;
        Ok(Hir::concat(vec![
            write::name_of(name, self.config.whitespace),
            value,
        ]))
    }

    /// A member of any name.
    fn other_member(&mut self, schema: Option<&'a Json>) -> Expression {
        self.count(64)?;
        let value = match schema {
            Some(schema) => self.within(&["additionalProperties"], |c| c.schema(schema))?,
            None => self.free(self.config.free_depth)?,
        };
        Ok(self.any_member(value))
    }

    fn any_member(&self, value: Hir) -> Hir {
        let colon = write::mark(":", self.config.whitespace);
        Hir::concat(vec![write::string(0, None), colon, value])
    }

    fn map(&self, first: Hir, again: Hir) -> Hir {
        let comma = write::mark(",", self.config.whitespace);
        let again = repeat(Hir::concat(vec![comma, again]), 0, None);
        let members = Hir::concat(vec![first, again]);
        write::within("{}", Some(members), true, self.config.whitespace)
    }

    /// Any value with at most so many arrays and objects in one another.
    fn free(&mut self, depth: u8) -> Expression {
        self.count(128)?;
        let mut all = vec![
            write::text("null"),
            write::text("true"),
            write::text("false"),
            write::number(),
            write::string(0, None),
        ];
        if depth > 0 {
            let comma = write::mark(",", self.config.whitespace);
            let again = repeat(Hir::concat(vec![comma, self.free(depth - 1)?]), 0, None);
            let items = Hir::concat(vec![self.free(depth - 1)?, again]);
            let whitespace = self.config.whitespace;
            all.push(write::within("[]", Some(items), true, whitespace));
            let (first, again) = (self.free(depth - 1)?, self.free(depth - 1)?);
            all.push(self.map(self.any_member(first), self.any_member(again)));
        }
        Ok(Hir::alternation(all))
    }
}

/// About how much there is to write.
fn size(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Float(_) => 8,
        Json::String(text) => 8 + text.len(),
        Json::Array(items) => 8 + items.iter().map(size).sum::<usize>(),
        Json::Object(members) => {
            let member = |(name, value): &(String, Json)| 8 + name.len() + size(value);
            8 + members.iter().map(member).sum::<usize>()
        }
    }
}
