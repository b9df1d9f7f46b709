//! From a stream of records to a tree: order, duplicates, long values, leaves, levels.
//!
//! One blocking thread per collection takes records in, decides where leaves end, and hands each
//! leaf to the computing threads to be hashed, compressed and sealed. Results come back in order
//! and go to the levels above and to the packs. Every queue is bounded, so a slow store slows the
//! database down and memory stays flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use repo_format::codec::put_varint;
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::keys::KeySchedule;
use repo_format::limits;
use repo_format::record::{self, OutOfLine};
use repo_format::tree::{Entry, LeafRecords, Leaves, Root, Sink, Spine};
use repo_format::value::ValueWriter;
use tokio::sync::mpsc::Receiver;

use crate::context::Context;
use crate::cpu::Ordered;
use crate::error::{Error, Kind, Result};
use crate::overlay::Overlay;
use crate::repo::{SealedObject, Writer};
use crate::sort::{self, Sorter};
use crate::source::{RecordBatch, ScanOrder};

/// Leaves of one collection that are being hashed and sealed at a time.
const LEAVES_IN_FLIGHT: usize = 16;

/// Where the objects of a tree go.
#[derive(Clone)]
pub(crate) enum Output {
    /// Into the repository.
    Repository(Writer),
    /// Beside the repository, to be compared with it and forgotten.
    Overlay(Overlay),
}

impl Output {
    /// The overlay it goes to, unless it goes into the repository.
    pub fn overlay(&self) -> Option<&Overlay> {
        match self {
            Self::Repository(_) => None,
            Self::Overlay(overlay) => Some(overlay),
        }
    }

    /// Makes everything stored so far readable.
    pub async fn settle(&self) -> Result<()> {
        match self {
            Self::Repository(writer) => writer.flush().await.map(drop),
            Self::Overlay(_) => Ok(()),
        }
    }

    /// Seals an object unless somebody has it. Runs on any thread.
    fn seal(&self, kind: ObjectKind, id: ObjectId, plaintext: &[u8]) -> Result<Option<SealedObject>> {
        match self {
            Self::Repository(writer) if writer.claim(id)? => writer.seal(kind, id, plaintext).map(Some),
            Self::Repository(_) => Ok(None),
            Self::Overlay(overlay) => overlay.store(kind, id, plaintext).map(|()| None),
        }
    }

    fn add(&self, object: &SealedObject) -> Result<()> {
        match self {
            Self::Repository(writer) => writer.add(object),
            Self::Overlay(_) => Ok(()),
        }
    }
}

impl Sink for Output {
    type Error = Error;

    fn store(&mut self, kind: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
        match self.seal(kind, id, &plaintext)? {
            Some(object) => self.add(&object),
            None => Ok(()),
        }
    }
}

/// Records and bytes taken in so far, shared with whoever reports progress.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub records: AtomicU64,
    pub bytes: AtomicU64,
}

type LeafResult = Result<(Entry, Option<SealedObject>)>;

/// Builds one tree from records in key order.
pub(crate) struct TreeWriter {
    keys: Arc<KeySchedule>,
    leaves: Leaves,
    spine: Spine,
    jobs: Ordered<LeafResult>,
    values: ValueWriter,
    output: Output,
    /// The key before ordinals were added, and how many records had it.
    last: Option<(Vec<u8>, u64)>,
    repeats: bool,
}

/// A tree that was built, and what is to be known of it beside its root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    pub root: Root,
    /// Whether several of its records have one key.
    pub repeats: bool,
    /// The order its records have in their collection, where that is kept and is not key order.
    pub natural_order: Option<OutOfLine>,
}

/// A key that is not greater than the one before, in a stream that was to be in key order.
#[derive(Debug)]
pub(crate) struct OutOfOrder;

impl TreeWriter {
    pub fn new(keys: &KeySchedule, output: Output) -> Self {
        Self {
            leaves: Leaves::new(keys),
            spine: Spine::new(keys),
            jobs: Ordered::new(LEAVES_IN_FLIGHT),
            values: ValueWriter::new(keys),
            keys: Arc::new(keys.clone()),
            output,
            last: None,
            repeats: false,
        }
    }

    /// Takes the next record of a stream that promised ascending keys.
    pub fn push_ascending(&mut self, key: &[u8], value: &[u8]) -> Result<Result<(), OutOfOrder>> {
        if let Some((last, _)) = &self.last
            && last.as_slice() >= key
        {
            return Ok(Err(OutOfOrder));
        }
        self.push_sorted(key, value).map(Ok)
    }

    /// Takes the next record of a sorted stream. The second and later records of one key get an
    /// ordinal, which makes the collection a multiset.
    pub fn push_sorted(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match &mut self.last {
            Some((last, seen)) if last == key => {
                let numbered = [key, &seen.to_be_bytes()].concat();
                *seen += 1;
                self.repeats = true;
                self.push(&numbered, value)
            }
            last => {
                let (last, seen) = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
                *seen = 1;
                self.push(key, value)
            }
        }
    }

    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (values, output) = (&self.values, &mut self.output);
        let shrunk = record::shrink(value, |long| -> Result<OutOfLine> { values.write(long, output) })?;
        self.leaves.push(key, shrunk.as_deref().unwrap_or(value))?;
        while let Some(leaf) = self.leaves.next_leaf() {
            self.start(leaf)?;
        }
        Ok(())
    }

    fn start(&mut self, leaf: LeafRecords) -> Result<()> {
        let (keys, output) = (self.keys.clone(), self.output.clone());
        let oldest = self.jobs.push(move || -> LeafResult {
            let sealed = leaf.seal(&keys);
            let object = output.seal(ObjectKind::Leaf, sealed.entry.child, &sealed.plaintext)?;
            Ok((sealed.entry, object))
        })?;
        oldest.map_or(Ok(()), |oldest| self.take_in(oldest))
    }

    fn take_in(&mut self, leaf: LeafResult) -> Result<()> {
        let (entry, object) = leaf?;
        if let Some(object) = object {
            self.output.add(&object)?;
        }
        self.spine.push(0, entry, &mut self.output)
    }

    /// Takes in every leaf that was begun. Also for a tree that is given up: its leaves are claimed,
    /// and whoever builds the same ones relies on their being stored.
    pub fn settle(&mut self) -> Result<()> {
        while let Some(leaf) = self.jobs.pop()? {
            self.take_in(leaf)?;
        }
        Ok(())
    }

    /// Ends the tree.
    pub fn finish(mut self) -> Result<Tree> {
        while let Some(leaf) = self.leaves.last_leaf() {
            self.start(leaf)?;
        }
        self.settle()?;
        let root = self.spine.finish(&mut self.output)?;
        Ok(Tree { root, repeats: self.repeats, natural_order: None })
    }
}

/// How reading a stream ended.
pub(crate) enum Ingested {
    /// The tree is whole.
    Whole(Tree),
    /// The stream was not in the order it promised: read it again and sort.
    OutOfOrder,
}

/// Builds a tree from batches. Runs where it may block; ends early when the context is cancelled.
pub(crate) fn ingest(
    keys: &KeySchedule,
    mut output: Output,
    order: ScanOrder,
    mut batches: Receiver<RecordBatch>,
    intake: &Intake,
    ctx: &Context,
) -> Result<Ingested> {
    let mut tree = TreeWriter::new(keys, output.clone());
    let mut sorter = (order != ScanOrder::Key).then(|| Sorter::new(ctx, sort::BUDGET));
    let mut natural = (order == ScanOrder::Natural).then(NaturalOrder::default);
    while let Some(batch) = batches.blocking_recv() {
        ctx.check()?;
        for (key, value) in batch.iter() {
            if let Some(natural) = &mut natural {
                natural.push(key)?;
            }
            match &mut sorter {
                Some(sorter) => sorter.push(key, value)?,
                None => match tree.push_ascending(key, value)? {
                    Ok(()) => {}
                    Err(OutOfOrder) => {
                        tree.settle()?;
                        return Ok(Ingested::OutOfOrder);
                    }
                },
            }
        }
        intake.records.fetch_add(batch.len() as u64, Ordering::Relaxed);
        intake.bytes.fetch_add(batch.bytes_read, Ordering::Relaxed);
    }
    if let Some(sorter) = sorter {
        sorter.finish()?.for_each(|key, value| {
            tree.push_sorted(key, value)?;
            ctx.check()
        })?;
    }
    let mut tree = tree.finish()?;
    if let Some(list) = natural.and_then(NaturalOrder::list) {
        tree.natural_order = Some(ValueWriter::new(keys).write(&list, &mut output)?);
    }
    Ok(Ingested::Whole(tree))
}

/// Collects the order in which keys came, as a catalog keeps it.
#[derive(Default)]
struct NaturalOrder {
    list: Vec<u8>,
    last: Vec<u8>,
    differs: bool,
}

impl NaturalOrder {
    fn push(&mut self, key: &[u8]) -> Result<()> {
        self.differs |= *key < *self.last;
        self.last.clear();
        self.last.extend_from_slice(key);
        put_varint(&mut self.list, key.len() as u64);
        self.list.extend_from_slice(key);
        if self.list.len() > limits::RECORD {
            let message = "a capped collection has more records than their order can be kept of";
            return Err(Error::new(Kind::Unsupported, message));
        }
        Ok(())
    }

    /// The list; `None` when it would only repeat the order of the keys.
    fn list(self) -> Option<Vec<u8>> {
        self.differs.then_some(self.list)
    }
}

/// Runs [`ingest`] on a blocking thread.
pub(crate) async fn spawn_ingest(
    keys: KeySchedule,
    output: Output,
    order: ScanOrder,
    batches: Receiver<RecordBatch>,
    intake: Arc<Intake>,
    ctx: Context,
) -> Result<Ingested> {
    let work = move || ingest(&keys, output, order, batches, &intake, &ctx);
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Error::new(Kind::Internal, "building a tree ended early").with_source(error))?
}
