//! From a JSON Schema to an expression for the texts that are valid.

mod arrays;
mod objects;
mod values;

use regex_syntax::hir::Hir;

use super::json::{self, Json};
use super::json_text::{self as write, n_parts, repeat};
use super::{GrammarError, JsonConfig, MAX_DEPTH, MAX_PARTS};

/// The expression for the texts of a schema.
pub(super) fn compile(schema: &Json, config: &JsonConfig) -> Result<Hir, GrammarError> {
    let mut compiler = Compiler {
        root: schema,
        config,
        path: Vec::new(),
        open: Vec::new(),
        depth: 0,
        n_optional: 0,
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
    /// Items that may be missing and that it is within.
    n_optional: usize,
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
        fits.then_some(())
            .ok_or_else(|| GrammarError::too_large("parts of a schema's expression", MAX_PARTS))
    }

    /// Counts the parts of an expression, before there is one more of it.
    fn counted(&mut self, hir: Hir) -> Expression {
        self.count(n_parts(&hir))?;
        Ok(hir)
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
                _ if name == "$id" && !core::ptr::eq(schema, self.root) => {
                    return self
                        .unsupported(name, "it would change what references are relative to");
                }
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
        if self.leaves_the_root(reference) {
            return self.unsupported(
                "$ref",
                "what it refers to is within a schema with an $id of its own",
            );
        }
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

    /// True if there is a schema with an identifier of its own on the way: references in it do not start at the root.
    fn leaves_the_root(&self, reference: &str) -> bool {
        let mut place = self.root;
        reference.split('/').skip(1).any(|part| {
            let name = json::unescape(part);
            place = match place {
                Json::Array(items) => name.parse().ok().and_then(|i: usize| items.get(i)),
                _ => place.get(&name),
            }
            .unwrap_or(&Json::Null);
            matches!(place.get("$id"), Some(Json::String(_)))
        })
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

    /// Any value with at most so many arrays and objects in one another.
    fn free(&mut self, depth: u8) -> Expression {
        self.count(64)?;
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
