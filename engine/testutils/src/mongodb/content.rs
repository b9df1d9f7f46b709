//! Putting documents into a server as they are.

use bson::{RawArrayBuf, RawBsonRef, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Database;
use mongodb::options::{Acknowledgment, WriteConcern};

use super::{Flavour, Server};

/// Commands hold 48 MB (`maxMessageSizeBytes`); a document has at most 16 of them.
const BATCH_BYTES: usize = 16 << 20;
/// `maxWriteBatchSize`.
const BATCH_DOCUMENTS: usize = 100_000;
/// A server that does not know a field of a command.
const UNKNOWN_FIELD: i32 = 40_415;

impl Server {
    /// Inserts documents into `namespace` ("database.collection") byte for byte, in their order:
    /// repeated fields, strings that are not UTF-8, empty timestamps. What the server itself does
    /// remains: it puts `_id` first, and mongod before 5.0.29, 6.0.17 and 7.0.13 fills empty
    /// timestamps in. SecantusDB takes repeated fields only in documents that have an `_id` and no
    /// empty timestamp.
    ///
    /// # Panics
    /// When one is refused.
    pub async fn insert_raw(&self, namespace: &str, documents: &[RawDocumentBuf]) {
        let (database, collection) = split(namespace);
        let database = self.client().await.database(database);
        let in_sequences = |document: &RawDocumentBuf| {
            self.flavour() == Flavour::SecantusDb && is_left_alone_by_the_driver(document)
        };
        for alike in documents.chunk_by(|a, b| in_sequences(a) == in_sequences(b)) {
            if in_sequences(&alike[0]) {
                insert_sequence(&database, collection, alike).await;
                continue;
            }
            let mut rest = alike;
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(batch_length(rest));
                insert_array(&database, collection, batch).await;
                rest = later;
            }
        }
    }

    /// Every document of `namespace`, byte for byte, in the order of `_id`.
    pub async fn read_raw(&self, namespace: &str) -> Vec<RawDocumentBuf> {
        let (database, collection) = split(namespace);
        let collection = self.client().await.database(database).collection::<RawDocumentBuf>(collection);
        let mut cursor = collection
            .find(doc! {})
            .sort(doc! { "_id": 1 })
            .await
            .unwrap_or_else(|error| panic!("find in {namespace}: {error}"));
        let mut documents = Vec::new();
        while cursor.advance().await.unwrap_or_else(|error| panic!("getMore in {namespace}: {error}")) {
            documents.push(cursor.current().to_owned());
        }
        documents
    }
}

fn split(namespace: &str) -> (&str, &str) {
    namespace.split_once('.').unwrap_or_else(|| panic!("{namespace:?} is no database.collection"))
}

/// How many of `documents`, at least one, go into one command.
fn batch_length(documents: &[RawDocumentBuf]) -> usize {
    let mut bytes = 0;
    let fits = documents.iter().take(BATCH_DOCUMENTS).take_while(|document| {
        bytes += document.as_bytes().len();
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

/// The driver gives an `_id` to documents without, and cannot ask for empty timestamps to stay.
fn is_left_alone_by_the_driver(document: &RawDocumentBuf) -> bool {
    let is_empty_time = |value: RawBsonRef<'_>| {
        value.as_timestamp().is_some_and(|timestamp| timestamp == Timestamp { time: 0, increment: 0 })
    };
    // Values that cannot be read are nothing that anybody would alter.
    let mut fields = document.iter().flatten();
    matches!(document.get("_id"), Ok(Some(_))) && !fields.any(|(_, value)| is_empty_time(value))
}

/// By the driver's own insert, which sends documents as a sequence beside the command. SecantusDB
/// keeps the bytes of those, and decodes what is inside a command.
async fn insert_sequence(database: &Database, collection: &str, documents: &[RawDocumentBuf]) {
    let inserted = database
        .collection::<RawDocumentBuf>(collection)
        .insert_many(documents)
        .write_concern(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build())
        .await
        .unwrap_or_else(|error| panic!("insert into {collection}: {error}"));
    assert_eq!(inserted.inserted_ids.len(), documents.len(), "insert into {collection}");
}

/// By a command of our own, which mongod takes byte for byte.
async fn insert_array(database: &Database, collection: &str, batch: &[RawDocumentBuf]) {
    let command = |keeps_timestamps: bool| {
        let mut documents = RawArrayBuf::new();
        batch.iter().for_each(|document| documents.push(document.as_ref()));
        let mut command = rawdoc! { "insert": collection, "ordered": true, "documents": documents };
        // Majority, so that a snapshot or a change stream sees it from now on.
        command.append(bson::raw::cstr!("writeConcern"), rawdoc! { "w": "majority", "j": true });
        if keeps_timestamps {
            command.append(bson::raw::cstr!("bypassEmptyTsReplacement"), true);
        }
        command
    };
    let mut reply = database.run_raw_command(command(true)).await;
    if let Err(error) = &reply
        && let mongodb::error::ErrorKind::Command(refused) = &*error.kind
        && refused.code == UNKNOWN_FIELD
    {
        reply = database.run_raw_command(command(false)).await;
    }
    let reply = reply.unwrap_or_else(|error| panic!("insert into {collection}: {error}"));
    let problems = ["writeErrors", "writeConcernError"].iter().find_map(|name| reply.get(name));
    assert!(problems.is_none(), "insert into {collection}: {problems:?}");
    assert_eq!(reply.get_i32("n").ok(), i32::try_from(batch.len()).ok(), "insert into {collection}: {reply}");
}
