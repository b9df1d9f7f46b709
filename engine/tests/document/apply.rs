//! RFC 6902 on JSON that keeps the order of names: an implementation of its own, which knows nothing of BSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// null, booleans and numbers, as their text.
    Plain(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

pub fn parse(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => out.write_str(text),
            Self::Text(text) => write!(out, "{}", serde_json::Value::from(text.as_str())),
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(ToString::to_string).collect();
                write!(out, "[{}]", items.join(","))
            }
            Self::Object(fields) => {
                let field = |(name, value): &(String, Self)| {
                    format!("{}:{value}", serde_json::Value::from(name.as_str()))
                };
                write!(out, "{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// Applies a patch; what does not fit is a panic, because a patch that does not fit is a defect.
pub fn apply(mut target: Json, patch: &Json) -> Json {
    let Json::Array(operations) = patch else { panic!("a patch is an array") };
    for operation in operations {
        let Json::Object(members) = operation else { panic!("an operation is an object") };
        let member = |name: &str| members.iter().find(|(found, _)| found == name).map(|(_, value)| value);
        let Some(Json::Text(path)) = member("path") else { panic!("no path: {operation}") };
        let Some(Json::Text(op)) = member("op") else { panic!("no op: {operation}") };
        let value = || member("value").unwrap_or_else(|| panic!("no value: {operation}")).clone();
        if path.is_empty() {
            assert_eq!(op, "replace");
            target = value();
            continue;
        }
        let tokens: Vec<String> =
            path[1..].split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        assert!(path.starts_with('/'), "{operation}");
        let (last, above) = tokens.split_last().unwrap();
        match (op.as_str(), resolve(&mut target, above)) {
            ("add", Json::Array(items)) => items.insert(last.parse().unwrap(), value()),
            ("add", Json::Object(fields)) => {
                assert!(fields.iter().all(|(name, _)| name != last), "it is there: {operation}");
                fields.push((last.clone(), value()));
            }
            ("remove", Json::Array(items)) => drop(items.remove(last.parse().unwrap())),
            ("remove", Json::Object(fields)) => {
                let before = fields.len();
                fields.retain(|(name, _)| name != last);
                assert_eq!(fields.len(), before - 1, "{operation}");
            }
            ("replace", parent) => *resolve(parent, std::slice::from_ref(last)) = value(),
            _ => panic!("it does not fit: {operation}"),
        }
    }
    target
}

fn resolve<'a>(target: &'a mut Json, tokens: &[String]) -> &'a mut Json {
    tokens.iter().fold(target, |target, token| match target {
        Json::Array(items) => &mut items[token.parse::<usize>().unwrap()],
        Json::Object(fields) => {
            let found = fields.iter_mut().find(|(name, _)| name == token);
            &mut found.unwrap_or_else(|| panic!("there is no {token}")).1
        }
        _ => panic!("nothing is inside for {token}"),
    })
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Plain("null".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Plain(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element()? {
            out.push(item);
        }
        Ok(Json::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(field) = fields.next_entry()? {
            out.push(field);
        }
        Ok(Json::Object(out))
    }
}
