//! Finds: how a collection is asked for, and as of when.

use std::io;
use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use mongodb::ClientSession;
use mongodb::error::Error as DriverError;
use mongodb::options::CursorType;
use mongodb::raw_batch_cursor::SessionRawBatchCursor;
use repo_format::bson::kind;

use super::catalog::{Kind, Listed};
use super::connect::Deployment;
use super::records::Id;
use super::wire::{ClusterTime, DocumentWriter};
use crate::error::Result;

/// Bytes of documents asked for at a time.
const BATCH_BYTES: u64 = 4 << 20;
/// Documents asked for at a time, whatever their size.
const BATCH_DOCUMENTS: u64 = 10_000;

/// As of when a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAt {
    /// Whatever the server has: it keeps no history.
    Latest,
    /// What a majority of the members has, not older than this time.
    Majority(ClusterTime),
    /// A time of the server's choice, which its reply tells.
    Snapshot,
    /// Exactly this time.
    Time(ClusterTime),
    /// The time of the session's transaction.
    Transaction,
}

/// The order documents are asked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the index of `_id`.
    ById,
    /// That of storage, asked for by name.
    Natural,
    /// The server's choice.
    Any,
}

impl Order {
    /// The order in which a collection is scanned.
    pub fn of(listed: &Listed) -> Result<Self> {
        Ok(match listed.kind {
            Kind::Capped => Self::Natural,
            Kind::Plain if listed.has_id_index()? && !listed.is_clustered()? => Self::ById,
            Kind::Plain | Kind::TimeSeries | Kind::View => Self::Any,
        })
    }
}

/// A find.
#[derive(Clone, Debug)]
pub(super) struct Find<'a> {
    pub listed: &'a Listed,
    /// The filter as BSON; none for all documents.
    pub filter: Option<Vec<u8>>,
    pub order: Order,
    /// Begin at this `_id`, which is read again. Needs [`Order::ById`].
    pub from: Option<&'a Id>,
    /// Documents per reply.
    pub batch: u32,
    /// Documents in all; none for no limit.
    pub limit: Option<i32>,
    /// Whether the server may end the cursor when it is idle for ten minutes.
    pub may_time_out: bool,
}

impl Find<'_> {
    /// The command. Strings of names and ids go in byte for byte.
    fn command(&self, at: ReadAt) -> Result<RawDocumentBuf> {
        let mut command = DocumentWriter::new();
        command.push_text(b"find", &self.listed.name);
        if let Some(filter) = &self.filter {
            command.push(kind::DOCUMENT, b"filter", filter);
        }
        let ascending = |name: &[u8]| {
            let mut document = DocumentWriter::new();
            document.push(kind::INT32, name, &1i32.to_le_bytes());
            document.finish()
        };
        match self.order {
            Order::ById => {
                command.push(kind::DOCUMENT, b"sort", &ascending(b"_id"));
                command.push(kind::DOCUMENT, b"hint", &ascending(b"_id"));
            }
            Order::Natural => command.push(kind::DOCUMENT, b"hint", &ascending(b"$natural")),
            Order::Any => {}
        }
        if let Some(id) = self.from {
            // A range query would stay within the types that compare with the id; the bounds of an
            // index scan do not.
            let mut bound = DocumentWriter::new();
            bound.push(id.kind, b"_id", &id.value);
            command.push(kind::DOCUMENT, b"min", &bound.finish());
        }
        command.push(kind::INT32, b"batchSize", &self.batch.to_le_bytes());
        if let Some(limit) = self.limit {
            command.push(kind::INT32, b"limit", &limit.to_le_bytes());
        }
        if at != ReadAt::Transaction {
            // Said outright: a deployment may have a limit that holds for who says nothing.
            command.push(kind::INT64, b"maxTimeMS", &0i64.to_le_bytes());
            if !self.may_time_out {
                command.push(kind::BOOLEAN, b"noCursorTimeout", &[1]);
            }
        }
        let mut concern = DocumentWriter::new();
        match at {
            ReadAt::Latest | ReadAt::Transaction => {}
            ReadAt::Majority(after) => {
                concern.push_text(b"level", "majority");
                if after > ClusterTime::default() {
                    concern.push(kind::TIMESTAMP, b"afterClusterTime", &after.0.to_le_bytes());
                }
            }
            ReadAt::Snapshot => concern.push_text(b"level", "snapshot"),
            ReadAt::Time(time) => {
                concern.push_text(b"level", "snapshot");
                concern.push(kind::TIMESTAMP, b"atClusterTime", &time.0.to_le_bytes());
            }
        }
        if !matches!(at, ReadAt::Latest | ReadAt::Transaction) {
            command.push(kind::DOCUMENT, b"readConcern", &concern.finish());
        }
        RawDocumentBuf::from_bytes(command.finish()).map_err(|error| {
            crate::Error::new(crate::Kind::Internal, "a find could not be written")
                .with_source(error.to_string())
        })
    }

    /// Opens a cursor.
    pub async fn open(
        &self,
        deployment: &Deployment,
        at: ReadAt,
        session: &mut ClientSession,
    ) -> Result<SessionRawBatchCursor, DriverError> {
        let command = self.command(at).map_err(DriverError::custom)?;
        let database = deployment.client.database(&self.listed.database);
        let mut run = database
            .run_raw_cursor_command(command)
            .cursor_type(CursorType::NonTailable)
            .batch_size(self.batch);
        // A transaction reads from the primary.
        if let (Some(criteria), false) = (&deployment.preference, at == ReadAt::Transaction) {
            run = run.selection_criteria(criteria.clone());
        }
        in_time(run.session(session).batch().into_future()).await
    }
}

/// How long a server may take over one answer. A slow one takes less; one that hangs would keep its job
/// for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The server's answer, or the failure of a connection over which none comes.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, DriverError> {
    within(ANSWER_TIMEOUT, answer).await
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, DriverError> {
    let in_time = tokio::time::timeout(limit, answer).await;
    in_time.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// How many documents of this collection to ask for at a time.
pub(super) fn batch_size((records, bytes): (u64, u64)) -> u32 {
    let average = bytes.checked_div(records).unwrap_or(1024).max(1);
    u32::try_from((BATCH_BYTES / average).clamp(16, BATCH_DOCUMENTS)).unwrap_or(16)
}

/// `{_id: {$in: [..]}}`.
pub(super) fn ids_filter<'a>(ids: impl Iterator<Item = &'a Id>) -> Vec<u8> {
    let mut list = DocumentWriter::new();
    for (position, id) in ids.enumerate() {
        list.push(id.kind, position.to_string().as_bytes(), &id.value);
    }
    let mut condition = DocumentWriter::new();
    condition.push(kind::ARRAY, b"$in", &list.finish());
    let mut filter = DocumentWriter::new();
    filter.push(kind::DOCUMENT, b"_id", &condition.finish());
    filter.finish()
}

/// A time of the deployment that is not before anything it has acknowledged so far.
pub(super) async fn now(deployment: &Deployment) -> Result<ClusterTime> {
    // Asked of the primary: a secondary's time may be behind.
    let admin = deployment.client.database("admin");
    let asked = in_time(admin.run_command(doc! { "ping": 1 }).into_future()).await;
    let reply = asked.map_err(|error| super::fault::statement("asking for the time", &error))?;
    let time = reply.get_timestamp("operationTime").map(ClusterTime::from);
    time.map_err(|_| {
        crate::Error::new(crate::Kind::Unsupported, "the server tells no operation time")
            .with_help(super::STANDALONE_HELP)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mongodb::fault;

    /// Stands for a server that takes a question and never answers: the read is begun anew on another
    /// connection, as when this one had broken.
    #[tokio::test]
    async fn a_server_that_does_not_answer_is_not_waited_for() {
        let silence = std::future::pending::<Result<(), DriverError>>();
        let error = within(Duration::from_millis(10), silence).await.unwrap_err();
        assert!(fault::is_passing(&error) && fault::is_network(&error));
        let told = fault::statement("reading", &error).to_string();
        assert!(told.contains("timed out"), "{told}");
    }
}
