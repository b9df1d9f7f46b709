//! Commands put together from raw BSON, so that nothing a server once gave is read and written anew.

use bson::{RawDocument, RawDocumentBuf};
use repo_format::bson::{Element, kind};

use crate::error::{Error, Result};
use crate::source::mongodb::wire::{self, DocumentWriter};

/// A document that is being written, element by element.
#[derive(Debug)]
pub(super) struct Builder(DocumentWriter);

impl Builder {
    /// An empty document.
    pub fn new() -> Self {
        Self(DocumentWriter::new())
    }

    /// A document that begins with these elements.
    pub fn from_document(start: &RawDocument) -> Result<Self> {
        let mut builder = Self::new();
        elements(start)?.iter().for_each(|element| builder.push_element(element));
        Ok(builder)
    }

    /// Appends an element. `value` is whole, as the type byte `kind` asks for.
    pub fn push(&mut self, kind: u8, name: &[u8], value: &[u8]) {
        self.0.push(kind, name, value);
    }

    /// Appends an element as it is.
    pub fn push_element(&mut self, element: &Element<'_>) {
        self.push(element.kind, element.name, element.value);
    }

    /// Appends a document as a value.
    pub fn push_document(&mut self, name: &str, document: &[u8]) {
        self.push(kind::DOCUMENT, name.as_bytes(), document);
    }

    /// Appends documents as an array.
    pub fn push_array(&mut self, name: &str, documents: &[RawDocumentBuf]) -> Result<()> {
        let mut array = Self::new();
        for (position, document) in documents.iter().enumerate() {
            array.push_document(&position.to_string(), document.as_bytes());
        }
        self.push(kind::ARRAY, name.as_bytes(), array.finish()?.as_bytes());
        Ok(())
    }

    /// The document.
    pub fn finish(self) -> Result<RawDocumentBuf> {
        document(self.0.finish())
    }
}

/// The bytes as a document. Only length and end are checked.
pub(super) fn document(bytes: Vec<u8>) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(bytes)
        .map_err(|error| Error::damaged(format!("a document is not whole: {error}")).with_source(error))
}

/// The elements of a document.
pub(super) fn elements(document: &RawDocument) -> Result<Vec<Element<'_>>> {
    wire::elements(document.as_bytes())?.collect()
}

/// The first element of that name.
pub(super) fn find<'a>(document: &'a RawDocument, name: &str) -> Result<Option<Element<'a>>> {
    wire::find(document.as_bytes(), name)
}

/// The first element of that name as a whole number; none when it is no number.
pub(super) fn integer(document: &RawDocument, name: &str) -> Result<Option<i64>> {
    wire::number(document.as_bytes(), name)
}

/// Whether the first element of that name is there and means yes.
pub(super) fn flag(document: &RawDocument, name: &str) -> Result<bool> {
    wire::flag(document.as_bytes(), name)
}

/// The first element of that name as text, with what is not UTF-8 replaced; empty when it is none.
pub(super) fn text(document: &RawDocument, name: &str) -> Result<String> {
    Ok(wire::text(document.as_bytes(), name)?.unwrap_or_default())
}

/// The first element of that name, where it is a document; else an empty one.
pub(super) fn inner(parent: &RawDocument, name: &str) -> Result<RawDocumentBuf> {
    match wire::document(parent.as_bytes(), name)? {
        Some(bytes) => document(bytes.to_vec()),
        None => Ok(RawDocumentBuf::new()),
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_built_document_is_the_one_bson_writes() {
        let wanted =
            rawdoc! { "insert": "c", "documents": [{ "_id": 1 }, { "_id": 2 }], "note": { "a": true } };
        let mut builder = Builder::from_document(&rawdoc! { "insert": "c" }).unwrap();
        builder.push_array("documents", &[rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]).unwrap();
        builder.push_document("note", rawdoc! { "a": true }.as_bytes());
        assert_eq!(builder.finish().unwrap(), wanted);
    }

    #[test]
    fn documents_without_an_end_are_damage() {
        assert!(document(vec![5, 0, 0, 0, 1]).is_err());
        assert!(document(vec![4, 0, 0, 0]).is_err());
    }
}
