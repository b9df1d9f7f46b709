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
pub(crate) const ORDINAL: usize = size_of::<u64>();

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
        let root = edit_tree(&keys, &tree.root, edits, reader, output);
        // Changes that ended early make a tree that looks whole and is not.
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        Ok(Tree { root: root?, repeats: changes.repeats, natural_order: tree.natural_order })
    })
    .await
}

/// A key and its new value; none where it goes.
pub(crate) type Edit = (Vec<u8>, Option<Vec<u8>>);

/// Makes edits, which must ascend by key, to a tree whose objects are all readable. Values are as trees
/// hold them: what they moved out is stored.
pub(crate) fn edit_tree(
    keys: &KeySchedule,
    root: &Root,
    edits: impl IntoIterator<Item = Edit>,
    reader: &mut ObjectReader,
    output: Output,
) -> Result<Root> {
    tree::edit(keys, root, edits, &mut Editor { reader, output })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use repo_format::record::{Field, Writer};
    use tokio::sync::mpsc;

    use super::*;
    use crate::ingest::{Ingested, Intake, spawn_ingest};
    use crate::repo::UnlockKey;
    use crate::source::{RecordBatch, ScanOrder};
    use crate::store::Storage;

    /// Keys, none a prefix of another, each with the records under it.
    type Content = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

    fn content(keys: u16, most: usize) -> impl Strategy<Value = Content> {
        let record = (0u32..1000, 0usize..200).prop_map(|(number, len)| {
            let (mut record, body) = (Vec::new(), number.to_be_bytes().repeat(len));
            let mut writer = Writer::new(&mut record);
            writer.push(Field::Inline(&body));
            writer.finish();
            record
        });
        let records = vec(record, 0..3).prop_map(|mut records| {
            records.sort();
            records
        });
        btree_map((0..keys).prop_map(|key| key.to_be_bytes().to_vec()), records, 0..most)
    }

    async fn build(repo: &Repository, output: &Output, content: &Content, ctx: &Context) -> Tree {
        let (sender, batches) = mpsc::channel(1);
        let mut batch = RecordBatch::with_capacity(0);
        content.iter().for_each(|(key, records)| records.iter().for_each(|record| batch.push(key, record)));
        let keys = repo.keys().clone();
        let intake = Arc::<Intake>::default();
        let building = spawn_ingest(keys, output.clone(), ScanOrder::Any, batches, intake, ctx.clone());
        let sending = async move { sender.send(batch).await.unwrap() };
        match tokio::join!(building, sending).0.unwrap() {
            Ingested::Whole(tree) => tree,
            Ingested::OutOfOrder => panic!("sorted records are in order"),
        }
    }

    async fn patched_equals_built(before: Content, changes: Content) {
        let folder = tempfile::tempdir().unwrap();
        let ctx = Context::new(folder.path());
        let store = Storage::memory().unwrap().store("project").unwrap();
        let (key, cache) = (UnlockKey::new([7; 32]), folder.path().join("cache.redb"));
        let repo = Repository::create(store, &key, &cache, &ctx).await.unwrap();
        for overlaid in [false, true] {
            let output = if overlaid {
                Output::Overlay(
                    crate::overlay::Overlay::new(&repo, crate::overlay::MOST_BYTES, &ctx).unwrap(),
                )
            } else {
                Output::Repository(crate::repo::Writer::new(&repo))
            };
            let tree = build(&repo, &output, &before, &ctx).await;
            output.settle().await.unwrap();
            let (sender, incoming) = mpsc::channel(1);
            let batches: Vec<Vec<ChangedRecord>> = (changes.clone().into_iter())
                .map(|(key, records)| vec![ChangedRecord { key, records }])
                .collect();
            let sending = async move {
                for batch in batches {
                    sender.send(batch).await.unwrap();
                }
            };
            let patching = patch(&repo, tree, output.clone(), incoming, &ctx);
            let patched = tokio::join!(patching, sending).0.unwrap();
            let mut after = before.clone();
            after.extend(changes.clone());
            assert_eq!(patched.root, build(&repo, &output, &after, &ctx).await.root);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn patching_is_building_anew(before in content(900, 600), changes in content(900, 60)) {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(patched_equals_built(before, changes));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_that_break_off_make_no_tree() {
        let folder = tempfile::tempdir().unwrap();
        let ctx = Context::new(folder.path());
        let store = Storage::memory().unwrap().store("project").unwrap();
        let (key, cache) = (UnlockKey::new([7; 32]), folder.path().join("cache.redb"));
        let repo = Repository::create(store, &key, &cache, &ctx).await.unwrap();
        let output = Output::Repository(crate::repo::Writer::new(&repo));
        let before = Content::from([(b"a".to_vec(), vec![vec![2]])]);
        let tree = build(&repo, &output, &before, &ctx).await;
        output.settle().await.unwrap();
        let (sender, incoming) = mpsc::channel(1);
        ctx.cancel.cancel();
        let sending = async move {
            let change = ChangedRecord { key: b"a".to_vec(), records: Vec::new() };
            let _ = sender.send(vec![change]).await;
        };
        let patched = tokio::join!(patch(&repo, tree, output, incoming, &ctx), sending).0;
        assert_eq!(patched.unwrap_err().kind(), crate::Kind::Cancelled);
    }
}
