//! What a played deployment holds: collections with everything they were, the events of a change
//! stream, open cursors. It answers reads as MongoDB documents them:
//!
//! - `find` with read concern `snapshot` tells the time it stands at, and stands at the one it is
//!   asked for: <https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/>;
//! - `min` with a `hint` begins inside an index:
//!   <https://www.mongodb.com/docs/manual/reference/command/find/>;
//! - change streams, their events, and which of them are told only when asked for:
//!   <https://www.mongodb.com/docs/manual/reference/change-events/>.

use std::collections::HashMap;

use bson::raw::cstr;
use bson::spec::BinarySubtype;
use bson::{Binary, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use engine_testutils::mongodb::script::{Command, Refusal, Reply, first_batch, next_batch};

/// Events that are told only to who asks for them, from 6.0 on.
const EXPANDED: [&str; 7] = [
    "create",
    "createIndexes",
    "dropIndexes",
    "modify",
    "shardCollection",
    "reshardCollection",
    "refineCollectionShardKey",
];

/// A collection, as `listCollections` and `listIndexes` describe it, and what was in it when.
#[derive(Clone, Debug)]
pub struct Collection {
    pub database: String,
    pub name: String,
    /// "collection", "view" or "timeseries".
    pub kind: String,
    pub options: RawDocumentBuf,
    pub uuid: [u8; 16],
    /// As `listIndexes` gives them.
    pub indexes: Vec<RawDocumentBuf>,
    /// Documents in natural order, since each time.
    versions: Vec<(Timestamp, Vec<RawDocumentBuf>)>,
}

impl Collection {
    /// An ordinary one, with the index of `_id`.
    pub fn new(place: &str, documents: Vec<RawDocumentBuf>) -> Self {
        let (database, name) = place.split_once('.').unwrap();
        let uuid = bson::Uuid::new().bytes();
        let index = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        Self {
            database: database.to_owned(),
            name: name.to_owned(),
            kind: "collection".to_owned(),
            options: rawdoc! {},
            uuid,
            indexes: vec![index],
            versions: vec![(Timestamp { time: 0, increment: 0 }, documents)],
        }
    }

    pub fn of_kind(mut self, kind: &str, options: RawDocumentBuf) -> Self {
        (self.kind, self.options) = (kind.to_owned(), options);
        self
    }

    pub fn with_indexes(mut self, indexes: Vec<RawDocumentBuf>) -> Self {
        self.indexes = indexes;
        self
    }

    fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    fn at(&self, time: Timestamp) -> &[RawDocumentBuf] {
        let found = self.versions.iter().rev().find(|(since, _)| *since <= time);
        found.map_or(&[], |(_, documents)| documents)
    }

    fn listed(&self) -> RawDocumentBuf {
        let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: self.uuid.to_vec() };
        let mut listed = rawdoc! { "name": self.name.as_str(), "type": self.kind.as_str() };
        listed.append(cstr!("options"), self.options.clone());
        if self.kind == "view" {
            listed.append(cstr!("info"), rawdoc! { "readOnly": true });
        } else {
            listed.append(cstr!("info"), rawdoc! { "readOnly": false, "uuid": uuid });
        }
        listed
    }
}

enum Cursor {
    Documents { namespace: String, rest: Vec<RawDocumentBuf>, batch: usize },
    Changes { database: Option<String>, expanded: bool, next: usize },
}

/// A deployment. Its clock moves with its writes.
pub struct Deployment {
    pub collections: Vec<Collection>,
    pub now: Timestamp,
    /// Whether snapshot reads stand at the time asked for, as MongoDB's do.
    pub honours: bool,
    /// The most documents in a reply, whatever was asked for.
    pub most_per_reply: usize,
    events: Vec<(Timestamp, RawDocumentBuf)>,
    cursors: HashMap<i64, Cursor>,
    cursors_made: i64,
    /// The times of transactions, by session.
    transactions: HashMap<Vec<u8>, Timestamp>,
}

impl Deployment {
    pub fn new(collections: Vec<Collection>) -> Self {
        Self {
            collections,
            now: Timestamp { time: 1_800_000_000, increment: 1 },
            honours: true,
            most_per_reply: usize::MAX,
            events: Vec::new(),
            cursors: HashMap::new(),
            cursors_made: 100,
            transactions: HashMap::new(),
        }
    }

    pub fn collection(&mut self, place: &str) -> &mut Collection {
        let found = self.collections.iter_mut().find(|found| found.namespace() == place);
        found.unwrap_or_else(|| panic!("there is no {place}"))
    }

    /// The documents in it now, in natural order.
    pub fn documents(&mut self, place: &str) -> Vec<RawDocumentBuf> {
        let now = self.now;
        self.collection(place).at(now).to_vec()
    }

    /// Inserts, or replaces the document of that `_id`.
    pub fn put(&mut self, place: &str, document: RawDocumentBuf) {
        let id = id(&document);
        let mut documents = self.documents(place);
        let found = documents.iter().position(|found| self::id(found) == id);
        let operation = if found.is_some() { "replace" } else { "insert" };
        match found {
            Some(at) => documents[at] = document,
            None => documents.push(document),
        }
        self.write(place, operation, id, documents);
    }

    pub fn delete(&mut self, place: &str, id: i32) {
        let mut documents = self.documents(place);
        documents.retain(|found| self::id(found) != id);
        self.write(place, "delete", id, documents);
    }

    fn write(&mut self, place: &str, operation: &str, id: i32, documents: Vec<RawDocumentBuf>) {
        self.tick();
        let (now, key) = (self.now, rawdoc! { "_id": id });
        let collection = self.collection(place);
        collection.versions.push((now, documents));
        // Time series have no events: <https://www.mongodb.com/docs/manual/core/timeseries/timeseries-limitations/>.
        if collection.kind != "timeseries" {
            self.tell(operation, place, Some(key));
        }
    }

    /// Changes a definition, with the event for it.
    pub fn define(&mut self, operation: &str, place: &str, change: impl FnOnce(&mut Collection)) {
        self.tick();
        change(self.collection(place));
        self.tell(operation, place, None);
    }

    /// Drops a collection and makes another of its name.
    pub fn make_anew(&mut self, place: &str, documents: Vec<RawDocumentBuf>) {
        self.tick();
        self.collections.retain(|found| found.namespace() != place);
        self.tell("drop", place, None);
        self.tick();
        self.collections.push(Collection::new(place, documents));
        self.tell("create", place, None);
    }

    /// Time goes on.
    pub fn tick(&mut self) {
        self.now.time += 1;
    }

    fn tell(&mut self, operation: &str, place: &str, key: Option<RawDocumentBuf>) {
        let (database, name) = place.split_once('.').unwrap();
        let mut event = rawdoc! { "_id": token(self.now), "operationType": operation };
        event.append(cstr!("clusterTime"), self.now);
        event.append(cstr!("ns"), rawdoc! { "db": database, "coll": name });
        if let Some(found) = self.collections.iter().find(|found| found.namespace() == place) {
            let bytes = found.uuid.to_vec();
            event.append(cstr!("collectionUUID"), Binary { subtype: BinarySubtype::Uuid, bytes });
        }
        if let Some(key) = key {
            event.append(cstr!("documentKey"), key);
        }
        self.events.push((self.now, event));
    }

    /// Forgets all cursors, as a member does that went down.
    pub fn forget_cursors(&mut self) {
        self.cursors.clear();
    }

    /// What MongoDB answers.
    pub fn answer(&mut self, command: &Command) -> Reply {
        let document = &command.document;
        match command.name.as_str() {
            "listDatabases" => self.list_databases(),
            "listCollections" => self.list_collections(&command.database, document),
            "listIndexes" => self.list_indexes(&command.database, document),
            "collStats" => {
                let place = format!("{}.{}", command.database, text(document, "collStats"));
                let documents = self.documents(&place);
                let bytes: usize = documents.iter().map(|document| document.as_bytes().len()).sum();
                rawdoc! { "count": documents.len() as i64, "size": bytes as i64 }.into()
            }
            "find" => self.find(command),
            "aggregate" => self.aggregate(command),
            "getMore" => self.get_more(document),
            // Nobody has to log in.
            "connectionStatus" => rawdoc! { "authInfo": { "authenticatedUsers": [] } }.into(),
            "refreshSessions" | "abortTransaction" | "commitTransaction" => rawdoc! {}.into(),
            name => Refusal::command_not_found(name).into(),
        }
    }

    fn list_databases(&self) -> Reply {
        let mut names: Vec<&str> = self.collections.iter().map(|found| found.database.as_str()).collect();
        names.extend(["admin", "config", "local"]);
        names.sort_unstable();
        names.dedup();
        let mut databases = RawArrayBuf::new();
        names.iter().for_each(|name| databases.push(rawdoc! { "name": *name }));
        let mut reply = RawDocumentBuf::new();
        reply.append(cstr!("databases"), databases);
        reply.into()
    }

    fn list_collections(&self, database: &str, command: &RawDocument) -> Reply {
        let wanted = command.get_document("filter").ok().map(|filter| text(filter, "name"));
        let of_database = self.collections.iter().filter(|found| found.database == database);
        let chosen = of_database.filter(|found| wanted.as_ref().is_none_or(|name| *name == found.name));
        let listed: Vec<_> = chosen.map(Collection::listed).collect();
        first_batch(&format!("{database}.$cmd.listCollections"), 0, &listed).into()
    }

    fn list_indexes(&self, database: &str, command: &RawDocument) -> Reply {
        let place = format!("{database}.{}", text(command, "listIndexes"));
        match self.collections.iter().find(|found| found.namespace() == place) {
            Some(found) => first_batch(&place, 0, &found.indexes).into(),
            None => Refusal::namespace_not_found(&place).into(),
        }
    }

    fn find(&mut self, command: &Command) -> Reply {
        let document = &command.document;
        let place = format!("{}.{}", command.database, text(document, "find"));
        let (at, is_snapshot) = self.time_of(command);
        let found = self.collections.iter().find(|found| found.namespace() == place);
        let mut documents = found.map_or(Vec::new(), |found| found.at(at).to_vec());
        if document.get_document("sort").is_ok() {
            documents.sort_by_key(|document| id(document));
        }
        if let Ok(ids) = document.get_document("filter").and_then(|filter| filter.get_document("_id")) {
            let ids = ids.get_array("$in").unwrap();
            let wanted: Vec<i32> = ids.into_iter().map(|id| id.unwrap().as_i32().unwrap()).collect();
            documents.retain(|document| wanted.contains(&id(document)));
        }
        if let Ok(bound) = document.get_document("min") {
            let least = id(bound);
            documents.retain(|document| id(document) >= least);
        }
        if let Ok(limit) = document.get_i32("limit") {
            documents.truncate(usize::try_from(limit).unwrap());
        }
        let batch = usize::try_from(document.get_i32("batchSize").unwrap()).unwrap();
        let batch = batch.min(self.most_per_reply);
        let rest = documents.split_off(batch.min(documents.len()));
        let open = match rest.is_empty() {
            true => 0,
            false => self.open(Cursor::Documents { namespace: place.clone(), rest, batch }),
        };
        let reply = first_batch(&place, open, &documents);
        if is_snapshot { reply.at_cluster_time(at).into() } else { reply.into() }
    }

    /// The time a read stands at, and whether the reply tells it.
    fn time_of(&mut self, command: &Command) -> (Timestamp, bool) {
        let document = &command.document;
        if document.get_bool("autocommit").is_ok() {
            let session = document.get_document("lsid").unwrap().as_bytes().to_vec();
            if document.get_bool("startTransaction").is_ok() {
                self.transactions.insert(session.clone(), self.now);
            }
            return (self.transactions[&session], false);
        }
        let level =
            document.get_document("readConcern").ok().and_then(|concern| concern.get_str("level").ok());
        if level != Some("snapshot") {
            return (self.now, false);
        }
        match command.at_cluster_time() {
            Some(time) if self.honours => (time, true),
            // Accepted, echoed and not honoured: what servers that imitate MongoDB do.
            _ => (self.now, true),
        }
    }

    fn aggregate(&mut self, command: &Command) -> Reply {
        let pipeline = command.document.get_array("pipeline").unwrap();
        let stage = pipeline.get_document(0).unwrap();
        let Ok(stream) = stage.get_document("$changeStream") else {
            let name = stage.iter().next().unwrap().unwrap().0.as_str().to_owned();
            let message = format!("Unrecognized pipeline stage name: '{name}'");
            return Refusal::new(40_324, "Location40324", message).into();
        };
        let whole = stream.get_bool("allChangesForCluster").unwrap_or(false);
        let from = stream.get_document("resumeAfter").ok().map(time_of_token);
        let next =
            from.map_or(self.events.len(), |from| self.events.partition_point(|(time, _)| *time <= from));
        let database = (!whole).then(|| command.database.clone());
        let expanded = stream.get_bool("showExpandedEvents").unwrap_or(false);
        let id = self.open(Cursor::Changes { database, expanded, next });
        // Nothing yet, and where the stream stands.
        first_batch(&format!("{}.$cmd.aggregate", command.database), id, &[])
            .resume_token(token(self.now))
            .into()
    }

    fn get_more(&mut self, command: &RawDocument) -> Reply {
        let id = command.get_i64("getMore").unwrap();
        let Some(cursor) = self.cursors.get_mut(&id) else { return Refusal::cursor_not_found(id).into() };
        match cursor {
            Cursor::Documents { namespace, rest, batch } => {
                let after = rest.split_off((*batch).min(rest.len()));
                let documents = std::mem::replace(rest, after);
                let (namespace, is_last) = (namespace.clone(), rest.is_empty());
                if is_last {
                    self.cursors.remove(&id);
                }
                next_batch(&namespace, if is_last { 0 } else { id }, &documents).into()
            }
            Cursor::Changes { database, expanded, next } => {
                let of_database = |event: &RawDocument| {
                    let place = event.get_document("ns").unwrap();
                    database.as_ref().is_none_or(|database| *database == text(place, "db"))
                };
                let told = |event: &RawDocument| {
                    *expanded || !EXPANDED.contains(&text(event, "operationType").as_str())
                };
                let events = self.events[*next..].iter().map(|(_, event)| event);
                let new: Vec<_> = events.filter(|event| of_database(event) && told(event)).cloned().collect();
                *next = self.events.len();
                let reply = next_batch("admin.$cmd.aggregate", id, &new).resume_token(token(self.now)).into();
                if new.is_empty() {
                    Reply::Late(std::time::Duration::from_millis(10), Box::new(reply))
                } else {
                    reply
                }
            }
        }
    }

    fn open(&mut self, cursor: Cursor) -> i64 {
        self.cursors_made += 1;
        self.cursors.insert(self.cursors_made, cursor);
        self.cursors_made
    }
}

pub fn text(document: &RawDocument, name: &str) -> String {
    document.get_str(name).unwrap().to_owned()
}

/// Only whole numbers are ids here; other documents sort as they come.
fn id(document: &RawDocument) -> i32 {
    match document.get("_id") {
        Ok(Some(RawBsonRef::Int32(id))) => id,
        _ => 0,
    }
}

/// A resume token: hexadecimal, a type byte and the time first
/// (<https://github.com/mongodb/mongo/blob/master/src/mongo/db/pipeline/resume_token.h>).
pub fn token(time: Timestamp) -> RawDocumentBuf {
    rawdoc! { "_data": format!("82{:08X}{:08X}2B0229296E04", time.time, time.increment) }
}

fn time_of_token(token: &RawDocument) -> Timestamp {
    let data = text(token, "_data");
    let number = |at: usize| u32::from_str_radix(&data[at..at + 8], 16).unwrap();
    Timestamp { time: number(2), increment: number(10) }
}
