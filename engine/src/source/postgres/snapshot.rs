//! A consistent snapshot, and the transaction that holds it.
//!
//! The order of things is the point. `pg_dump` takes its snapshot before its locks: a table that is
//! truncated or rewritten in between reads as empty, without an error. Here the tables are listed
//! in a transaction of their own, then locked, and only then is the snapshot taken. What it shows has
//! to be locked by then, or it is taken anew: what came meanwhile is in the next listing, and what went
//! is not. A table that passes by need not fail that: see [`passing`](super::passing).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use repo_format::catalog::{CollectionKind, Column, Layout};
use repo_format::manifest::{SequenceState, ViewName};
use repo_format::order::KeyEncoding;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::catalog::{self, Inheritance, Kind, Plan, Relation, needs};
use super::columns::{self, choose_key, delivers_order};
use super::connect::Connector;
use super::dependents::{Dependents, dependents};
use super::large_objects;
use super::passing::Passing;
use super::schema::{self, Schemas};
use super::session::Session;
use super::settings::Server;
use super::silence::PATIENCE;
use super::unprintable::Unprintable;
use super::url::PostgresUrl;
use super::{fault, locks, sequences};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::{ArchiveOutcome, Collection, Incomplete, ScanOrder, definition_name};

/// How a snapshot is taken.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections kept for reading between scans.
    pub workers: usize,
    /// How often to start over when the tables change while they are being locked.
    pub max_restarts: u32,
    /// How long to wait for the locks before starting over.
    pub lock_timeout: Duration,
    /// How long the server may say nothing until it is asked whether it is still at work; one that is
    /// not five times in a row is given up.
    pub patience: Duration,
    /// Tables that nobody else may write from before the snapshot to its end, by namespace and name.
    /// With any, the transaction that holds the snapshot may write.
    pub guarded: Vec<(String, String)>,
    /// Whether tables are known to come and go, so that a moment without such is looked for from the
    /// beginning.
    pub is_restless: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            max_restarts: 4,
            lock_timeout: Duration::from_secs(20),
            patience: PATIENCE,
            guarded: Vec::new(),
            is_restless: false,
        }
    }
}

/// What a snapshot rests on whose holder also writes.
const GUARDED: &str =
    "REPEATABLE READ, snapshot taken after SHARE ROW EXCLUSIVE locks on the tables to be written";

/// What shows when and where a snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// As the server names it ("15.18").
    pub server_version: String,
    /// As a number (150018).
    pub server_version_number: u32,
    /// The cluster's own number, where the user may read it.
    pub system_identifier: Option<String>,
    /// The database's name.
    pub database: String,
    /// The database's encoding; text arrives as UTF-8 but for `SQL_ASCII`.
    pub encoding: String,
    /// The database's collation (`LC_COLLATE`).
    pub collation: String,
    /// Installed extensions, (name, version).
    pub extensions: Vec<(String, String)>,
    /// The exported snapshot all workers read.
    pub snapshot_name: String,
    /// The write-ahead log's position just after the snapshot was taken.
    pub lsn: Option<String>,
    /// The server's clock just after the snapshot was taken, ISO 8601 in UTC.
    pub server_time: String,
    /// Whether the server is a standby.
    pub is_standby: bool,
    /// What the snapshot rests on, in words.
    pub isolation: String,
    /// How often it had to start over.
    pub restarts: u32,
}

/// A snapshot that stays readable until it is closed or dropped.
pub struct Snapshot {
    pub(super) connector: Connector,
    pub(super) options: Options,
    pub(super) server: Server,
    /// Holds the locks and the exported snapshot, and reads what nobody else gets a lock of.
    pub(super) holder: Session,
    /// Held while it reads.
    pub(super) holder_reads: tokio::sync::Mutex<()>,
    pub(super) collections: Vec<Collection>,
    pub(super) incomplete: Vec<Incomplete>,
    notes: Vec<String>,
    unfilled_views: Vec<ViewName>,
    evidence: Evidence,
    tables: HashMap<(String, String), Table>,
    /// Found by scans, and not yet told as incomplete.
    pub(super) unprintable: std::sync::Mutex<Vec<Unprintable>>,
    pub(super) sequences: Vec<Relation>,
    pub(super) undumpable: Vec<Relation>,
    pub(super) large_object_access: large_objects::Access,
    pub(super) idle: tokio::sync::Mutex<Vec<Session>>,
    pub(super) archive: tokio::sync::OnceCell<ArchiveOutcome>,
}

/// A table as whoever writes to it needs it.
#[derive(Clone, Copy)]
pub(crate) struct TableFacts<'a> {
    pub(crate) oid: u32,
    /// `ONLY `, except where that would leave out the partitions.
    pub(crate) only: &'static str,
    pub(crate) columns: &'a [columns::Column],
}

/// A table as its scans need it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) relation: Relation,
    pub(super) columns: Vec<columns::Column>,
    indexes: Vec<columns::Index>,
    /// What is read instead of the root when some partitions cannot be.
    pub(super) parts: Option<Vec<Relation>>,
    /// The partitions with rows, where each may be read by itself.
    pub(super) leaves: Option<Vec<Relation>>,
    /// All relations of a partition root's tree.
    pub(super) tree: HashSet<u32>,
}

impl Table {
    /// Whether it has, or may have, partitions of its own.
    pub(super) fn is_partitioned(&self) -> bool {
        self.relation.kind == Kind::Partitioned
    }
}

impl Snapshot {
    /// Locks every readable table, then takes the snapshot. What cannot be read is in
    /// [`incomplete`](Self::incomplete).
    ///
    /// # Errors
    /// [`SourceChanged`](ErrorKind::SourceChanged) when the tables keep changing or stay locked by
    /// somebody else; what [`super::test`] reports when the server cannot be reached.
    pub async fn begin(url: &PostgresUrl, options: &Options, cancel: &CancellationToken) -> Result<Self> {
        tokio::select! {
            () = cancel.cancelled() => Err(Error::cancelled()),
            snapshot = Self::begin_inner(url, options) => snapshot,
        }
    }

    async fn begin_inner(url: &PostgresUrl, options: &Options) -> Result<Self> {
        let connector = Connector::new(url)?.with_patience(options.patience);
        let holder = connector.connect().await?;
        let guard = holder.cancel_guard();
        let (server, found) = holder.answered(hold(&holder, url.user(), options)).await??;
        guard.disarm();
        Ok(Self {
            connector,
            options: options.clone(),
            server,
            holder,
            holder_reads: tokio::sync::Mutex::default(),
            collections: found.collections,
            incomplete: found.incomplete,
            notes: found.notes,
            unfilled_views: found.unfilled_views,
            evidence: found.evidence,
            tables: found.tables,
            unprintable: std::sync::Mutex::default(),
            sequences: found.sequences,
            undumpable: found.undumpable,
            large_object_access: found.large_object_access,
            idle: tokio::sync::Mutex::new(Vec::new()),
            archive: tokio::sync::OnceCell::new(),
        })
    }

    /// The collections that can be read, by namespace and name.
    pub fn collections(&self) -> &[Collection] {
        &self.collections
    }

    /// What cannot be read, and what would allow it.
    pub fn incomplete(&self) -> &[Incomplete] {
        &self.incomplete
    }

    /// What has no rows in this database to read, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Materialized views that hold no data.
    pub fn unfilled_views(&self) -> &[ViewName] {
        &self.unfilled_views
    }

    /// When and where the snapshot was taken.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The order [`scan`](Self::scan) will deliver for the collection's layout, which need not be
    /// the one this snapshot would choose. It is a claim about the server: the reader checks it.
    pub fn order(&self, collection: &Collection) -> ScanOrder {
        self.order_of(&collection.namespace, &collection.name, &collection.layout)
    }

    /// As [`order`](Self::order), for a layout of the caller's.
    pub fn order_of(&self, namespace: &str, name: &str, layout: &Layout) -> ScanOrder {
        let Some(table) = self.find(namespace, name) else { return ScanOrder::Any };
        let key: Option<Vec<_>> = layout
            .key
            .columns
            .iter()
            .map(|part| Some((layout.columns.get(part.column as usize)?.name.as_str(), part.encoding)))
            .collect();
        let text_is_utf8 = matches!(self.server.encoding.as_str(), "UTF8" | "SQL_ASCII");
        match key {
            Some(key)
                if table.parts.is_none()
                    && delivers_order(&table.columns, &table.indexes, &key, text_is_utf8) =>
            {
                ScanOrder::Key
            }
            _ => ScanOrder::Any,
        }
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<&Table> {
        self.tables.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Fails unless the holder still has its transaction. Asked after a worker has taken a lock, a
    /// good answer means that the table was locked without a gap since before the snapshot.
    pub(super) async fn check_holder(&self) -> Result<()> {
        // What it reads fails if its transaction ends.
        let Ok(_idle) = self.holder_reads.try_lock() else { return Ok(()) };
        let answer = self.holder.answered(self.holder.rows("SELECT ''::text")).await?;
        answer.map(drop).map_err(|error| {
            Error::new(
                ErrorKind::SourceChanged,
                "the transaction that holds the snapshot was ended by the server",
            )
            .with_help("Take a new snapshot. A timeout or an administrator may have ended it.")
            .with_source(error)
        })
    }

    /// The states of all readable sequences. Sequences are outside snapshots, so this belongs after
    /// the data: each is then at or past every value that was read.
    pub async fn sequences(&self) -> Result<Vec<SequenceState>> {
        sequences::read(self).await
    }

    /// Ends the workers' transactions: everything else happens in the one that holds the snapshot.
    pub(crate) async fn dismiss_workers(&self) {
        for worker in self.idle.lock().await.drain(..) {
            // A worker that is gone holds nothing any more.
            let _ = worker.answered(worker.run("COMMIT")).await;
        }
    }

    /// The connection that holds the locks and the snapshot.
    pub(crate) fn holder(&self) -> &Session {
        &self.holder
    }

    /// The columns of a table as they are now, and how it is addressed without its descendants.
    pub(crate) fn table(&self, namespace: &str, name: &str) -> Option<TableFacts<'_>> {
        let table = self.find(namespace, name)?;
        Some(TableFacts {
            oid: table.relation.oid,
            only: catalog::only(&table.relation),
            columns: &table.columns,
        })
    }

    /// Ends the transactions on the server and waits for it, so that its locks are gone.
    pub async fn close(self) -> Result<()> {
        for worker in self.idle.into_inner() {
            // A worker that is gone holds nothing any more.
            let _ = worker.answered(worker.run("COMMIT")).await;
        }
        let ended = self.holder.answered(self.holder.run("COMMIT")).await?;
        ended.map_err(|error| fault::statement("ending the snapshot", error))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("url", self.connector.url())
            .field("evidence", &self.evidence)
            .finish_non_exhaustive()
    }
}

/// What one successful attempt found.
struct Found {
    collections: Vec<Collection>,
    incomplete: Vec<Incomplete>,
    notes: Vec<String>,
    unfilled_views: Vec<ViewName>,
    evidence: Evidence,
    tables: HashMap<(String, String), Table>,
    sequences: Vec<Relation>,
    undumpable: Vec<Relation>,
    large_object_access: large_objects::Access,
}

/// Why an attempt came to nothing.
enum Setback {
    /// Tables came or went meanwhile.
    Passing(Error),
    /// Anything else. A [`ErrorKind::SourceChanged`] means that another attempt may succeed.
    Failed(Error),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Setback {
    fn passing() -> Self {
        let message = "tables were created, changed or dropped while they were locked";
        Self::Passing(Error::new(ErrorKind::SourceChanged, message))
    }
}

/// As many attempts as it takes.
async fn hold(holder: &Session, user: &str, options: &Options) -> Result<(Server, Found)> {
    let server = Server::read(holder).await?;
    let mut restarts = 0;
    let mut passing = Passing::new(options.is_restless);
    loop {
        let (error, is_passing) = match take(holder, &server, user, options, &mut passing).await {
            Ok(mut found) => {
                found.evidence.restarts = restarts + passing.moments();
                return Ok((server, found));
            }
            Err(Setback::Passing(error)) => (error, true),
            Err(Setback::Failed(error)) => (error, false),
        };
        let lacks_locks = error.message().contains(locks::NO_ROOM);
        if (error.kind() != ErrorKind::SourceChanged && !lacks_locks) || holder.is_closed() {
            return Err(error);
        }
        holder.run("ROLLBACK").await.map_err(|error| fault::statement("starting over", error))?;
        if lacks_locks {
            return Err(error.with_help(locks::advice(holder).await?));
        }
        if is_passing && passing.look_again() {
            tokio::time::sleep(passing.pause()).await;
            continue;
        }
        if restarts == options.max_restarts || is_passing {
            return Err(gave_up(holder, &error, restarts + passing.moments()).await);
        }
        restarts += 1;
        tokio::time::sleep(Duration::from_millis(100) * restarts).await;
    }
}

/// One attempt.
async fn take(
    holder: &Session,
    server: &Server,
    user: &str,
    options: &Options,
    passing: &mut Passing,
) -> Result<Found, Setback> {
    let pins = server.pins(options.lock_timeout);
    let beginning = |error| fault::statement("beginning the snapshot's transaction", error);
    let begin = async |access: &str| {
        let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ {access}; {pins}");
        holder.run(&sql).await.map_err(beginning)
    };
    begin("READ ONLY").await?;
    holder.note_backend().await.map_err(beginning)?;
    let (listed, below) = (catalog::relations(holder, server).await?, Inheritance::read(holder).await?);
    holder.run("COMMIT").await.map_err(beginning)?;
    let settled = passing.settled(&listed);
    if passing.is_too_early() {
        return Err(Setback::passing());
    }

    let access = if options.guarded.is_empty() { "READ ONLY" } else { "READ WRITE" };
    begin(access).await?;
    let to_lock = catalog::plan(&settled, &below, server, user).tables;
    let is_guarded =
        |table: &&Relation| options.guarded.contains(&(table.namespace.clone(), table.name.clone()));
    let guarded: Vec<Relation> = to_lock.iter().filter(is_guarded).cloned().collect();
    let locks = [
        catalog::lock_statement(&guarded, "SHARE ROW EXCLUSIVE", false),
        catalog::lock_statement(&to_lock, "ACCESS SHARE", false),
    ];
    for sql in locks.into_iter().flatten() {
        holder.run(&sql).await.map_err(lock_error)?;
    }
    let mut evidence = export(holder, server).await?;
    holder.note_backend().await.map_err(beginning)?;
    if !guarded.is_empty() {
        evidence.isolation = GUARDED.to_owned();
    }

    let (mut shown, inheritance) =
        (catalog::relations(holder, server).await?, Inheritance::read(holder).await?);
    if !passing.mark(&mut shown) {
        return Err(Setback::passing());
    }
    let plan = catalog::plan(&shown, &inheritance, server, user);
    let locked: HashSet<u32> = catalog::locked(holder).await?.into_iter().map(|(oid, _)| oid).collect();
    let mut wanted = plan.tables.iter().map(|table| table.oid).chain(plan.trees.values().flatten().copied());
    if !wanted.all(|oid| locked.contains(&oid)) {
        return Err(Setback::passing());
    }
    evidence.extensions = extensions(holder).await?;
    evidence.system_identifier = system_identifier(holder).await?;
    Ok(describe(holder, server, plan, &inheritance, evidence).await?)
}

fn lock_error(error: tokio_postgres::Error) -> Setback {
    let (restartable, is_gone) = (fault::is_restartable(&error), fault::is_gone(&error));
    let mut mapped = fault::statement("locking the tables against changes", error);
    if restartable && mapped.kind() != ErrorKind::SourceChanged {
        mapped = Error::new(ErrorKind::SourceChanged, mapped.message().to_owned()).with_source(mapped);
    }
    if is_gone { Setback::Passing(mapped) } else { Setback::Failed(mapped) }
}

/// Names what is in the way, when it is a lock.
async fn gave_up(holder: &Session, error: &Error, restarts: u32) -> Error {
    let sql = "SELECT DISTINCT relation::regclass::text FROM pg_locks WHERE locktype = 'relation' \
               AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid() \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1 LIMIT 5";
    let tables: Vec<_> = match holder.rows(sql).await {
        Ok(rows) => rows.iter().map(|row| row.text(0)).collect(),
        Err(_) => Vec::new(),
    };
    let place =
        if tables.is_empty() { String::new() } else { format!(" (locked now: {})", tables.join(", ")) };
    let message = format!("no snapshot after {} attempts: {}{place}", restarts + 1, error.message());
    Error::new(ErrorKind::SourceChanged, message)
        .with_help("Try again when no migration or other change of the tables is running.")
}

/// Takes the snapshot: the first statement of its transaction that needs one.
async fn export(holder: &Session, server: &Server) -> Result<Evidence> {
    let sql = "SELECT pg_export_snapshot(), \
        (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text, \
        to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), current_database()::text, \
        (SELECT datcollate::text FROM pg_database WHERE datname = current_database())";
    let rows = holder.rows(sql).await.map_err(|error| fault::statement("taking the snapshot", error))?;
    let row =
        rows.first().ok_or_else(|| Error::new(ErrorKind::Internal, "the server exported no snapshot"))?;
    Ok(Evidence {
        server_version: server.version.clone(),
        server_version_number: server.version_number,
        system_identifier: None,
        database: row.text(3),
        encoding: server.encoding.clone(),
        collation: row.text(4),
        extensions: Vec::new(),
        snapshot_name: row.text(0),
        lsn: row.optional(1),
        server_time: row.text(2),
        is_standby: server.is_standby,
        isolation: "REPEATABLE READ READ ONLY, snapshot taken after ACCESS SHARE locks on all tables"
            .to_owned(),
        restarts: 0,
    })
}

async fn extensions(holder: &Session) -> Result<Vec<(String, String)>> {
    let sql = "SELECT extname::text, extversion FROM pg_extension ORDER BY extname COLLATE \"C\"";
    let rows = holder.rows(sql).await.map_err(|error| fault::statement("listing extensions", error))?;
    Ok(rows.iter().map(|row| (row.text(0), row.text(1))).collect())
}

async fn unfilled_views(holder: &Session) -> Result<Vec<ViewName>> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"";
    let rows = holder.rows(sql).await.map_err(|error| fault::statement("listing views", error))?;
    Ok(rows.iter().map(|row| ViewName { namespace: row.text(0), name: row.text(1) }).collect())
}

/// The cluster's own number, where the user may read it.
pub(super) async fn system_identifier(holder: &Session) -> Result<Option<String>> {
    let asking = |error| fault::statement("asking for the system identifier", error);
    let sql = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')::text";
    if !holder.rows(sql).await.map_err(asking)?.first().is_some_and(|row| row.flag(0)) {
        return Ok(None);
    }
    let rows =
        holder.rows("SELECT system_identifier::text FROM pg_control_system()").await.map_err(asking)?;
    Ok(rows.first().and_then(|row| row.optional(0)))
}

/// Reads the definitions of the locked tables.
async fn describe(
    holder: &Session,
    server: &Server,
    plan: Plan,
    inheritance: &Inheritance,
    evidence: Evidence,
) -> Result<Found> {
    let Plan { tables, mut sequences, mut incomplete, notes, undumpable, mut readable_parts, .. } = plan;
    let (mut leaves, mut trees) = (plan.leaves, plan.trees);
    let Dependents { relations: orphans, others } = dependents(holder, &undumpable).await?;
    sequences.retain(|sequence| !orphans.contains_key(&sequence.oid));
    incomplete.extend(tables.iter().filter_map(|table| {
        let lacks = orphans.get(&table.oid)?;
        Some(Incomplete { name: definition_name(&table.display()), reason: needs(lacks) })
    }));
    incomplete.extend(others);
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let mut columns = columns::columns(holder, &oids).await?;
    let mut indexes = columns::indexes(holder, &oids).await?;
    let schemas = Schemas::read(holder, &oids, inheritance).await?;
    let sizes =
        sizes(holder, tables.iter().map(|table| table.oid).chain(trees.values().flatten().copied())).await?;

    let mut collections = Vec::with_capacity(tables.len());
    let mut found = HashMap::with_capacity(tables.len());
    for relation in tables {
        let columns = columns.remove(&relation.oid).unwrap_or_default();
        let indexes = indexes.remove(&relation.oid).unwrap_or_default();
        let tree = trees.remove(&relation.oid).unwrap_or_else(|| [relation.oid].into());
        let in_tree = || tree.iter().filter_map(|oid| sizes.get(oid));
        collections.push(Collection {
            namespace: relation.namespace.clone(),
            name: relation.name.clone(),
            layout: layout(&relation, &columns, &indexes),
            schema: schemas.text(&relation, &columns, &indexes, inheritance)?,
            schema_version: schema::VERSION,
            // A root's own estimate is the sum of its partitions', or nothing.
            estimated_rows: in_tree().filter(|size| !size.is_root).map(|size| size.rows).sum(),
            estimated_bytes: in_tree().map(|size| size.bytes).sum(),
        });
        let (parts, leaves) = (readable_parts.remove(&relation.oid), leaves.remove(&relation.oid));
        found.insert(
            (relation.namespace.clone(), relation.name.clone()),
            Table { relation, columns, indexes, parts, leaves, tree },
        );
    }
    let mut large_object_access = large_objects::Access::Table;
    match large_objects::find(holder, server).await? {
        large_objects::Finding::None => {}
        large_objects::Finding::Readable(collection, how) => {
            collections.push(collection);
            large_object_access = how;
        }
        large_objects::Finding::Unreadable(reason) => incomplete.push(reason),
    }
    collections.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(Found {
        collections,
        incomplete,
        notes,
        unfilled_views: unfilled_views(holder).await?,
        evidence,
        tables: found,
        sequences,
        undumpable,
        large_object_access,
    })
}

fn layout(relation: &Relation, columns: &[columns::Column], indexes: &[columns::Index]) -> Layout {
    let stored = columns.iter().filter(|column| column.is_stored());
    Layout {
        kind: match relation.kind {
            Kind::Partitioned => CollectionKind::PartitionedTable,
            Kind::Table | Kind::Foreign | Kind::Sequence => CollectionKind::Table,
        },
        columns: stored
            .map(|column| Column { name: column.name.clone(), type_name: column.type_name.clone() })
            .collect(),
        key: choose_key(columns, indexes),
    }
}

struct Size {
    rows: u64,
    bytes: u64,
    is_root: bool,
}

async fn sizes(holder: &Session, tables: impl Iterator<Item = u32>) -> Result<HashMap<u32, Size>> {
    // Foreign tables have no size here, and asking for one is an error on some versions.
    let sql = format!(
        "SELECT oid::text, greatest(reltuples, 0)::bigint::text, (relkind = 'p')::text, \
           (CASE WHEN relkind = 'r' THEN pg_table_size(oid) ELSE 0 END)::text FROM pg_class WHERE oid = ANY ({})",
        catalog::oid_array(tables)
    );
    let rows = holder.rows(&sql).await.map_err(|error| fault::statement("reading table sizes", error))?;
    let size = |row: &super::session::TextRow| Size {
        rows: row.number(1),
        bytes: row.number(3),
        is_root: row.flag(2),
    };
    Ok(rows.iter().map(|row| (row.number(0), size(row))).collect())
}

/// The encodings of a key over the columns with these encodings, for layouts made by hand.
pub(super) fn key_columns(encodings: &[KeyEncoding]) -> Vec<repo_format::catalog::KeyColumn> {
    let part = |(column, &encoding)| repo_format::catalog::KeyColumn { column, encoding };
    (0..).zip(encodings).map(part).collect()
}
