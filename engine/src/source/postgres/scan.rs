//! Reading one collection on a connection that shares the snapshot.

use std::pin::pin;

use futures::{FutureExt, StreamExt};
use repo_format::catalog::{CollectionKind, KeySource, Layout};
use repo_format::keys::RowKey;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::catalog::{self, Relation, lock_statement, locked, only};
use super::fault;
use super::rows::RowReader;
use super::session::{CancelGuard, Session, ident, literal};
use super::snapshot::{Snapshot, Table};
use crate::error::{Error, Kind, Result};
use crate::source::{RecordBatch, ScanOrder, ScanStats, sql_name};

/// A row over this many bytes of text may be more than the server can print.
const OVERSIZE: u64 = 400 << 20;
/// What to know of such a row.
const PRINTED_AT_MOST: &str =
    "PostgreSQL prints at most 1 GB a row, and bytea takes two characters a byte. Split the value.";
/// A batch over this many bytes waits until those before it are taken.
const LONG_BATCH: usize = 16 << 20;

impl Snapshot {
    /// Reads the collection with `layout` and sends its records in batches, in the order that
    /// [`order`](Snapshot::order) says. May run for several collections at a time; each uses a
    /// connection of its own. Ends early, and cancels the query on the server, when `cancel` fires,
    /// the receiver is dropped, or this future is.
    ///
    /// # Errors
    /// [`NotFound`](Kind::NotFound) for a collection or column that does not exist,
    /// [`Conflict`](Kind::Conflict) when key values are not of the layout's types,
    /// [`Unsupported`](Kind::Unsupported) for a row that is too large,
    /// [`SourceChanged`](Kind::SourceChanged) when the snapshot is lost or the table cannot be
    /// locked: the whole snapshot is then to be taken again.
    pub async fn scan(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        row_key: &RowKey,
        batches: mpsc::Sender<RecordBatch>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        let scan = Scan { snapshot: self, layout, namespace, name };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            stats = scan.run(row_key, batches) => stats,
        }
    }

    /// As [`scan`](Self::scan), on the connection that holds the snapshot: what was written there is
    /// read. One collection at a time.
    pub(crate) async fn scan_own(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        row_key: &RowKey,
        batches: mpsc::Sender<RecordBatch>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        let scan = Scan { snapshot: self, layout, namespace, name };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            stats = scan.run_own(row_key, batches) => stats,
        }
    }

    /// A connection that reads this snapshot.
    pub(super) async fn worker(&self) -> Result<Session> {
        if let Some(worker) = self.idle.lock().await.pop() {
            return Ok(worker);
        }
        let worker = self.connector.connect().await?;
        let import = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; {}",
            literal(&self.evidence().snapshot_name),
            self.server.pins(self.options.lock_timeout)
        );
        worker.answered(worker.run(&import)).await?.map_err(|error| {
            let why =
                error.as_db_error().map_or_else(|| error.to_string(), |answer| answer.message().to_owned());
            Error::new(Kind::SourceChanged, format!("a worker cannot join the snapshot: {why}"))
                .with_help(
                    "Take a new snapshot. If this repeats, check that the URL leads to one server only.",
                )
                .with_source(error)
        })?;
        let noted = worker.answered(worker.note_backend()).await?;
        noted.map_err(|error| fault::statement("joining the snapshot", error))?;
        Ok(worker)
    }

    /// Keeps a connection whose transaction is sound for the next scan.
    pub(super) async fn keep(&self, worker: Session) {
        let mut idle = self.idle.lock().await;
        if idle.len() < self.options.workers {
            idle.push(worker);
        }
    }
}

struct Scan<'a> {
    snapshot: &'a Snapshot,
    layout: &'a Layout,
    namespace: &'a str,
    name: &'a str,
}

/// How one relation's rows are asked for.
struct Reading {
    statement: String,
    /// Statements that the server carries out without planning a query.
    plain: Option<Vec<String>>,
}

/// A connection that holds the table's lock, and is stopped when it is dropped early.
struct Worker {
    session: Session,
    guard: CancelGuard,
}

/// Why rows were not read.
enum Failure {
    /// The statement was refused before any row was sent.
    Refused(tokio_postgres::Error),
    Reading(Error),
}

impl Scan<'_> {
    async fn run(&self, row_key: &RowKey, batches: mpsc::Sender<RecordBatch>) -> Result<ScanStats> {
        let table = self.table()?;
        let Some(mut worker) = self.worker(table).await? else {
            tracing::debug!(
                table = self.display(),
                "a table that somebody waits to change is read by the holder"
            );
            let guard = self.snapshot.holder.cancel_guard();
            let stats = self.run_own(row_key, batches).await?;
            guard.disarm();
            return Ok(stats);
        };
        let mut reader = RowReader::new(self.layout, row_key, self.display());
        for Reading { statement, plain } in self.readings(table) {
            match (self.copy(&worker.session, &statement, &mut reader, &batches).await, plain) {
                (Ok(()), _) => {}
                // Planning looks at every index and constraint, and may call the functions in them;
                // one that does not work with an empty search path is no reason not to read the rows.
                (Err(Failure::Refused(error)), Some(plain)) if fault::is_of_function(&error) => {
                    tracing::debug!(table = self.display(), %error, "a table is read without a query");
                    // The transaction of a failed statement is of no use any more.
                    worker = self.worker(table).await?.ok_or_else(|| self.changed())?;
                    for statement in plain {
                        if let Err(failure) =
                            self.copy(&worker.session, &statement, &mut reader, &batches).await
                        {
                            return Err(self.error(failure).await);
                        }
                    }
                }
                (Err(failure), _) => return Err(self.error(failure).await),
            }
        }
        reader.finish()?;
        if let Some(batch) = reader.take_batch(true) {
            send(&batches, batch).await?;
        }
        if let Some(table) = table {
            self.check_tree(&worker.session, table).await?;
        }
        worker.guard.disarm();
        self.snapshot.keep(worker.session).await;
        Ok(ScanStats { records: reader.records(), bytes_read: reader.bytes_read() })
    }

    /// The tables are locked, and there is one transaction only: nothing is tried twice.
    async fn run_own(&self, row_key: &RowKey, batches: mpsc::Sender<RecordBatch>) -> Result<ScanStats> {
        let table = self.table()?;
        let _alone = self.snapshot.holder_reads.lock().await;
        let mut reader = RowReader::new(self.layout, row_key, self.display());
        for Reading { statement, .. } in self.readings(table) {
            match self.copy(&self.snapshot.holder, &statement, &mut reader, &batches).await {
                Ok(()) => {}
                Err(Failure::Reading(error)) => return Err(error),
                Err(Failure::Refused(error)) => {
                    return Err(fault::statement(&format!("reading {}", self.display()), error));
                }
            }
        }
        reader.finish()?;
        if let Some(batch) = reader.take_batch(true) {
            send(&batches, batch).await?;
        }
        if let Some(table) = table {
            self.check_tree(&self.snapshot.holder, table).await?;
        }
        Ok(ScanStats { records: reader.records(), bytes_read: reader.bytes_read() })
    }

    /// A worker that has the table's lock; none where it cannot be had at once.
    async fn worker(&self, table: Option<&Table>) -> Result<Option<Worker>> {
        let session = self.snapshot.worker().await?;
        let guard = session.cancel_guard();
        if let Some(table) = table
            && !session.answered(self.lock(&session, table)).await??
        {
            guard.disarm();
            return Ok(None);
        }
        Ok(Some(Worker { session, guard }))
    }

    fn display(&self) -> String {
        sql_name(self.namespace, self.name)
    }

    /// The table, or nothing for large objects.
    fn table(&self) -> Result<Option<&Table>> {
        if self.layout.kind == CollectionKind::LargeObjects {
            return Ok(None);
        }
        let missing = |what: String| Error::new(Kind::NotFound, what);
        let table = self.snapshot.find(self.namespace, self.name);
        let table = table.ok_or_else(|| missing(format!("{} is not in this snapshot", self.display())))?;
        for column in &self.layout.columns {
            if !table.columns.iter().any(|live| live.name == column.name) {
                return Err(missing(format!("{} has no column {}", self.display(), column.name)));
            }
        }
        Ok(Some(table))
    }

    /// Waiting here could be for ever: somebody who waits to change the table waits for the holder,
    /// and this worker would wait for them. Returns whether the lock was to be had.
    async fn lock(&self, worker: &Session, table: &Table) -> Result<bool> {
        if let Some(sql) = lock_statement(std::slice::from_ref(&table.relation), "ACCESS SHARE", true) {
            match worker.run(&sql).await {
                Err(error) if fault::is_locked(&error) => return Ok(false),
                locked => {
                    locked.map_err(|error| fault::statement(&format!("locking {}", self.display()), error))?
                }
            }
        }
        let is_locked = if table.is_partitioned() {
            let held = locked(worker).await?;
            table.tree.iter().all(|oid| held.iter().any(|(held, _)| held == oid))
        } else {
            self.still_names(worker, table).await?
        };
        if !is_locked {
            return Err(self.changed());
        }
        self.snapshot.check_holder().await?;
        Ok(true)
    }

    /// Whether a table that was locked by its name is the one that was listed. The list of all locks
    /// would say so too, and is as long as the database has tables.
    async fn still_names(&self, worker: &Session, table: &Table) -> Result<bool> {
        let sql = format!("SELECT to_regclass({})::oid::text", literal(&table.relation.sql()));
        let rows = worker.rows(&sql).await.map_err(|error| fault::statement("checking the lock", error))?;
        Ok(rows.first().is_some_and(|row| row.number::<u32>(0) == table.relation.oid))
    }

    /// Partitions may be attached under the lock, and the server reads the newest set of them.
    async fn check_tree(&self, worker: &Session, table: &Table) -> Result<()> {
        if !table.is_partitioned() {
            return Ok(());
        }
        // A relation without a kind is newer than the snapshot.
        let newer = worker.answered(locked(worker)).await??.iter().any(|(_, kind)| kind.is_empty());
        if newer { Err(self.changed()) } else { Ok(()) }
    }

    fn changed(&self) -> Error {
        Error::new(Kind::SourceChanged, format!("{} or its partitions were changed", self.display()))
            .with_help("Take a new snapshot.")
    }

    async fn copy(
        &self,
        worker: &Session,
        statement: &str,
        reader: &mut RowReader<'_>,
        batches: &mpsc::Sender<RecordBatch>,
    ) -> Result<(), Failure> {
        let sort = if statement.contains(" ORDER BY ") { "off" } else { "on" };
        let set = format!("SET LOCAL enable_sort = {sort}");
        let prepared = worker.answered(worker.run(&set)).await?;
        prepared.map_err(|error| Failure::Reading(fault::statement("preparing to read", error)))?;
        let begun = worker.answered(worker.copy_out(statement)).await?;
        let mut rows = pin!(begun.map_err(Failure::Refused)?);
        // The stream ends after CopyDone only; a connection that is lost ends it with an error.
        loop {
            // Most rows are there already, and need nobody who watches.
            let chunk = match rows.next().now_or_never() {
                Some(chunk) => chunk,
                None => worker.answered(rows.next()).await?,
            };
            let Some(chunk) = chunk else { return Ok(()) };
            match chunk {
                Ok(chunk) => reader.push(&chunk)?,
                Err(error) => return Err(Failure::Reading(self.read_error(error).await)),
            }
            if let Some(batch) = reader.take_batch(false) {
                send(batches, batch).await?;
            }
        }
    }

    /// One reading, or one for each part that can be read.
    fn readings(&self, table: Option<&Table>) -> Vec<Reading> {
        let columns: Vec<_> = self.layout.columns.iter().map(|column| ident(&column.name)).collect();
        let columns = columns.join(", ");
        let Some(table) = table else {
            let query = self.snapshot.large_object_access.select(&columns);
            return vec![Reading { statement: format!("COPY ({query}) TO STDOUT"), plain: None }];
        };
        let list = if columns.is_empty() { String::new() } else { format!(" ({columns})") };
        let plain = |relation: &Relation| format!("COPY {}{list} TO STDOUT", relation.sql());
        let condition = table.relation.condition();
        let reading = |relation: &Relation, order: &str| {
            let (only, from) = (only(relation), relation.sql());
            let leaves = if relation.kind == catalog::Kind::Partitioned {
                table.leaves.as_deref()
            } else {
                Some(std::slice::from_ref(relation))
            };
            Reading {
                statement: format!("COPY (SELECT {columns} FROM {only}{from} {condition}{order}) TO STDOUT"),
                plain: leaves
                    .filter(|_| condition.is_empty())
                    .map(|leaves| leaves.iter().map(plain).collect()),
            }
        };
        let order = self.snapshot.order_of(self.namespace, self.name, self.layout);
        match (&table.parts, order) {
            (Some(parts), _) => parts.iter().map(|part| reading(part, "")).collect(),
            (None, ScanOrder::Any | ScanOrder::Natural) => vec![reading(&table.relation, "")],
            (None, ScanOrder::Key) => {
                let key: Vec<_> = self.key_columns().map(ident).collect();
                vec![reading(&table.relation, &format!(" ORDER BY {}", key.join(", ")))]
            }
        }
    }

    fn key_columns(&self) -> impl Iterator<Item = &str> {
        let parts = self.layout.key.columns.iter();
        parts.filter_map(|part| {
            self.layout.columns.get(part.column as usize).map(|column| column.name.as_str())
        })
    }

    async fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => self.read_error(error).await,
            Failure::Reading(error) => error,
        }
    }

    async fn read_error(&self, error: tokio_postgres::Error) -> Error {
        let table = self.display();
        if !fault::is_oversize(&error) {
            return fault::statement(&format!("reading {table}"), error);
        }
        let row = match self.oversize_keys().await {
            Ok(keys) if !keys.is_empty() => format!("the row with key {}", keys.join(" or ")),
            _ => "a row".to_owned(),
        };
        let reason = format!("{row} is larger than the server can print in one piece");
        let message = format!("{table}: {reason}");
        self.snapshot.note_unprintable(self.namespace, self.name, format!("{reason}. {PRINTED_AT_MOST}"));
        Error::new(Kind::Unsupported, message).with_help(PRINTED_AT_MOST).with_source(error)
    }

    /// Keys of rows that are suspiciously long. The failed worker's transaction is gone, so another
    /// one looks.
    async fn oversize_keys(&self) -> Result<Vec<String>> {
        let (Some(table), false) = (self.table()?, self.layout.key.source == KeySource::Multiset) else {
            return Ok(Vec::new());
        };
        let length = |column: &repo_format::catalog::Column| {
            let name = ident(&column.name);
            match table.columns.iter().find(|live| live.name == column.name).map(|live| live.type_oid) {
                Some(17) => format!("coalesce(octet_length({name}), 0)::bigint * 2"),
                Some(25 | 1042 | 1043) => format!("coalesce(octet_length({name}), 0)::bigint"),
                _ => format!("coalesce(pg_column_size({name}), 0)::bigint"),
            }
        };
        let lengths: Vec<_> = self.layout.columns.iter().map(length).collect();
        let key: Vec<_> = self.key_columns().map(|name| format!("{}::text", ident(name))).collect();
        let sql = format!(
            "SELECT '(' || concat_ws(', ', {}) || ')' FROM {}{} WHERE {} > {OVERSIZE} LIMIT 3",
            key.join(", "),
            only(&table.relation),
            table.relation.sql(),
            lengths.join(" + ")
        );
        let worker = self.snapshot.worker().await?;
        let rows = worker
            .answered(worker.rows(&sql))
            .await?
            .map_err(|error| fault::statement("looking for long rows", error))?;
        Ok(rows.iter().map(|row| row.text(0)).collect())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Reading(error)
    }
}

/// A receiver that went away wants no more. Of long rows, each a batch, only one is on its way: the queue
/// is bounded by batches, not by bytes.
async fn send(batches: &mpsc::Sender<RecordBatch>, batch: RecordBatch) -> Result<()> {
    let gone = |_| Error::cancelled();
    if batch.size_bytes() < LONG_BATCH {
        return batches.send(batch).await.map_err(|_| Error::cancelled());
    }
    let whole_queue = batches.max_capacity();
    if let Some(place) = batches.reserve_many(whole_queue).await.map_err(gone)?.next() {
        place.send(batch);
    }
    batches.reserve_many(whole_queue).await.map(drop).map_err(gone)
}
