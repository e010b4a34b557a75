//! JSON with the members of objects in their order, which decides how a schema's texts look.

use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::GrammarError;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    /// No whole number, or a large one.
    Float(f64),
    String(String),
    Array(Vec<Json>),
    /// Each name once.
    Object(Vec<(String, Json)>),
}

/// Reads a text.
pub(super) fn parse(text: &str) -> Result<Json, GrammarError> {
    serde_json::from_str(text).map_err(|e| GrammarError::Json {
        line: e.line(),
        column: e.column(),
        message: message(&e),
    })
}

/// A part of a JSON Pointer as a name.
pub(super) fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// What is wrong, without the place.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl Json {
    /// The member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let member = self.members()?.iter().find(|(other, _)| other == name);
        member.map(|(_, value)| value)
    }

    /// All members, if it is an object.
    pub(super) fn members(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// What a JSON Pointer leads to, from here.
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Self> {
        if pointer.is_empty() {
            return Some(self);
        }
        pointer
            .strip_prefix('/')?
            .split('/')
            .try_fold(self, |value, part| {
                let name = unescape(part);
                match value {
                    Self::Object(_) => value.get(&name),
                    Self::Array(items) => items.get(name.parse::<usize>().ok()?),
                    _ => None,
                }
            })
    }

    /// The whole number that it is, if it is one.
    pub(super) fn integer(&self) -> Option<i128> {
        match *self {
            Self::Integer(i) => Some(i),
            // Beyond that, the next number is not the next integer.
            Self::Float(x) if x.fract() == 0.0 && x.abs() < 1e15 => Some(x as i128),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Json, E> {
        Ok(Json::Bool(b))
    }

    fn visit_i64<E>(self, i: i64) -> Result<Json, E> {
        Ok(Json::Integer(i.into()))
    }

    fn visit_u64<E>(self, i: u64) -> Result<Json, E> {
        Ok(Json::Integer(i.into()))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Json, E> {
        Ok(Json::Float(x))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("a name came twice: {name}")));
            }
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}
