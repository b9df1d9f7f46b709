//! Definitions of collections: normalised texts to compare, and an archive to restore from.

use std::collections::BTreeMap;

use repo_format::bson::{self as raw, kind};

use super::catalog::{Kind, Listed};
use super::wire::{self, DocumentWriter};
use crate::document;
use crate::error::{Error, Kind as ErrorKind, Result};

/// The version of the rules below.
pub(super) const VERSION: u32 = 1;
/// What validators are when nothing else was said.
const STRICTNESS: [(&str, &str); 2] = [("validationLevel", "strict"), ("validationAction", "error")];
/// Deeper than a server stores.
const DEPTH: usize = 250;

/// The normalised schema of a collection: JSON with what it is, its options and its indexes, each
/// with its definition as Extended JSON text, whose order of fields is kept because it matters in
/// pipelines and keys. What only the server's version makes differ is left out.
pub(super) fn text(listed: &Listed) -> Result<String> {
    let mut options = Vec::new();
    for option in wire::elements(&listed.options)? {
        let option = option?;
        let name = String::from_utf8_lossy(option.name).into_owned();
        if name == "uuid" || name == "autoIndexId" {
            continue;
        }
        // Some servers list how strict a validator is although nobody said, and some do not.
        let default = STRICTNESS.iter().find(|(known, _)| *known == name).map(|(_, default)| *default);
        if default.is_some() && wire::text(&listed.options, &name)?.as_deref() == default {
            continue;
        }
        let value = match (name.as_str(), option.kind) {
            ("collation", kind::DOCUMENT) => without(option.value, &["version"])?,
            ("clusteredIndex", kind::DOCUMENT) => without(option.value, &["v"])?,
            _ => option.value.to_vec(),
        };
        options.push((name, json(option.kind, &value)?));
    }
    options.sort();
    let mut indexes = Vec::new();
    for index in &listed.indexes {
        indexes.push((wire::text(index, "name")?.unwrap_or_default(), index_definition(index)?));
    }
    indexes.sort();
    let named = |members: Vec<(String, String)>| -> Vec<serde_json::Value> {
        let member = |(name, definition)| serde_json::json!({ "name": name, "definition": definition });
        members.into_iter().map(member).collect()
    };
    let mut schema = serde_json::json!({
        "kind": kind_name(listed),
        "options": named(options),
        "indexes": named(indexes),
    });
    if !listed.building.is_empty() {
        let mut building = listed.building.clone();
        building.sort();
        schema["indexes_in_progress"] = building.into();
    }
    Ok(schema.to_string())
}

fn kind_name(listed: &Listed) -> &'static str {
    match listed.kind {
        Kind::Plain => "collection",
        Kind::Capped => "capped collection",
        Kind::TimeSeries => "time series",
        Kind::View => "view",
    }
}

/// An index without its name, and without what servers add by themselves: the namespace, versions
/// at their defaults, and the simple collation, which some list and some do not.
fn index_definition(index: &[u8]) -> Result<String> {
    const DROPPED: [&str; 4] = ["name", "ns", "background", "safe"];
    const DEFAULTS: [(&str, i64); 3] = [("v", 2), ("textIndexVersion", 3), ("2dsphereIndexVersion", 3)];
    let mut key = String::new();
    let mut rest = Vec::new();
    for member in wire::elements(index)? {
        let member = member?;
        let name = String::from_utf8_lossy(member.name).into_owned();
        let default = DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, default)| *default);
        let is_default = default.is_some() && wire::number(index, &name)? == default;
        if DROPPED.contains(&name.as_str()) || is_default {
            continue;
        }
        let value = match (name.as_str(), member.kind) {
            ("collation", kind::DOCUMENT) => {
                if wire::text(member.value, "locale")?.as_deref() == Some("simple") {
                    continue;
                }
                without(member.value, &["version"])?
            }
            _ => member.value.to_vec(),
        };
        let value = json(member.kind, &value)?;
        if name == "key" { key = value } else { rest.push((name, value)) }
    }
    rest.sort();
    let rest: String =
        rest.iter().map(|(name, value)| format!(",{}:{value}", quoted(name.as_bytes()))).collect();
    Ok(format!("{{\"key\":{key}{rest}}}"))
}

fn without(document: &[u8], names: &[&str]) -> Result<Vec<u8>> {
    let mut out = DocumentWriter::new();
    for element in wire::elements(document)? {
        let element = element?;
        if !names.iter().any(|name| name.as_bytes() == element.name) {
            out.push(element.kind, element.name, element.value);
        }
    }
    Ok(out.finish())
}

/// A value as Extended JSON. Whole numbers of every type are plain digits, because servers change
/// their types on the way; fields stay in their order, duplicates included.
pub(super) fn json(kind: u8, value: &[u8]) -> Result<String> {
    let mut out = String::new();
    write_json(&mut out, kind, value, 0)?;
    Ok(out)
}

fn write_json(out: &mut String, kind: u8, value: &[u8], depth: usize) -> Result<()> {
    let strange = || Error::new(ErrorKind::Internal, "a definition holds a value that cannot be read");
    if depth > DEPTH {
        return Err(strange());
    }
    let read = |error: repo_format::Error| strange().with_source(error);
    let eight = || value.first_chunk::<8>().copied().ok_or_else(strange);
    match kind {
        kind::DOCUMENT | kind::ARRAY => {
            let is_array = kind == kind::ARRAY;
            out.push(if is_array { '[' } else { '{' });
            for (position, element) in wire::elements(value)?.enumerate() {
                let element = element?;
                if position > 0 {
                    out.push(',');
                }
                if !is_array {
                    out.push_str(&quoted(element.name));
                    out.push(':');
                }
                write_json(out, element.kind, element.value, depth + 1)?;
            }
            out.push(if is_array { ']' } else { '}' });
        }
        kind::STRING => out.push_str(&quoted(raw::text(value).map_err(read)?)),
        kind::BOOLEAN => out.push_str(if value == [0] { "false" } else { "true" }),
        kind::NULL => out.push_str("null"),
        kind::INT32 => {
            let bytes = value.first_chunk().ok_or_else(strange)?;
            out.push_str(&i32::from_le_bytes(*bytes).to_string());
        }
        kind::INT64 => out.push_str(&i64::from_le_bytes(eight()?).to_string()),
        kind::DOUBLE => {
            let number = f64::from_le_bytes(eight()?);
            if number.is_finite() {
                out.push_str(&number.to_string());
            } else {
                out.push_str(&format!("{{\"$numberDouble\":\"{number}\"}}"));
            }
        }
        other => out.push_str(&special(other, value)),
    }
    Ok(())
}

/// The types that JSON has no form for: in canonical Extended JSON.
fn special(kind: u8, value: &[u8]) -> String {
    let mut alone = DocumentWriter::new();
    alone.push(kind, b"v", value);
    let text = document::extended_json(&alone.finish());
    let inner = text.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}'));
    inner.unwrap_or(&text).trim().to_owned()
}

fn quoted(text: &[u8]) -> String {
    serde_json::Value::from(String::from_utf8_lossy(text)).to_string()
}

/// What a restore reads: one BSON document per collection, with options and indexes as the server
/// gave them, and the names of search indexes. The same for the same definitions.
pub(super) fn archive(collections: &[Listed], search_indexes: &BTreeMap<usize, Vec<String>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, listed) in collections.iter().enumerate() {
        let mut document = DocumentWriter::new();
        document.push_text(b"db", &listed.database);
        document.push_text(b"name", &listed.name);
        document.push_text(b"type", &listed.type_name);
        document.push(kind::DOCUMENT, b"options", &listed.options);
        let mut indexes = DocumentWriter::new();
        for (position, index) in listed.indexes.iter().enumerate() {
            indexes.push(kind::DOCUMENT, position.to_string().as_bytes(), index);
        }
        document.push(kind::ARRAY, b"indexes", &indexes.finish());
        if let Some(names) = search_indexes.get(&at) {
            document.push(kind::ARRAY, b"searchIndexes", &named(names));
        }
        out.extend_from_slice(&document.finish());
    }
    out
}

/// An array of documents with a name each.
fn named(names: &[String]) -> Vec<u8> {
    let mut array = DocumentWriter::new();
    for (position, name) in names.iter().enumerate() {
        let mut document = DocumentWriter::new();
        document.push_text(b"name", name);
        array.push(kind::DOCUMENT, position.to_string().as_bytes(), &document.finish());
    }
    array.finish()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn bytes(document: bson::Document) -> Vec<u8> {
        bson::RawDocumentBuf::try_from(&document).unwrap().into_bytes()
    }

    fn listed(kind: Kind, options: bson::Document, indexes: Vec<bson::Document>) -> Listed {
        Listed {
            database: "shop".into(),
            name: "orders".into(),
            kind,
            type_name: "collection".into(),
            options: bytes(options),
            uuid: None,
            indexes: indexes.into_iter().map(bytes).collect(),
            building: Vec::new(),
        }
    }

    #[test]
    fn what_only_versions_make_differ_is_left_out() {
        let old = listed(
            Kind::Plain,
            doc! { "collation": { "locale": "de", "version": "57.1" } },
            vec![
                doc! { "v": 1i64 + 1, "key": { "a": 1.0, "b": -1 }, "name": "a_1", "ns": "shop.orders", "background": true },
            ],
        );
        let new = listed(
            Kind::Plain,
            doc! { "collation": { "locale": "de", "version": "70.1" } },
            vec![
                doc! { "v": 2, "key": { "a": 1, "b": -1 }, "name": "a_1", "collation": { "locale": "simple" } },
            ],
        );
        assert_eq!(text(&old).unwrap(), text(&new).unwrap());
        assert!(text(&new).unwrap().contains(r#"{\"key\":{\"a\":1,\"b\":-1}}"#));
    }

    #[test]
    fn a_validator_is_strict_whether_it_says_so_or_not() {
        let judged = |options: bson::Document| text(&listed(Kind::Plain, options, vec![])).unwrap();
        let short = judged(doc! { "validator": { "a": 1 } });
        let said = doc! { "validator": { "a": 1 }, "validationLevel": "strict", "validationAction": "error" };
        assert_eq!(judged(said), short);
        assert_ne!(judged(doc! { "validator": { "a": 1 }, "validationAction": "warn" }), short);
    }

    #[test]
    fn order_and_rare_types_are_kept() {
        let view = |sort: bson::Document| {
            text(&listed(Kind::View, doc! { "viewOn": "o", "pipeline": [{ "$sort": sort }] }, vec![]))
                .unwrap()
        };
        assert_ne!(view(doc! { "a": 1, "b": 1 }), view(doc! { "b": 1, "a": 1 }));
        let partial = |filter: bson::Document| {
            let index = doc! { "v": 2, "key": { "x": 1 }, "name": "x", "partialFilterExpression": filter };
            text(&listed(Kind::Plain, doc! {}, vec![index])).unwrap()
        };
        assert!(partial(doc! {}).contains(r#"\"partialFilterExpression\":{}"#));
        let dated = partial(doc! { "at": bson::DateTime::from_millis(5), "n": f64::NAN });
        assert!(dated.contains("$date") && dated.contains("$numberDouble"), "{dated}");
        let first = listed(Kind::Plain, doc! {}, vec![doc! { "v": 1, "key": { "x": 1 }, "name": "x" }]);
        assert!(text(&first).unwrap().contains(r#"\"v\":1"#));
    }

    #[test]
    fn the_archive_holds_every_definition_byte_for_byte() {
        let one =
            listed(Kind::Capped, doc! { "capped": true, "size": 4096.5 }, vec![doc! { "v": 2, "name": "x" }]);
        let archive = archive(&[one.clone(), one.clone()], &BTreeMap::new());
        let first = bson::RawDocument::from_bytes(&archive[..archive.len() / 2]).unwrap();
        assert_eq!(first.get_document("options").unwrap().as_bytes(), one.options);
        let indexes = first.get_array("indexes").unwrap();
        assert_eq!(indexes.get_document(0).unwrap().as_bytes(), one.indexes[0]);
        assert_eq!(archive[..archive.len() / 2], archive[archive.len() / 2..]);
    }
}
