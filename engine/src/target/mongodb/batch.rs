//! Documents on their way into a collection, and what a server would do to them.

use bson::{RawDocument, RawDocumentBuf};
use repo_format::bson::{Elements, kind};

use super::raw;
use crate::document;
use crate::error::Result;

/// What inserting a document would do to it, or to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    /// It has a field `_id` at its top.
    pub has_id: bool,
    /// That field is the first one. Servers put it there.
    pub id_is_first: bool,
    /// A field at its top, other than `_id`, is a timestamp of zero. Servers fill those in.
    pub has_empty_timestamp: bool,
    /// The driver reads the `_id`, and can.
    pub id_is_readable: bool,
}

impl Traits {
    pub fn of(document: &[u8]) -> Result<Self> {
        let mut traits =
            Self { has_id: false, id_is_first: false, has_empty_timestamp: false, id_is_readable: false };
        for (position, element) in Elements::new(document)?.enumerate() {
            let element = element?;
            if element.name == b"_id" {
                if !traits.has_id {
                    traits.id_is_first = position == 0;
                    traits.id_is_readable = is_readable(element.kind, element.value);
                }
                traits.has_id = true;
            } else if element.kind == kind::TIMESTAMP && element.value == [0; 8] {
                traits.has_empty_timestamp = true;
            }
        }
        Ok(traits)
    }

    /// Whether the driver's own insert sends the document as it is. It gives an `_id` to those
    /// without, and has no option for empty timestamps.
    pub fn suits_the_driver(self) -> bool {
        self.has_id && self.id_is_readable && !self.has_empty_timestamp
    }
}

/// Types that the driver reads without looking at text.
fn is_readable(kind: u8, value: &[u8]) -> bool {
    match kind {
        kind::STRING => repo_format::bson::text(value).is_ok_and(|text| std::str::from_utf8(text).is_ok()),
        kind::DOCUMENT => {
            RawDocument::from_bytes(value).is_ok_and(|document| bson::Document::try_from(document).is_ok())
        }
        other => matches!(
            other,
            kind::DOUBLE
                | kind::BINARY
                | kind::OBJECT_ID
                | kind::BOOLEAN
                | kind::DATE
                | kind::NULL
                | kind::INT32
                | kind::TIMESTAMP
                | kind::INT64
                | kind::DECIMAL128
                | kind::MAX_KEY
                | kind::MIN_KEY
        ),
    }
}

/// How a batch is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the driver's insert: a sequence of documents beside the command, tried again under the
    /// same transaction number when the connection is lost.
    Driver,
    /// By a command that holds the documents.
    Command,
}

/// Consecutive documents that go to the server together.
#[derive(Debug)]
pub(super) struct Batch {
    pub way: Way,
    pub documents: Vec<RawDocumentBuf>,
    pub size_bytes: usize,
    /// Positions of documents with empty timestamps.
    pub empty_timestamps: Vec<usize>,
}

impl Batch {
    pub fn new(way: Way) -> Self {
        Self { way, documents: Vec::new(), size_bytes: 0, empty_timestamps: Vec::new() }
    }

    pub fn push(&mut self, document: &[u8], traits: Traits) -> Result<()> {
        if traits.has_empty_timestamp {
            self.empty_timestamps.push(self.documents.len());
        }
        self.size_bytes += document.len();
        self.documents.push(raw::document(document.to_vec())?);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}

/// A document's `_id`, for messages.
pub(super) fn shown_id(document: &RawDocument) -> String {
    const LIMIT: usize = 200;
    match raw::find(document, "_id") {
        Ok(Some(_)) => {
            let id: String = document::readable_id(document.as_bytes()).chars().take(LIMIT).collect();
            format!("the document with _id {id}")
        }
        _ => "a document without _id".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::{Timestamp, rawdoc};

    use super::super::raw::Builder;
    use super::*;

    fn traits(document: &RawDocument) -> Traits {
        Traits::of(document.as_bytes()).unwrap()
    }

    #[test]
    fn what_a_server_or_the_driver_would_change_is_seen() {
        let empty = Timestamp { time: 0, increment: 0 };
        let plain = traits(&rawdoc! { "_id": 1, "a": { "t": empty } });
        assert!(plain.suits_the_driver() && plain.id_is_first);
        let filled_in = traits(&rawdoc! { "_id": 1, "t": empty });
        assert!(filled_in.has_empty_timestamp && !filled_in.suits_the_driver());
        // The server leaves an _id alone.
        assert!(traits(&rawdoc! { "_id": empty }).suits_the_driver());
        let moved = traits(&rawdoc! { "a": 1, "_id": 2 });
        assert!(moved.has_id && !moved.id_is_first && moved.suits_the_driver());
        assert!(!traits(&rawdoc! { "a": 1 }).suits_the_driver());
    }

    #[test]
    fn ids_that_the_driver_cannot_read_go_another_way() {
        let with_id = |kind: u8, value: &[u8]| {
            let mut document = Builder::new();
            document.push(kind, b"_id", value);
            document.finish().unwrap()
        };
        let broken = with_id(kind::STRING, &[2, 0, 0, 0, 0xff, 0]);
        assert!(!traits(&broken).suits_the_driver());
        assert!(
            !traits(&with_id(kind::DOCUMENT, with_id(kind::STRING, &[2, 0, 0, 0, 0xff, 0]).as_bytes()))
                .suits_the_driver()
        );
        assert!(traits(&with_id(kind::STRING, &[2, 0, 0, 0, b'a', 0])).suits_the_driver());
    }

    #[test]
    fn ids_are_shown_in_words() {
        let shown = |document: RawDocumentBuf| shown_id(&document);
        assert_eq!(shown(rawdoc! { "_id": 7i64 }), "the document with _id 7");
        assert_eq!(shown(rawdoc! { "_id": "a" }), "the document with _id a");
        assert_eq!(shown(rawdoc! { "a": 1 }), "a document without _id");
        let id = ObjectId::from_bytes([7; 12]);
        assert!(shown(rawdoc! { "_id": id }).contains("070707070707070707070707"));
    }
}
