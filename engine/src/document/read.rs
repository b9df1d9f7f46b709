//! Reading Extended JSON: canonical, relaxed, and the marks of this module.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::{DateTime, Decimal128, Uuid};
use repo_format::bson::kind;
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};

use super::{INVALID, INVALID_NAME, reserved};

/// JSON that keeps the order of names, and names that come twice.
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Array(Vec<Tree>),
    Object(Fields),
}

type Fields = Vec<(String, Tree)>;

/// A type byte and the value's bytes.
pub(super) type Parsed = (u8, Vec<u8>);

/// The BSON of a document in the form that [`super::extended_json`] writes, or in canonical or relaxed
/// Extended JSON as other programs write it. Nothing if it is no such document, or nested over 127 levels.
pub fn from_extended_json(text: &str) -> Option<Vec<u8>> {
    match serde_json::from_str(text).ok()? {
        Tree::Object(fields) => match &fields[..] {
            [(name, raw)] if name == "$bson" => raw_value(raw).map(|(_, bytes)| bytes),
            _ => document(&fields),
        },
        _ => None,
    }
}

/// The BSON of one value in Extended JSON.
pub(super) fn value(tree: &Tree) -> Option<Parsed> {
    Some(match tree {
        Tree::Null => (kind::NULL, vec![]),
        Tree::Bool(value) => (kind::BOOLEAN, vec![u8::from(*value)]),
        Tree::Integer(value) => integer(*value),
        Tree::Float(value) => (kind::DOUBLE, value.to_le_bytes().to_vec()),
        Tree::Text(text) => (kind::STRING, string(text.as_bytes())),
        Tree::Array(items) => {
            let names = (0..items.len()).map(|at| at.to_string().into_bytes());
            (kind::ARRAY, encoded(names.zip(items))?)
        }
        Tree::Object(fields) if fields.iter().any(|(name, _)| reserved(name.as_bytes())) => {
            return typed(fields);
        }
        Tree::Object(fields) => (kind::DOCUMENT, document(fields)?),
    })
}

/// The smaller of the two integer types that holds the value.
pub(super) fn integer(value: i64) -> Parsed {
    match i32::try_from(value) {
        Ok(value) => (kind::INT32, value.to_le_bytes().to_vec()),
        Err(_) => (kind::INT64, value.to_le_bytes().to_vec()),
    }
}

/// The value of a string.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as i32 + 1).to_le_bytes()[..], text, &[0]].concat()
}

fn document(fields: &Fields) -> Option<Vec<u8>> {
    let mut named = Vec::with_capacity(fields.len());
    for (name, tree) in fields {
        let name = match name.strip_prefix(INVALID_NAME) {
            Some(escaped) => unescape_invalid(escaped)?,
            None => name.clone().into_bytes(),
        };
        named.push((name, tree));
    }
    encoded(named.into_iter())
}

fn encoded<'a>(fields: impl Iterator<Item = (Vec<u8>, &'a Tree)>) -> Option<Vec<u8>> {
    let mut out = vec![0; 4];
    for (name, tree) in fields {
        let (kind, bytes) = value(tree)?;
        out.push(kind);
        out.extend_from_slice(&without_zeros(name)?);
        out.push(0);
        out.extend_from_slice(&bytes);
    }
    out.push(0);
    let len = i32::try_from(out.len()).ok()?;
    out[..4].copy_from_slice(&len.to_le_bytes());
    Some(out)
}

/// Names, patterns and options end at a zero byte, so they cannot hold one.
fn without_zeros(text: Vec<u8>) -> Option<Vec<u8>> {
    if text.contains(&0) { None } else { Some(text) }
}

fn typed(fields: &Fields) -> Option<Parsed> {
    let fields: Vec<(&str, &Tree)> = fields.iter().map(|(name, tree)| (name.as_str(), tree)).collect();
    Some(match fields[..] {
        [("$numberInt", tree)] => (kind::INT32, tree.text()?.parse::<i32>().ok()?.to_le_bytes().to_vec()),
        [("$numberLong", tree)] => (kind::INT64, tree.text()?.parse::<i64>().ok()?.to_le_bytes().to_vec()),
        [("$numberDouble", tree)] => (kind::DOUBLE, double(tree.text()?)?.to_le_bytes().to_vec()),
        [("$numberDouble", _), ("$bits", bits)] => {
            (kind::DOUBLE, u64::from_str_radix(bits.text()?, 16).ok()?.to_le_bytes().to_vec())
        }
        [("$numberDecimal", tree)] => {
            (kind::DECIMAL128, tree.text()?.parse::<Decimal128>().ok()?.bytes().to_vec())
        }
        [("$numberDecimal", _), ("$bits", bits)] => {
            (kind::DECIMAL128, u128::from_str_radix(bits.text()?, 16).ok()?.to_le_bytes().to_vec())
        }
        [(INVALID, tree)] => (kind::STRING, string(&unescape_invalid(tree.text()?)?)),
        [("$symbol", tree)] => (kind::SYMBOL, string(&tree.bytes()?)),
        [("$code", tree)] => (kind::CODE, string(&tree.bytes()?)),
        [("$code", code), ("$scope", scope)] => {
            let (kind::DOCUMENT, scope) = value(scope)? else { return None };
            let rest = [string(&code.bytes()?), scope].concat();
            (kind::CODE_WITH_SCOPE, [&(rest.len() as i32 + 4).to_le_bytes()[..], &rest].concat())
        }
        [("$oid", tree)] => (kind::OBJECT_ID, object_id(tree.text()?)?),
        [("$uuid", tree)] => (kind::BINARY, binary(4, &Uuid::parse_str(tree.text()?).ok()?.bytes())),
        [("$binary", Tree::Object(parts))] => {
            let subtype = u8::from_str_radix(member(parts, "subType")?.text()?, 16).ok()?;
            (kind::BINARY, binary(subtype, &BASE64.decode(member(parts, "base64")?.text()?).ok()?))
        }
        [("$date", tree)] => (kind::DATE, date(tree)?.to_le_bytes().to_vec()),
        [("$timestamp", Tree::Object(parts))] => {
            let part = |name| u32::try_from(member(parts, name)?.integer()?).ok();
            (kind::TIMESTAMP, [part("i")?.to_le_bytes(), part("t")?.to_le_bytes()].concat())
        }
        [("$regularExpression", Tree::Object(parts))] => {
            let part = |name| without_zeros(member(parts, name)?.bytes()?);
            (kind::REGEX, [part("pattern")?, vec![0], part("options")?, vec![0]].concat())
        }
        [("$dbPointer", Tree::Object(parts))] => {
            let (kind::OBJECT_ID, id) = value(member(parts, "$id")?)? else { return None };
            (kind::DB_POINTER, [string(&member(parts, "$ref")?.bytes()?), id].concat())
        }
        [("$undefined", Tree::Bool(true))] => (kind::UNDEFINED, vec![]),
        [("$minKey", Tree::Integer(1))] => (kind::MIN_KEY, vec![]),
        [("$maxKey", Tree::Integer(1))] => (kind::MAX_KEY, vec![]),
        [("$document", Tree::Object(fields))] => (kind::DOCUMENT, document(fields)?),
        [("$array", Tree::Object(fields))] => (kind::ARRAY, document(fields)?),
        [("$bson", tree)] => raw_value(tree)?,
        _ => return None,
    })
}

fn raw_value(tree: &Tree) -> Option<Parsed> {
    let Tree::Object(parts) = tree else { return None };
    let kind = u8::from_str_radix(member(parts, "type")?.text()?, 16).ok()?;
    Some((kind, BASE64.decode(member(parts, "base64")?.text()?).ok()?))
}

fn member<'a>(fields: &'a Fields, name: &str) -> Option<&'a Tree> {
    fields.iter().find(|(found, _)| found == name).map(|(_, tree)| tree)
}

/// The 12 bytes of 24 hexadecimal digits.
pub(super) fn object_id(text: &str) -> Option<Vec<u8>> {
    bson::oid::ObjectId::parse_str(text).ok().map(|id| id.bytes().to_vec())
}

fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust reads "inf" and "nan" as well, in any case.
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}

fn binary(subtype: u8, content: &[u8]) -> Vec<u8> {
    let len = (content.len() as i32).to_le_bytes();
    if subtype == 2 {
        return [&(content.len() as i32 + 4).to_le_bytes()[..], &[2], &len, content].concat();
    }
    [&len[..], &[subtype], content].concat()
}

fn date(tree: &Tree) -> Option<i64> {
    match tree {
        Tree::Text(text) => DateTime::parse_rfc3339_str(text).ok().map(DateTime::timestamp_millis),
        Tree::Object(_) => match value(tree)? {
            (kind::INT64, bytes) => bytes.try_into().ok().map(i64::from_le_bytes),
            _ => None,
        },
        tree => tree.integer(),
    }
}

/// The bytes of what [`super::json::escape_invalid`] wrote.
fn unescape_invalid(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        rest = match escape.strip_prefix('\\') {
            Some(rest) => {
                out.push(b'\\');
                rest
            }
            None => {
                let (digits, rest) = escape.strip_prefix('x')?.split_at_checked(2)?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest
            }
        };
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

impl Tree {
    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// Text that may be marked as not UTF-8.
    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Object(fields) => unescape_invalid(member(fields, INVALID)?.text()?),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(i64::try_from(value).map_or(Tree::Float(value as f64), Tree::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element()? {
            out.push(item);
        }
        Ok(Tree::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut out = Vec::new();
        while let Some(field) = fields.next_entry()? {
            out.push(field);
        }
        Ok(Tree::Object(out))
    }
}
