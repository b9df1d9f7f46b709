//! Changing a tree that was built: records that were read again replace what a scan had found.

use std::sync::{Arc, Mutex, PoisonError};

use repo_format::id::{ObjectId, ObjectKind};
use repo_format::keys::KeySchedule;
use repo_format::record;
use repo_format::tree::{self, Cursor, Lookup, Root, Sink};
use repo_format::value::ValueWriter;
use tokio::sync::mpsc::Receiver;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::ingest::{Output, Tree};
use crate::repo::{ObjectReader, Repository};
use crate::source::mongodb::ChangedRecord;

/// Length of an ordinal behind a key that several records have.
const ORDINAL: usize = size_of::<u64>();

/// Applies changes, which must ascend by key, to a tree whose objects are all readable.
pub(crate) async fn patch(
    repo: &Repository,
    tree: Tree,
    output: Output,
    changes: Receiver<Vec<ChangedRecord>>,
    ctx: &Context,
) -> Result<Tree> {
    let keys = repo.keys().clone();
    let ctx = ctx.clone();
    // Reads the tree as it was, while the editor reads it on its own.
    let mut before = ObjectReader::new(repo);
    before.lay_over_if(output.overlay());
    repo.with_reader(move |reader| {
        reader.lay_over_if(output.overlay());
        let failure = Arc::new(Mutex::new(None));
        let mut changes = Changes {
            tree,
            before,
            incoming: changes,
            ready: Vec::new().into_iter(),
            values: ValueWriter::new(&keys),
            output: output.clone(),
            repeats: tree.repeats,
            ctx,
        };
        let noted = failure.clone();
        let edits = std::iter::from_fn(|| match changes.next() {
            Ok(change) => change,
            Err(error) => {
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        });
        let root = edit(&keys, &tree.root, edits, Editor { reader, output });
        // Changes that ended early make a tree that looks whole and is not.
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        Ok(Tree { root: root?, repeats: changes.repeats, natural_order: tree.natural_order })
    })
    .await
}

type Edit = (Vec<u8>, Option<Vec<u8>>);

fn edit(
    keys: &KeySchedule,
    root: &Root,
    edits: impl Iterator<Item = Edit>,
    mut editor: Editor<'_>,
) -> Result<Root> {
    tree::edit(keys, root, edits, &mut editor)
}

/// Where the editor reads and writes.
struct Editor<'a> {
    reader: &'a mut ObjectReader,
    output: Output,
}

impl Lookup for Editor<'_> {
    type Error = Error;

    fn load(&mut self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        self.reader.load(kind, id)
    }

    fn expect(&mut self, wanted: &[(ObjectKind, ObjectId)]) {
        self.reader.expect(wanted);
    }
}

impl Sink for Editor<'_> {
    type Error = Error;

    fn store(&mut self, kind: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
        self.output.store(kind, id, plaintext)
    }
}

/// Turns records that were read again into edits of the tree's own keys.
struct Changes {
    tree: Tree,
    before: ObjectReader,
    incoming: Receiver<Vec<ChangedRecord>>,
    ready: std::vec::IntoIter<Edit>,
    values: ValueWriter,
    output: Output,
    repeats: bool,
    ctx: Context,
}

impl Changes {
    fn next(&mut self) -> Result<Option<Edit>> {
        loop {
            if let Some(edit) = self.ready.next() {
                return Ok(Some(edit));
            }
            let Some(batch) = self.incoming.blocking_recv() else { return Ok(None) };
            self.ctx.check()?;
            let mut edits = Vec::with_capacity(batch.len());
            for changed in batch {
                self.expand(changed, &mut edits)?;
            }
            self.ready = edits.into_iter();
        }
    }

    /// One key's records, numbered as [`TreeWriter::push_sorted`](crate::ingest::TreeWriter) does,
    /// and the removal of those there were more of before.
    fn expand(&mut self, changed: ChangedRecord, edits: &mut Vec<Edit>) -> Result<()> {
        let ChangedRecord { key, records } = changed;
        let before = if self.tree.repeats { self.count_before(&key)? } else { 1 };
        self.repeats |= records.len() > 1;
        let now = records.len() as u64;
        for (ordinal, record) in (0..).zip(records) {
            let (values, output) = (&self.values, &mut self.output);
            let shrunk = record::shrink(&record, |long| values.write(long, output))?;
            edits.push((numbered(&key, ordinal), Some(shrunk.unwrap_or(record))));
        }
        edits.extend((now..before).map(|ordinal| (numbered(&key, ordinal), None)));
        Ok(())
    }

    /// How many records the tree has under a key.
    fn count_before(&mut self, key: &[u8]) -> Result<u64> {
        let mut cursor = Cursor::new(&self.tree.root, Some(key));
        let mut count = 0;
        while let Some((found, _)) = cursor.next(&mut self.before)? {
            if found != key && !(found.starts_with(key) && found.len() == key.len() + ORDINAL) {
                break;
            }
            count += 1;
        }
        Ok(count)
    }
}

/// The tree key of the n-th record of a key, counted from 0.
pub(crate) fn numbered(key: &[u8], ordinal: u64) -> Vec<u8> {
    match ordinal {
        0 => key.to_vec(),
        ordinal => [key, &ordinal.to_be_bytes()].concat(),
    }
}
