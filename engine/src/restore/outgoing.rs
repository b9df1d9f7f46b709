//! Records on their way from trees to a target.

use std::sync::atomic::{AtomicU64, Ordering};

use repo_format::limits;
use repo_format::record::{Field, Fields, Writer as RecordWriter};
use repo_format::value;
use tokio::sync::mpsc;

use crate::error::Result;
use crate::repo::ObjectReader;
use crate::source::RecordBatch;

/// Bytes of records handed over at a time.
const BATCH: usize = 256 << 10;
/// Batches between reading and loading.
pub(super) const BATCHES: usize = 4;

/// Records on their way to the loader.
pub(super) struct Outgoing<'a> {
    sender: &'a mpsc::Sender<RecordBatch>,
    sent: &'a AtomicU64,
    batch: RecordBatch,
}

impl<'a> Outgoing<'a> {
    pub fn new(sender: &'a mpsc::Sender<RecordBatch>, sent: &'a AtomicU64) -> Self {
        Self { sender, sent, batch: RecordBatch::with_capacity(BATCH) }
    }

    /// Whether anybody still listens. Nobody listening is the loader's failure, and its to tell.
    pub fn push(&mut self, key: &[u8], record: &[u8]) -> bool {
        self.batch.push(key, record);
        if self.batch.size_bytes() < BATCH {
            return true;
        }
        let full = std::mem::replace(&mut self.batch, RecordBatch::with_capacity(BATCH));
        self.send(full)
    }

    pub fn finish(mut self) {
        let last = std::mem::take(&mut self.batch);
        if !last.is_empty() {
            self.send(last);
        }
    }

    fn send(&self, batch: RecordBatch) -> bool {
        let count = batch.len() as u64;
        let is_sent = self.sender.blocking_send(batch).is_ok();
        if is_sent {
            self.sent.fetch_add(count, Ordering::Relaxed);
        }
        is_sent
    }
}

/// The record with all its fields inline.
pub(super) fn whole(record: Vec<u8>, reader: &mut ObjectReader) -> Result<Vec<u8>> {
    if !Fields::new(&record).any(|field| matches!(field, Ok(Field::Out(_)))) {
        return Ok(record);
    }
    let mut out = Vec::new();
    let mut writer = RecordWriter::new(&mut out);
    for field in Fields::new(&record) {
        match field? {
            Field::Out(place) => {
                let bytes = value::read(&place, limits::RECORD as u64, reader)?;
                writer.push(Field::Inline(&bytes));
            }
            other => writer.push(other),
        }
    }
    writer.finish();
    Ok(out)
}
