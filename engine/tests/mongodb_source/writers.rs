//! Writers whose every transaction is numbered, and what their log makes of the collections.
//!
//! Each transaction draws the next number from a document that all of them update, so that the
//! server orders them: its conflicts make the losers start again. The log in order of these
//! numbers is the history of the collections, and a snapshot must be a point of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::{Bson, Document, doc};
use mongodb::error::Result;
use mongodb::options::ReturnDocument;
use mongodb::{Client, ClientSession};

use crate::support::Database;

/// The collections that are written to.
pub const COLLECTIONS: [&str; 5] = ["accounts", "bulk", "counter", "items", "vault"];
const START: i64 = 1_000;
/// One change of one document: its new state, or none when it is gone.
#[derive(Clone, Debug)]
pub struct Change {
    pub collection: &'static str,
    pub id: Bson,
    pub now: Option<Document>,
}

/// The changes of one transaction.
pub type Transaction = Vec<Change>;

pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<BTreeMap<i64, Transaction>>>,
    first: Transaction,
}

/// What is written to.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub accounts: i32,
    /// Documents that one transaction in some alters all at once.
    pub bulk: i32,
}

impl Writers {
    /// Fills the collections and begins to write.
    pub async fn start(database: &Database, seed: u64, writers: usize, sizes: Sizes) -> Self {
        let Sizes { accounts, bulk } = sizes;
        let db = database.db();
        let mut first = Vec::new();
        let mut insert = |collection, document: Document| {
            first.push(Change { collection, id: document.get("_id").cloned().unwrap(), now: Some(document) });
        };
        insert("counter", doc! { "_id": "number", "n": 0i64 });
        (0..accounts).for_each(|id| insert("accounts", doc! { "_id": id, "balance": START }));
        (0..accounts).for_each(|id| {
            insert("vault", doc! { "_id": { "of": id }, "balance": START, "pad": "x".repeat(300) })
        });
        (0..accounts).for_each(|id| insert("items", doc! { "_id": format!("i{id}"), "v": 0i64 }));
        (0..bulk).for_each(|id| insert("bulk", doc! { "_id": id, "v": 0i64 }));
        for name in COLLECTIONS {
            let documents = first
                .iter()
                .filter(|change| change.collection == name)
                .filter_map(|change| change.now.clone());
            db.collection(name).insert_many(documents).await.unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..writers)
            .map(|writer| {
                let random = Random(seed ^ (writer as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let writer =
                    Writer { client: database.client.clone(), name: database.name.clone(), random, sizes };
                tokio::spawn(writer.run(stop.clone()))
            })
            .collect();
        Self { stop, tasks, first }
    }

    /// The history: what the collections began with, then every transaction.
    pub async fn stop(self) -> Vec<Transaction> {
        self.stop.store(true, Ordering::SeqCst);
        let mut numbered = BTreeMap::new();
        for task in self.tasks {
            numbered.extend(task.await.unwrap());
        }
        let count = numbered.len() as i64;
        assert!(numbered.keys().copied().eq(1..=count), "numbers are without gaps");
        [self.first].into_iter().chain(numbered.into_values()).collect()
    }
}

/// What the collections hold after these transactions, by collection and in the order of ids.
pub fn state_of(log: &[Transaction]) -> BTreeMap<String, Vec<Document>> {
    let mut state: BTreeMap<String, BTreeMap<Vec<u8>, Document>> = BTreeMap::new();
    COLLECTIONS.iter().for_each(|name| drop(state.insert((*name).to_owned(), BTreeMap::new())));
    for change in log.iter().flatten() {
        let collection = state.get_mut(change.collection).unwrap();
        let key = key_of(&change.id);
        match &change.now {
            Some(document) => collection.insert(key, document.clone()),
            None => collection.remove(&key),
        };
    }
    state.into_iter().map(|(name, documents)| (name, documents.into_values().collect())).collect()
}

fn key_of(id: &Bson) -> Vec<u8> {
    let document = bson::RawDocumentBuf::try_from(&doc! { "_id": id.clone() }).unwrap();
    let mut key = Vec::new();
    repo_format::order::bson::push_key(&mut key, document.as_bytes(), &crate::support::row_key()).unwrap();
    key
}

/// Where what was read differs from what the collections held: the first few, in words.
pub fn differences(
    state: &BTreeMap<String, Vec<Document>>,
    read: &BTreeMap<String, Vec<Document>>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, documents) in state {
        let by_id = |documents: &[Document]| -> BTreeMap<Vec<u8>, Document> {
            documents
                .iter()
                .map(|document| (key_of(document.get("_id").unwrap()), document.clone()))
                .collect()
        };
        let (expected, was) = (by_id(documents), by_id(&read[name]));
        let keys: BTreeSet<_> = expected.keys().chain(was.keys()).collect();
        let unequal = keys.into_iter().filter(|key| expected.get(*key) != was.get(*key));
        found.extend(
            unequal
                .take(3)
                .map(|key| format!("{name}: expected {:?}, read {:?}", expected.get(key), was.get(key))),
        );
    }
    found
}

struct Writer {
    client: Client,
    name: String,
    random: Random,
    sizes: Sizes,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> BTreeMap<i64, Transaction> {
        let mut log = BTreeMap::new();
        let mut session = self.client.start_session().await.unwrap();
        while !stop.load(Ordering::SeqCst) {
            let random = self.random.clone();
            session.start_transaction().await.unwrap();
            let written = self.transaction(&mut session).await;
            let committed = match written {
                Ok(written) => session.commit_transaction().await.map(|()| written),
                Err(error) => {
                    let _ = session.abort_transaction().await;
                    Err(error)
                }
            };
            match committed {
                Ok((number, changes)) => drop(log.insert(number, changes)),
                // A conflict: somebody else was first.
                Err(error) if error.contains_label("TransientTransactionError") => self.random = random,
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(self.random.below(10))).await;
        }
        log
    }

    async fn transaction(&mut self, session: &mut ClientSession) -> Result<(i64, Transaction)> {
        let mut changes = Vec::new();
        let counter =
            self.alter(session, "counter", "number".into(), doc! { "$inc": { "n": 1i64 } }).await?.unwrap();
        let number = counter.get_i64("n").unwrap();
        changes.push(Change { collection: "counter", id: "number".into(), now: Some(counter) });
        let (from, to) = (
            self.random.below(self.sizes.accounts as u64) as i32,
            self.random.below(self.sizes.accounts as u64) as i32,
        );
        let amount = self.random.below(50) as i64;
        // Money moves between two collections: the sum of both stays the same.
        let id = Bson::Int32(from);
        let now =
            self.alter(session, "accounts", id.clone(), doc! { "$inc": { "balance": -amount } }).await?;
        changes.push(Change { collection: "accounts", id, now });
        let id = Bson::Document(doc! { "of": to });
        let now = self.alter(session, "vault", id.clone(), doc! { "$inc": { "balance": amount } }).await?;
        changes.push(Change { collection: "vault", id, now });
        if self.random.below(8) == 0 {
            let bulk = self.client.database(&self.name).collection::<Document>("bulk");
            bulk.update_many(doc! {}, doc! { "$set": { "v": number } }).session(&mut *session).await?;
            let altered = (0..self.sizes.bulk).map(|id| Change {
                collection: "bulk",
                id: id.into(),
                now: Some(doc! { "_id": id, "v": number }),
            });
            changes.extend(altered);
        }
        for _ in 0..self.random.below(3) {
            changes.push(self.item(session, number).await?);
        }
        Ok((number, changes))
    }

    /// Inserts, replaces, updates or deletes one item.
    async fn item(&mut self, session: &mut ClientSession, number: i64) -> Result<Change> {
        let items = self.client.database(&self.name).collection::<Document>("items");
        let id = Bson::String(format!("i{}", self.random.below(self.sizes.accounts as u64 * 2)));
        let filter = doc! { "_id": id.clone() };
        let now = match self.random.below(3) {
            0 => {
                items.delete_one(filter).session(session).await?;
                None
            }
            1 => {
                let document = doc! { "_id": id.clone(), "v": number, "more": vec![number; 20] };
                items.replace_one(filter, document.clone()).upsert(true).session(session).await?;
                Some(document)
            }
            _ => self.alter(session, "items", id.clone(), doc! { "$set": { "v": number } }).await?,
        };
        Ok(Change { collection: "items", id, now })
    }

    async fn alter(
        &self,
        session: &mut ClientSession,
        collection: &str,
        id: Bson,
        update: Document,
    ) -> Result<Option<Document>> {
        let collection = self.client.database(&self.name).collection::<Document>(collection);
        let altered = collection.find_one_and_update(doc! { "_id": id }, update);
        altered.return_document(ReturnDocument::After).session(session).await
    }
}

/// Small, and the same everywhere.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
