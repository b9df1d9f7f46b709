//! The commands of a transaction, as raw BSON.

use bson::{RawDocument, RawDocumentBuf, rawdoc};
use repo_format::bson::{Element, kind};

use crate::document::regular;
use crate::error::{Error, Kind, Result};
use crate::source::mongodb::wire::DocumentWriter;
use crate::target::mongodb::batch::{Traits, shown_id};
use crate::target::mongodb::raw::{self, Builder};

/// Documents that one command names or holds.
const COMMAND_DOCUMENTS: usize = 1_000;
/// Bytes of documents in one command, if there are so many. It must stay below 16 MB.
const COMMAND_BYTES: usize = 4 << 20;
/// Bytes of ids in one command. They come once in what is asked for, and once in what is told.
const COMMAND_IDS: usize = 1 << 20;

/// A value of `_id`: its type and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    kind: u8,
    value: Vec<u8>,
}

impl Id {
    /// The first `_id` of a document.
    pub fn of(document: &RawDocument) -> Result<Self> {
        match raw::find(document, "_id")? {
            Some(id) => Ok(Self { kind: id.kind, value: id.value.to_vec() }),
            None => Err(Error::new(Kind::Unsupported, "a document has no _id, so it cannot be found again")
                .with_help("Leave its collection out of the restore.")),
        }
    }

    pub fn element(&self) -> Element<'_> {
        Element { kind: self.kind, name: b"_id", value: &self.value }
    }
}

/// Whether an update command takes the document for what is to be there, and nothing of it is changed on
/// the way: names that begin with a dollar are operators there or are refused, servers fill in empty
/// timestamps, and they put a replacement together anew, where they store what is inserted as it comes.
pub(super) fn is_plain(document: &RawDocument) -> Result<bool> {
    let has_dollar = raw::elements(document)?.iter().any(|element| element.name.starts_with(b"$"));
    let traits = Traits::of(document.as_bytes())?;
    Ok(!traits.has_empty_timestamp && !has_dollar && regular(document.as_bytes()))
}

/// Whether the driver's own insert sends the document as it is: a sequence beside the command, whose bytes
/// nobody takes apart on the way.
pub(super) fn suits_the_driver(document: &RawDocument) -> Result<bool> {
    Ok(Traits::of(document.as_bytes())?.suits_the_driver())
}

/// Whether a server fills something in when the document is inserted.
pub(super) fn has_empty_timestamp(document: &RawDocument) -> Result<bool> {
    Ok(Traits::of(document.as_bytes())?.has_empty_timestamp)
}

/// Finds documents by their ids.
pub(super) fn find(collection: &str, ids: &[&Id]) -> Result<RawDocumentBuf> {
    let mut command = Builder::from_document(&rawdoc! { "find": collection })?;
    command.push_document("filter", &one_of(ids));
    // An answer that is cut is gone on with.
    command.push(kind::INT32, b"batchSize", &i32::MAX.to_le_bytes());
    command.finish()
}

/// Removes documents by their ids.
pub(super) fn delete(collection: &str, ids: &[&Id]) -> Result<RawDocumentBuf> {
    let mut statement = Builder::new();
    statement.push_document("q", &one_of(ids));
    statement.push(kind::INT32, b"limit", &0i32.to_le_bytes());
    let mut command = Builder::from_document(&rawdoc! { "delete": collection, "ordered": true })?;
    command.push_array("deletes", &[statement.finish()?])?;
    command.finish()
}

/// Puts documents in the place of those with their ids.
pub(super) fn replace(
    collection: &str,
    documents: &[&RawDocumentBuf],
    bypasses: bool,
) -> Result<RawDocumentBuf> {
    let statement = |document: &&RawDocumentBuf| {
        let mut statement = Builder::new();
        statement.push_document("q", &exactly(&Id::of(document)?));
        statement.push_document("u", document.as_bytes());
        statement.finish()
    };
    let statements = documents.iter().map(statement).collect::<Result<Vec<_>>>()?;
    update(collection, &statements, bypasses)
}

/// Runs statements that each write one document.
pub(super) fn update(
    collection: &str,
    statements: &[RawDocumentBuf],
    bypasses: bool,
) -> Result<RawDocumentBuf> {
    let mut command = Builder::from_document(&rawdoc! { "update": collection, "ordered": true })?;
    if bypasses {
        command.push(kind::BOOLEAN, b"bypassDocumentValidation", &[1]);
    }
    command.push_array("updates", statements)?;
    command.finish()
}

/// Adds documents that do not suit the driver. Some servers can be told that empty timestamps stay empty.
pub(super) fn insert(
    collection: &str,
    documents: &[&RawDocumentBuf],
    bypasses: bool,
    keeps_timestamps: bool,
) -> Result<RawDocumentBuf> {
    let mut command = Builder::from_document(&rawdoc! { "insert": collection, "ordered": true })?;
    if bypasses {
        command.push(kind::BOOLEAN, b"bypassDocumentValidation", &[1]);
    }
    if keeps_timestamps {
        command.push(kind::BOOLEAN, b"bypassEmptyTsReplacement", &[1]);
    }
    let documents: Vec<RawDocumentBuf> = documents.iter().map(|document| (*document).clone()).collect();
    command.push_array("documents", &documents)?;
    command.finish()
}

/// Ids in parts that one command takes.
pub(super) fn by_ids<'p, 'i>(ids: &'p [&'i Id]) -> impl Iterator<Item = &'p [&'i Id]> {
    parts(ids, COMMAND_IDS, |id| id.value.len() + 16)
}

/// Documents in parts that one command takes.
pub(super) fn by_documents<'p, 'd>(
    documents: &'p [&'d RawDocumentBuf],
) -> impl Iterator<Item = &'p [&'d RawDocumentBuf]> {
    parts(documents, COMMAND_BYTES, |document| document.as_bytes().len())
}

/// Consecutive parts of a list, each as large as allowed and with one item at least.
fn parts<T>(
    mut rest: &[T],
    most_bytes: usize,
    size_bytes: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |item: &&T| {
            bytes += size_bytes(item);
            bytes <= most_bytes
        };
        let fitting = rest.iter().take(COMMAND_DOCUMENTS).take_while(fits).count();
        let (part, after) = rest.split_at(fitting.max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// `{_id: {$in: [..]}}`.
fn one_of(ids: &[&Id]) -> Vec<u8> {
    let mut list = DocumentWriter::new();
    for (position, id) in ids.iter().enumerate() {
        list.push(id.kind, position.to_string().as_bytes(), &id.value);
    }
    condition(kind::ARRAY, b"$in", &list.finish())
}

/// `{_id: {$eq: ..}}`.
fn exactly(id: &Id) -> Vec<u8> {
    condition(id.kind, b"$eq", &id.value)
}

fn condition(kind: u8, operator: &[u8], value: &[u8]) -> Vec<u8> {
    let mut condition = DocumentWriter::new();
    condition.push(kind, operator, value);
    let mut filter = DocumentWriter::new();
    filter.push(kind::DOCUMENT, b"_id", &condition.finish());
    filter.finish()
}

/// A document in words, by its `_id`.
pub(super) fn shown(document: &RawDocument) -> String {
    shown_id(document)
}

#[cfg(test)]
mod tests {
    use bson::Timestamp;

    use super::*;

    #[test]
    fn documents_that_an_update_would_take_for_something_else_are_seen() {
        let empty = Timestamp { time: 0, increment: 0 };
        assert!(is_plain(&rawdoc! { "_id": 1, "a": { "t": empty, "$ref": "c" } }).unwrap());
        assert!(!is_plain(&rawdoc! { "_id": 1, "$set": 1 }).unwrap());
        assert!(!is_plain(&rawdoc! { "$set": { "a": 1 }, "_id": 1 }).unwrap());
        assert!(!is_plain(&rawdoc! { "_id": 1, "t": empty }).unwrap());
        let mut repeated = rawdoc! { "_id": 1, "a": 1, "b": 2 }.into_bytes();
        let at = repeated.iter().position(|byte| *byte == b'b').unwrap();
        repeated[at] = b'a';
        assert!(!is_plain(&raw::document(repeated).unwrap()).unwrap());
    }

    #[test]
    fn nothing_in_an_id_or_a_document_is_an_operator() {
        let document = rawdoc! { "_id": { "$odd": 1 }, "a": "$b" };
        let command = replace("c", &[&document], true).unwrap();
        let wanted = rawdoc! { "update": "c", "ordered": true, "bypassDocumentValidation": true,
        "updates": [{ "q": { "_id": { "$eq": { "$odd": 1 } } }, "u": document.clone() }] };
        assert_eq!(command, wanted);
        let id = Id::of(&document).unwrap();
        let wanted = rawdoc! { "delete": "c", "ordered": true,
        "deletes": [{ "q": { "_id": { "$in": [{ "$odd": 1 }] } }, "limit": 0 }] };
        assert_eq!(delete("c", &[&id]).unwrap(), wanted);
    }

    #[test]
    fn a_list_is_cut_where_a_command_is_full() {
        let cut =
            |sizes: &[usize]| -> Vec<usize> { parts(sizes, 10, |size| *size).map(<[usize]>::len).collect() };
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&[5, 5, 1]), [2, 1]);
        assert_eq!(cut(&[50, 50, 1]), [1, 1, 1]);
        assert_eq!(cut(&vec![0; COMMAND_DOCUMENTS + 1]), [COMMAND_DOCUMENTS, 1]);
    }
}
