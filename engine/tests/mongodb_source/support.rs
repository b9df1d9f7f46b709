//! Reading snapshots to their end, as the pipeline does, into maps instead of trees.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use bson::RawDocumentBuf;
use engine::source::mongodb::{ChangedRecord, MongoUrl, Options, RoundPart, Snapshot};
use engine::source::{Collection, Consistency, RecordBatch, ScanOrder};
use engine::{Context, Error, Result};
use engine_testutils::mongodb::{Scope, Server};
use repo_format::catalog::Layout;
use repo_format::keys::RowKey;
use repo_format::record::{Field, Fields};
use tokio::sync::mpsc;

/// Records by key. Several have one key in multisets only.
pub type Records = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

pub fn row_key() -> RowKey {
    RowKey::new([7; 32])
}

/// A context with a scratch folder, which must outlive it.
pub fn context() -> (Context, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Context::new(folder.path()), folder)
}

pub fn best_effort() -> Options {
    Options { consistency: Consistency::BestEffort, ..Options::default() }
}

/// A database in the shared server, and the URL of who may only read it.
pub struct Database {
    pub server: &'static Server,
    pub name: String,
    pub url: MongoUrl,
    pub client: mongodb::Client,
}

impl Database {
    pub async fn new() -> Self {
        Self::on(Server::shared()).await
    }

    pub async fn on(server: &'static Server) -> Self {
        let name = server.fresh_database("shop");
        let text = server.create_read_only_user(Scope::Database(&name), &format!("reader_{name}")).await;
        let client = server.client().await;
        Self { server, url: MongoUrl::parse(&text).unwrap(), name, client }
    }

    pub fn db(&self) -> mongodb::Database {
        self.client.database(&self.name)
    }

    pub async fn insert(&self, collection: &str, documents: &[RawDocumentBuf]) {
        self.server.insert_raw(&format!("{}.{collection}", self.name), documents).await;
    }

    pub async fn snapshot(&self, ctx: &Context) -> Snapshot {
        Snapshot::begin(&self.url, &Options::default(), ctx).await.unwrap()
    }
}

pub fn collection<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Collection {
    let found = snapshot.collections().iter().find(|collection| collection.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", names(snapshot)))
}

pub fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.collections().iter().map(Collection::display_name).collect()
}

/// The records of one scan, in the order they came, and checks that the claimed order was kept.
pub async fn scan(
    snapshot: &Snapshot,
    collection: &Collection,
    ctx: &Context,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let (sender, receiver) = mpsc::channel(2);
    let Collection { layout, namespace, name, .. } = collection;
    let row_key = row_key();
    let scanning = snapshot.scan(layout, namespace, name, &row_key, sender, &ctx.cancel);
    let (stats, records) = tokio::join!(scanning, gather(receiver));
    let stats = stats?;
    assert_eq!(stats.records, records.len() as u64);
    if snapshot.order_of(namespace, name, layout) == ScanOrder::Key {
        assert!(records.is_sorted_by(|a, b| a.0 < b.0), "{name} did not come in the order claimed");
    }
    Ok(records)
}

async fn gather(mut receiver: mpsc::Receiver<RecordBatch>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some(batch) = receiver.recv().await {
        records.extend(batch.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    records
}

/// The document in a record.
pub fn document(record: &[u8]) -> Vec<u8> {
    let fields: Vec<_> = Fields::new(record).collect::<Result<_, _>>().unwrap();
    match fields.as_slice() {
        [Field::Inline(bytes)] => bytes.to_vec(),
        other => panic!("not one field: {other:?}"),
    }
}

/// The documents of one collection as a scan delivers them.
pub async fn documents(snapshot: &Snapshot, name: &str, ctx: &Context) -> Vec<Vec<u8>> {
    let records = scan(snapshot, collection(snapshot, name), ctx).await.unwrap();
    records.iter().map(|(_, record)| document(record)).collect()
}

fn by_key(records: Vec<(Vec<u8>, Vec<u8>)>) -> Records {
    let mut found = Records::new();
    for (key, record) in records {
        found.entry(key).or_default().push(record);
    }
    found
}

/// Everything, by collection name, after as many rounds as it takes; and how many those were.
pub async fn read_all(snapshot: &Snapshot, ctx: &Context) -> Result<(BTreeMap<String, Records>, u32)> {
    let mut all = BTreeMap::new();
    for collection in snapshot.collections() {
        all.insert(collection.name.clone(), by_key(scan(snapshot, collection, ctx).await?));
    }
    let rounds = catch_up(snapshot, &mut all, ctx).await?;
    Ok((all, rounds))
}

/// The rounds after the scans, as the pipeline runs them.
pub async fn catch_up(
    snapshot: &Snapshot,
    all: &mut BTreeMap<String, Records>,
    ctx: &Context,
) -> Result<u32> {
    let mut rounds = 0;
    while let Some(round) = snapshot.next_round(&ctx.cancel).await? {
        rounds += 1;
        let mut failure: Option<Error> = None;
        for part in &round.parts {
            let layout = collection(snapshot, &part.name).layout.clone();
            let read = if part.whole {
                rescan(snapshot, part, &layout, ctx).await.map(|records| {
                    all.insert(part.name.clone(), records);
                })
            } else {
                patch(snapshot, part, &layout, all.get_mut(&part.name).unwrap(), ctx).await
            };
            if let Err(error) = read {
                failure = Some(error);
                break;
            }
        }
        snapshot.end_round(round, failure).await?;
    }
    Ok(rounds)
}

/// After a failure that definitions changed: forgets what does not count any more, and scans what is
/// missing, as the pipeline does. Returns the names of what was scanned.
pub async fn renew(
    snapshot: &mut Snapshot,
    all: &mut BTreeMap<String, Records>,
    failure: &Error,
    ctx: &Context,
) -> Vec<String> {
    let kept = snapshot.renew(failure).await.unwrap();
    let kept = kept.unwrap_or_else(|| panic!("not to be made up for: {failure}"));
    all.retain(|name, _| kept.iter().any(|(_, kept)| kept == name));
    let missing = snapshot.collections().iter().filter(|found| !all.contains_key(&found.name));
    let missing: Vec<Collection> = missing.cloned().collect();
    for found in &missing {
        all.insert(found.name.clone(), by_key(scan(snapshot, found, ctx).await.unwrap()));
    }
    missing.into_iter().map(|found| found.name).collect()
}

async fn rescan(snapshot: &Snapshot, part: &RoundPart, layout: &Layout, ctx: &Context) -> Result<Records> {
    let (sender, receiver) = mpsc::channel(2);
    let row_key = row_key();
    let scanning = snapshot.rescan(part, layout, &row_key, sender, &ctx.cancel);
    let (stats, records) = tokio::join!(scanning, gather(receiver));
    assert_eq!(stats?.records, records.len() as u64);
    Ok(by_key(records))
}

async fn patch(
    snapshot: &Snapshot,
    part: &RoundPart,
    layout: &Layout,
    records: &mut Records,
    ctx: &Context,
) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Vec<ChangedRecord>>(2);
    let row_key = row_key();
    let reading = snapshot.reread(part, layout, &row_key, sender, &ctx.cancel);
    let patching = async {
        let mut last: Option<Vec<u8>> = None;
        let mut changed = Vec::new();
        while let Some(batch) = receiver.recv().await {
            for change in batch {
                assert!(last.as_ref() < Some(&change.key), "changes do not ascend");
                last = Some(change.key.clone());
                changed.push(change);
            }
        }
        changed
    };
    let (stats, changed) = tokio::join!(reading, patching);
    stats?;
    for ChangedRecord { key, records: now } in changed {
        if now.is_empty() {
            records.remove(&key);
        } else {
            records.insert(key, now);
        }
    }
    Ok(())
}
