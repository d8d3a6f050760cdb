//! JSON as payloads need it: an object's key stands once, texts are wiped when dropped, and errors quote
//! nothing.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::PayloadError;

#[derive(Clone, PartialEq)]
pub(in crate::stores) enum Json {
    Null,
    Bool,
    /// Whole and not negative, as a port is; None: any other number.
    Number(Option<u64>),
    Text(Zeroizing<String>),
    List(Vec<Json>),
    Object(Vec<(Box<str>, Json)>),
}

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self, PayloadError> {
        serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            match error.classify() {
                // The visitor below takes everything but a second key of one name.
                Category::Data => PayloadError::DuplicateKey { line },
                _ if text.trim_start().starts_with(['{', '[']) => PayloadError::BrokenJson { line, column },
                _ => PayloadError::NotJson { line, column },
            }
        })
    }

    /// The value under a key, when this is an object that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(entries) = self else {
            return None;
        };
        entries
            .iter()
            .find(|(name, _)| **name == *key)
            .map(|(_, value)| value)
    }

    #[cfg(feature = "vault")]
    pub(in crate::stores) fn is_empty(&self) -> bool {
        matches!(self, Self::Object(entries) if entries.is_empty())
    }

    /// Walks `a.b.c`, where a number also names an item of a list. A key that itself contains dots wins.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        if let Some(value) = self.get(path) {
            return Some(value);
        }
        let (head, rest) = path
            .split_once('.')
            .map_or((path, None), |(head, rest)| (head, Some(rest)));
        let value = match self {
            Self::List(items) => items.get(head.parse::<usize>().ok()?)?,
            _ => self.get(head)?,
        };
        match rest {
            Some(rest) => value.at(rest),
            None => Some(value),
        }
    }
}

/// Says what it is, never what it holds.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        })
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

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(Some(number)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(u64::try_from(number).ok()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number(None))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(Zeroizing::new(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut seen = std::collections::HashSet::new();
        let mut object = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom("a key stands twice"));
            }
            object.push((key.into_boxed_str(), value));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth() {
        let twice = r#"{"a":1,"b":[{"password":"x","password":"y"}]}"#;
        assert_eq!(Json::parse(twice), Err(PayloadError::DuplicateKey { line: 1 }));
        let escaped = "{\"a\":1,\n\"\\u0061\":2}";
        assert_eq!(Json::parse(escaped), Err(PayloadError::DuplicateKey { line: 2 }));
    }

    #[test]
    fn errors_say_where_and_quote_nothing() {
        let error = Json::parse("{\"password\":\n \"hunter2\" oops").unwrap_err();
        assert_eq!(error, PayloadError::BrokenJson { line: 2, column: 12 });
        assert!(!error.to_string().contains("hunter2"));
        let deep = "[".repeat(100_000);
        assert!(matches!(Json::parse(&deep), Err(PayloadError::BrokenJson { .. })));
        assert!(matches!(Json::parse("1e999"), Err(PayloadError::NotJson { .. })));
    }

    #[test]
    fn a_dotted_path_walks_objects_and_lists() {
        let json = Json::parse(r#"{"db":{"users":[{"name":"a"},{"name":"b"}]},"x.y":"dotted"}"#).unwrap();
        assert_eq!(
            json.at("db.users.1.name"),
            Some(&Json::Text(Zeroizing::new("b".into())))
        );
        assert_eq!(json.at("x.y"), Some(&Json::Text(Zeroizing::new("dotted".into()))));
        assert_eq!(json.at("db.users.2.name"), None);
        assert_eq!(json.at(""), None);
        assert_eq!(format!("{json:?}"), "an object");
    }
}
