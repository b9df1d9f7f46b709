//! What a script may answer.

use std::time::Duration;

use bson::raw::cstr;
use bson::spec::BinarySubtype;
use bson::{Binary, Document, RawArrayBuf, RawDocumentBuf, Timestamp, rawdoc};

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This document; `ok: 1` is added where there is no `ok`, and the server's times where there
    /// are none and its persona has them.
    Document(RawDocumentBuf),
    /// None: the connection is closed.
    Drop,
    /// None: the connection stays open and silent.
    Silence,
    /// None: the server goes down, with all its connections. See [`super::Scripted::reopen`].
    Shutdown,
    /// The other answer, so much later.
    Late(Duration, Box<Reply>),
}

impl From<RawDocumentBuf> for Reply {
    fn from(document: RawDocumentBuf) -> Self {
        Self::Document(document)
    }
}

impl From<Document> for Reply {
    fn from(document: Document) -> Self {
        let raw = RawDocumentBuf::try_from(&document);
        Self::Document(raw.expect("because a document has no name with a NUL in it"))
    }
}

/// A refused command. Codes and names are those of
/// <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>.
#[derive(Clone, Debug)]
pub struct Refusal {
    code: i32,
    name: &'static str,
    message: String,
    labels: Vec<String>,
}

impl Refusal {
    /// Any refusal.
    pub fn new(code: i32, name: &'static str, message: impl Into<String>) -> Self {
        Self { code, name, message: message.into(), labels: Vec::new() }
    }

    /// The user may not (13).
    pub fn unauthorized(what: &str) -> Self {
        Self::new(13, "Unauthorized", format!("not authorized on {what}"))
    }

    /// There is no such collection (26).
    pub fn namespace_not_found(namespace: &str) -> Self {
        Self::new(26, "NamespaceNotFound", format!("ns does not exist: {namespace}"))
    }

    /// The server has no cursor of this id, or no more (43).
    pub fn cursor_not_found(id: i64) -> Self {
        Self::new(43, "CursorNotFound", format!("cursor id {id} not found"))
    }

    /// The time limit of the operation, or of the cluster, is over (50).
    pub fn max_time_expired() -> Self {
        Self::new(50, "MaxTimeMSExpired", "operation exceeded time limit")
    }

    /// The server does not know the command (59).
    pub fn command_not_found(name: &str) -> Self {
        Self::new(59, "CommandNotFound", format!("no such command: '{name}'"))
    }

    /// Snapshots need a set (123).
    pub fn not_a_replica_set() -> Self {
        let message = "node needs to be a replica set member to use readConcern: snapshot";
        Self::new(123, "NotAReplicaSet", message)
    }

    /// What the query read is gone: its collection or index was dropped (175).
    pub fn query_plan_killed() -> Self {
        Self::new(175, "QueryPlanKilled", "collection dropped between getMore calls")
    }

    /// The history does not reach back to the time asked for (239).
    pub fn snapshot_too_old() -> Self {
        let message = "Read timestamp is older than the oldest available timestamp.";
        Self::new(239, "SnapshotTooOld", message)
    }

    /// The catalog changed after the time asked for (246).
    pub fn snapshot_unavailable() -> Self {
        let message = "Unable to read from a snapshot due to pending collection catalog changes; \
                       please retry the operation.";
        Self::new(246, "SnapshotUnavailable", message)
    }

    /// The transaction ended, by its time limit or a failover (251).
    pub fn no_such_transaction() -> Self {
        Self::new(
            251,
            "NoSuchTransaction",
            "Given transaction number does not match any in-progress transactions.",
        )
    }

    /// The oplog does not reach back to the resume token (286).
    pub fn change_stream_history_lost() -> Self {
        let message =
            "Resume of change stream was not possible, as the resume point may no longer be in the oplog.";
        Self::new(286, "ChangeStreamHistoryLost", message)
    }

    /// The member is no primary any more (10107).
    pub fn not_writable_primary() -> Self {
        Self::new(10_107, "NotWritablePrimary", "not primary")
    }

    /// The member steps down and ends what runs (11602).
    pub fn interrupted_by_failover() -> Self {
        let message = "operation was interrupted";
        Self::new(11_602, "InterruptedDueToReplStateChange", message)
    }

    /// With `errorLabels`, such as `TransientTransactionError` or `ResumableChangeStreamError`.
    pub fn with_labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self
    }

    /// With another `errmsg`.
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut document = rawdoc! { "ok": 0.0, "errmsg": refusal.message };
        document.append(cstr!("code"), refusal.code);
        document.append(cstr!("codeName"), refusal.name);
        if !refusal.labels.is_empty() {
            let mut labels = RawArrayBuf::new();
            refusal.labels.iter().for_each(|label| labels.push(label.as_str()));
            document.append(cstr!("errorLabels"), labels);
        }
        Self::Document(document)
    }
}

/// The reply to a command that opens a cursor, or to `getMore`:
/// <https://www.mongodb.com/docs/manual/reference/command/find/#output>,
/// <https://www.mongodb.com/docs/manual/reference/command/getMore/#output>.
#[derive(Clone, Debug)]
pub struct Batch {
    name: &'static str,
    namespace: String,
    id: i64,
    documents: RawArrayBuf,
    at_cluster_time: Option<Timestamp>,
    resume_token: Option<RawDocumentBuf>,
    operation_time: Option<Timestamp>,
}

/// What `find`, `aggregate`, `listCollections` or `listIndexes` answers. Id 0: there is no more.
pub fn first_batch(namespace: &str, id: i64, documents: &[RawDocumentBuf]) -> Batch {
    Batch::new("firstBatch", namespace, id, documents)
}

/// What `getMore` answers. Id 0: there is no more.
pub fn next_batch(namespace: &str, id: i64, documents: &[RawDocumentBuf]) -> Batch {
    Batch::new("nextBatch", namespace, id, documents)
}

impl Batch {
    fn new(name: &'static str, namespace: &str, id: i64, documents: &[RawDocumentBuf]) -> Self {
        let mut array = RawArrayBuf::new();
        documents.iter().for_each(|document| array.push(document.as_ref()));
        Self {
            name,
            namespace: namespace.to_owned(),
            id,
            documents: array,
            at_cluster_time: None,
            resume_token: None,
            operation_time: None,
        }
    }

    /// With the time of a snapshot read, inside the cursor:
    /// <https://github.com/mongodb/specifications/blob/master/source/sessions/snapshot-sessions.md#server-command-responses>.
    pub fn at_cluster_time(mut self, time: Timestamp) -> Self {
        self.at_cluster_time = Some(time);
        self
    }

    /// With `postBatchResumeToken`, as change streams have it:
    /// <https://github.com/mongodb/specifications/blob/master/source/change-streams/change-streams.md>.
    pub fn resume_token(mut self, token: RawDocumentBuf) -> Self {
        self.resume_token = Some(token);
        self
    }

    /// With an `operationTime` other than the server's.
    pub fn operation_time(mut self, time: Timestamp) -> Self {
        self.operation_time = Some(time);
        self
    }
}

impl From<Batch> for Reply {
    fn from(batch: Batch) -> Self {
        let mut cursor = RawDocumentBuf::new();
        let name = if batch.name == "firstBatch" { cstr!("firstBatch") } else { cstr!("nextBatch") };
        cursor.append(name, batch.documents);
        if let Some(token) = batch.resume_token {
            cursor.append(cstr!("postBatchResumeToken"), token);
        }
        if let Some(time) = batch.at_cluster_time {
            cursor.append(cstr!("atClusterTime"), time);
        }
        cursor.append(cstr!("id"), batch.id);
        cursor.append(cstr!("ns"), batch.namespace);
        let mut document = rawdoc! { "cursor": cursor, "ok": 1.0 };
        if let Some(time) = batch.operation_time {
            document.append(cstr!("operationTime"), time);
        }
        Self::Document(document)
    }
}

/// Adds what every reply has: `ok`, and the times of a server that has them, unless they are there.
pub(super) fn complete(reply: &mut RawDocumentBuf, cluster_time: Option<Timestamp>) {
    let lacks = |reply: &RawDocumentBuf, name: &str| !matches!(reply.get(name), Ok(Some(_)));
    if lacks(reply, "ok") {
        reply.append(cstr!("ok"), 1.0);
    }
    let Some(now) = cluster_time else { return };
    if lacks(reply, "operationTime") {
        reply.append(cstr!("operationTime"), now);
    }
    if lacks(reply, "$clusterTime") {
        let nobody = Binary { subtype: BinarySubtype::Generic, bytes: vec![0; 20] };
        let signature = rawdoc! { "hash": nobody, "keyId": 0i64 };
        reply.append(cstr!("$clusterTime"), rawdoc! { "clusterTime": now, "signature": signature });
    }
}
