//! From documents to records: one field, the document byte for byte.

use repo_format::bson::Elements;
use repo_format::catalog::{KeySource, Layout};
use repo_format::keys::RowKey;
use repo_format::order::{bound_key, bson::push_key};
use repo_format::record::{Field, Writer};

use crate::error::{Error, Kind, Result};
use crate::source::RecordBatch;

/// A batch is handed on once it has this many bytes.
const BATCH: usize = 256 * 1024;

/// Writes documents as records. Nothing is allocated per document.
pub(super) struct RecordWriter<'a> {
    layout: &'a Layout,
    row_key: &'a RowKey,
    collection: String,
    key: Vec<u8>,
    value: Vec<u8>,
    batch: RecordBatch,
    records: u64,
    bytes_read: u64,
}

impl<'a> RecordWriter<'a> {
    /// A writer of the documents of `collection`, which is only named in errors.
    pub fn new(layout: &'a Layout, row_key: &'a RowKey, collection: String) -> Self {
        let batch = RecordBatch::default();
        let (key, value) = (Vec::new(), Vec::new());
        Self { layout, row_key, collection, key, value, batch, records: 0, bytes_read: 0 }
    }

    pub fn records(&self) -> u64 {
        self.records
    }

    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The tree key and the record of one document, in buffers that the next call uses again.
    pub fn record(&mut self, document: &[u8]) -> Result<(&[u8], &[u8])> {
        self.key.clear();
        self.value.clear();
        let mut writer = Writer::new(&mut self.value);
        writer.push(Field::Inline(document));
        writer.finish();
        if self.layout.key.source == KeySource::Multiset {
            self.key.extend_from_slice(&self.row_key.hash(&self.value));
        } else {
            push_key(&mut self.key, document, self.row_key).map_err(|error| {
                Error::new(Kind::Unsupported, format!("{}: a document cannot be read", self.collection))
                    .with_help("The server sent a document that is not BSON. Check the data with validate.")
                    .with_source(error)
            })?;
            bound_key(&mut self.key, self.row_key);
        }
        Ok((&self.key, &self.value))
    }

    /// Adds a document to the batch.
    pub fn push(&mut self, document: &[u8]) -> Result<()> {
        self.record(document)?;
        if self.batch.is_empty() {
            self.batch = RecordBatch::with_capacity(BATCH + document.len() + 1024);
        }
        self.batch.push(&self.key, &self.value);
        self.batch.bytes_read += document.len() as u64;
        self.bytes_read += document.len() as u64;
        self.records += 1;
        Ok(())
    }

    /// The records since the last call, once there are enough of them, or at the end any.
    pub fn take_batch(&mut self, at_end: bool) -> Option<RecordBatch> {
        let ready = self.batch.size_bytes() >= BATCH || (at_end && !self.batch.is_empty());
        ready.then(|| std::mem::take(&mut self.batch))
    }
}

/// A value of `_id`: its type and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub kind: u8,
    pub value: Vec<u8>,
}

impl Id {
    /// The first `_id` of a document.
    pub fn of(document: &[u8]) -> Option<Self> {
        let mut elements = Elements::new(document).ok()?;
        let found = elements.find_map(|element| element.ok().filter(|element| element.name == b"_id"))?;
        Some(Self { kind: found.kind, value: found.value.to_vec() })
    }

    /// The tree key of documents with this `_id`.
    pub fn key(&self, row_key: &RowKey) -> Result<Vec<u8>> {
        let mut key = Vec::new();
        repo_format::order::bson::push_id(&mut key, self.kind, &self.value)
            .map_err(|error| Error::new(Kind::Internal, "an _id cannot be read").with_source(error))?;
        bound_key(&mut key, row_key);
        Ok(key)
    }
}
