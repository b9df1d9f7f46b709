//! Records as people read them: columns with texts or documents as JSON, keys in words.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use repo_format::catalog::{KeySource, Layout};
use repo_format::keys::RowKey;
use repo_format::limits;
use repo_format::order::bound_key;
use repo_format::order::bson::push_id;
use repo_format::order::postgres::push_key;
use repo_format::record::{Field, Fields};
use repo_format::value;
use serde::{Deserialize, Serialize};

use crate::document;
use crate::error::{Error, Kind, Result};
use crate::repo::ObjectReader;

/// Bytes of one value that are shown; longer ones are cut and marked.
pub const SHOWN_BYTES: usize = 64 << 10;

/// One cell: the column's name and the value's text as the database prints it, or `None` for NULL.
pub type Cell = (String, Option<String>);
/// One row, in column order.
pub type Row = Vec<Cell>;

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A row of a table.
    Row(Row),
    /// A document, as canonical Extended JSON.
    Document(String),
}

impl Content {
    /// The row, unless it is a document.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Row(row) => Some(row),
            Self::Document(_) => None,
        }
    }

    /// The document as canonical Extended JSON, unless it is a row.
    pub fn document(&self) -> Option<&str> {
        match self {
            Self::Row(_) => None,
            Self::Document(json) => Some(json),
        }
    }
}

/// Which page of a list is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Where the page before ended, as it said; `None` for the first page.
    pub cursor: Option<String>,
    /// Begin at the first record whose key is at least this: the text of the first key column, a
    /// JSON array of the key columns' texts, or a key of several columns as it is shown, `(a, b)`;
    /// for documents the `_id` as lists show it: Extended JSON, or a word, which is an ObjectId in
    /// hexadecimal, a number, else a string.
    pub from_key: Option<String>,
    /// Items asked for, at least 1.
    pub limit: usize,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { cursor: None, from_key: None, limit: 100 }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, in key order.
    pub items: Vec<T>,
    /// Asks for the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

/// A key as an opaque, URL-safe string.
pub(crate) fn encode_id(key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The key of an opaque string that [`encode_id`] made.
pub(crate) fn decode_id(text: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| {
        Error::new(Kind::Invalid, "the cursor or record id is not one of ours")
            .with_help("Use it exactly as an earlier answer gave it.")
    })
}

/// The key a page starts at: after the cursor, or at `from_key`.
pub(crate) fn start_key(page: &PageRequest, layout: &Layout, hasher: &RowKey) -> Result<Option<Vec<u8>>> {
    match (&page.cursor, &page.from_key) {
        (Some(cursor), _) => decode_id(cursor).map(Some),
        (None, Some(text)) => key_from_text(text, layout, hasher).map(Some),
        (None, None) => Ok(None),
    }
}

/// The least key that begins with the given key columns.
fn key_from_text(text: &str, layout: &Layout, hasher: &RowKey) -> Result<Vec<u8>> {
    if layout.is_documents() {
        return key_of_id(text, hasher);
    }
    let parts: Vec<String> = serde_json::from_str(text)
        .ok()
        .or_else(|| as_shown(text, layout.key.columns.len()))
        .unwrap_or_else(|| vec![text.to_owned()]);
    let mut key = Vec::new();
    for (part, column) in parts.iter().zip(&layout.key.columns) {
        push_key(&mut key, column.encoding, part.as_bytes()).map_err(|error| {
            let name = &layout.columns[column.column as usize].name;
            Error::new(Kind::Invalid, format!("{part:?} is no value of the key column {name}"))
                .with_help("Give the key as the database prints it.")
                .with_source(error)
        })?;
    }
    bound_key(&mut key, hasher);
    Ok(key)
}

/// The columns of a key as [`readable_key`] writes several: `(a, b)`. A value that holds a comma and a
/// space makes it ambiguous, and then it takes the JSON array.
fn as_shown(text: &str, columns: usize) -> Option<Vec<String>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let parts: Vec<String> = inner.split(", ").map(str::to_owned).collect();
    (columns > 1 && parts.len() == columns).then_some(parts)
}

fn key_of_id(text: &str, hasher: &RowKey) -> Result<Vec<u8>> {
    let no_id = || {
        Error::new(Kind::Invalid, format!("{text:?} is no _id")).with_help(
            "Write it as Extended JSON, as in {\"$oid\": \"65f0c0ffee65f0c0ffee65f0\"}, or as a word. One that is \
             shown shortened and is no text has to be written whole.",
        )
    };
    let (kind, value) = document::id_from_text(text).ok_or_else(no_id)?;
    let mut key = Vec::new();
    push_id(&mut key, kind, &value).map_err(|error| no_id().with_source(error))?;
    bound_key(&mut key, hasher);
    Ok(key)
}

/// A record as shown, its key in words, and whether a value was cut.
pub(crate) fn shown(layout: &Layout, key: &[u8], record: &[u8], reader: &mut ObjectReader) -> Result<Shown> {
    if !layout.is_documents() {
        let (row, truncated) = row(layout, record, reader)?;
        let key = readable_key(layout, key, &row);
        return Ok(Shown { key, content: Content::Row(row), truncated });
    }
    let bytes = document(record, reader)?;
    let (json, truncated) = document::shown(&bytes, SHOWN_BYTES);
    let key = match layout.key.source {
        KeySource::Multiset => multiset_key("document", key),
        KeySource::Primary | KeySource::Unique => document::readable_id(&bytes),
    };
    Ok(Shown { key, content: Content::Document(json), truncated })
}

/// A record as people read it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub key: String,
    pub content: Content,
    pub truncated: bool,
}

/// The BSON bytes of a document's record.
pub(crate) fn document(record: &[u8], reader: &mut ObjectReader) -> Result<Vec<u8>> {
    let mut fields = Fields::new(record);
    let (first, rest) = (fields.next().transpose()?, fields.next());
    match (first, rest) {
        (Some(Field::Inline(bytes)), None) => Ok(bytes.to_vec()),
        (Some(Field::Out(place)), None) => value::read(&place, limits::RECORD as u64, reader),
        _ => Err(Error::damaged("a record is not one document")),
    }
}

/// A row's fields as texts. Says whether a value was cut.
fn row(layout: &Layout, record: &[u8], reader: &mut ObjectReader) -> Result<(Row, bool)> {
    let mut fields = Fields::new(record);
    let mut truncated = false;
    let mut cells = Vec::with_capacity(layout.columns.len());
    for column in &layout.columns {
        let text = match fields.next().transpose()? {
            None | Some(Field::Null) => None,
            Some(Field::Inline(bytes)) => Some(text(bytes, bytes.len() as u64, &mut truncated)),
            Some(Field::Out(place)) => {
                let prefix = value::read_prefix(&place, SHOWN_BYTES, reader)?;
                Some(text(&prefix, place.len, &mut truncated))
            }
        };
        cells.push((column.name.clone(), text));
    }
    if fields.next().is_some() {
        return Err(Error::damaged("a record has more fields than its collection has columns"));
    }
    Ok((cells, truncated))
}

/// Bytes as text: cut to what is shown, and what is not UTF-8 replaced.
fn text(bytes: &[u8], len: u64, truncated: &mut bool) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    *truncated |= len > shown.len() as u64;
    String::from_utf8_lossy(shown).into_owned()
}

/// A key in words: the texts of its columns, or a short form of the hash where rows have no key.
fn readable_key(layout: &Layout, key: &[u8], row: &Row) -> String {
    if layout.key.source == KeySource::Multiset {
        return multiset_key("row", key);
    }
    let texts: Vec<&str> = (layout.key.columns.iter())
        .map(|part| row.get(part.column as usize).and_then(|(_, text)| text.as_deref()).unwrap_or("NULL"))
        .collect();
    match texts.as_slice() {
        [only] => (*only).to_owned(),
        several => format!("({})", several.join(", ")),
    }
}

fn multiset_key(what: &str, key: &[u8]) -> String {
    let short: String = key.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let ordinal = key.get(32..).and_then(|tail| tail.first_chunk()).map(|tail| u64::from_be_bytes(*tail));
    match ordinal {
        Some(ordinal) => format!("{what} {short} (copy {})", ordinal + 1),
        None => format!("{what} {short}"),
    }
}
