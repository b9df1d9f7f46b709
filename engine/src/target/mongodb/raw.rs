//! Commands put together from raw BSON, so that nothing a server once gave is read and written anew.

use bson::{RawDocument, RawDocumentBuf};
use repo_format::bson::{Element, Elements, kind};

use crate::error::{Error, Result};

/// A document that is being written, element by element.
#[derive(Clone, Debug)]
pub(super) struct Builder {
    /// The length in front is filled in at the end.
    bytes: Vec<u8>,
}

impl Builder {
    /// An empty document.
    pub fn new() -> Self {
        Self { bytes: vec![0; 4] }
    }

    /// A document that begins with these elements.
    pub fn from_document(start: &RawDocument) -> Self {
        let bytes = start.as_bytes();
        Self { bytes: bytes[..bytes.len() - 1].to_vec() }
    }

    /// Appends an element. `value` is whole, as the type byte `kind` asks for.
    pub fn push(&mut self, kind: u8, name: &[u8], value: &[u8]) {
        self.bytes.reserve(value.len() + name.len() + 2);
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.bytes.extend_from_slice(value);
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
    pub fn finish(mut self) -> Result<RawDocumentBuf> {
        self.bytes.push(0);
        let len = i32::try_from(self.bytes.len())
            .map_err(|_| Error::damaged("a document of more than 2 GiB cannot be one"))?;
        self.bytes[..4].copy_from_slice(&len.to_le_bytes());
        document(self.bytes)
    }
}

/// The bytes as a document. Only length and end are checked.
pub(super) fn document(bytes: Vec<u8>) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(bytes)
        .map_err(|error| Error::damaged(format!("a document is not whole: {error}")).with_source(error))
}

/// The elements of a document of the archive.
pub(super) fn elements(document: &RawDocument) -> Result<Vec<Element<'_>>> {
    Ok(Elements::new(document.as_bytes())?.collect::<repo_format::Result<_>>()?)
}

/// The first element of that name.
pub(super) fn find<'a>(document: &'a RawDocument, name: &str) -> Result<Option<Element<'a>>> {
    Ok(elements(document)?.into_iter().find(|element| element.name == name.as_bytes()))
}

/// A number of any type, rounded towards zero.
pub(super) fn integer(element: &Element<'_>) -> Option<i64> {
    match (element.kind, element.value) {
        (kind::INT32, value) => Some(i64::from(i32::from_le_bytes(value.try_into().ok()?))),
        (kind::INT64, value) => Some(i64::from_le_bytes(value.try_into().ok()?)),
        (kind::DOUBLE, value) => Some(f64::from_le_bytes(value.try_into().ok()?) as i64),
        _ => None,
    }
}

/// Whether the value is what a server takes for yes.
pub(super) fn is_true(element: &Element<'_>) -> bool {
    match element.kind {
        kind::BOOLEAN => element.value == [1],
        _ => integer(element).is_some_and(|number| number != 0),
    }
}

/// Text, with what is not UTF-8 replaced; empty when it is no text.
pub(super) fn text(element: &Element<'_>) -> String {
    let text = if element.kind == kind::STRING { repo_format::bson::text(element.value).ok() } else { None };
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_built_document_is_the_one_bson_writes() {
        let wanted =
            rawdoc! { "insert": "c", "documents": [{ "_id": 1 }, { "_id": 2 }], "note": { "a": true } };
        let mut builder = Builder::from_document(&rawdoc! { "insert": "c" });
        builder.push_array("documents", &[rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]).unwrap();
        builder.push_document("note", rawdoc! { "a": true }.as_bytes());
        assert_eq!(builder.finish().unwrap(), wanted);
    }

    #[test]
    fn numbers_of_every_type_are_read() {
        let document = rawdoc! { "a": 1, "b": 2i64, "c": 3.9, "d": "4", "e": true, "f": 0.0, "g": 1 };
        let read = |name: &str| integer(&find(&document, name).unwrap().unwrap());
        assert_eq!(["a", "b", "c", "d"].map(read), [Some(1), Some(2), Some(3), None]);
        let yes = |name: &str| is_true(&find(&document, name).unwrap().unwrap());
        assert_eq!(["e", "f", "g", "d"].map(yes), [true, false, true, false]);
        assert_eq!(find(&document, "absent").unwrap(), None);
    }
}
