//! A consistent view of a deployment's databases.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use repo_format::catalog::{CollectionKind, Column, Key, KeyColumn, KeySource, Layout};
use repo_format::keys::RowKey;
use repo_format::manifest::{self, Grade};
use repo_format::order::KeyEncoding;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::catalog::{self, Kind, Listed, Listing};
use super::catch_up::{CatchUp, Current, PATIENCE, Turn, ids_at_a_time};
use super::connect::{Deployment, Topology};
use super::moment::{self, Probe};
use super::read::{self, Order, ReadAt, batch_size};
use super::repeat::Repeat;
use super::reread::Reread;
use super::scan::{Digest, Failure, Scan, send};
use super::sessions::Sessions;
use super::stream::Follower;
use super::wire::ClusterTime;
use super::{MongoUrl, schema};
use crate::context::Context;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::{
    ArchiveOutcome, Collection, Consistency, Identity, Incomplete, RecordBatch, ScanOrder, ScanStats,
    SchemaArchive,
};

/// How often collections may change while a snapshot is begun.
const RESTARTS: u32 = 5;
/// How a snapshot is taken.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether records may be of different moments where the server offers no better.
    pub consistency: Consistency,
    /// Whether to catch up by a change stream even where the server honours a snapshot time: its
    /// history was too short for an attempt before this one.
    pub catch_up: bool,
    /// How long a change stream may take to tell of what is known to have happened.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { consistency: Consistency::PointInTime, catch_up: false, patience: PATIENCE }
    }
}

/// Records of one key after a change: all that the collection holds under it now, none when it is
/// gone. More than one only where a sharded collection has the `_id` on several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRecord {
    /// The tree key, as a scan makes it.
    pub key: Vec<u8>,
    /// Record bytes as a scan makes them, sorted.
    pub records: Vec<Vec<u8>>,
}

/// One round of reading again what changed.
#[derive(Debug)]
pub struct Round {
    /// What to read, in this order; collections without changes are not named.
    pub parts: Vec<RoundPart>,
}

/// One collection in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundPart {
    /// Its database.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether all of it is read again, because its changes cannot be told record by record.
    pub whole: bool,
}

/// A deployment that stays readable until it is closed or dropped.
pub struct Snapshot {
    pub(super) reading: Reading,
    pub(super) collections: Vec<Collection>,
    pub(super) mode: Mode,
    /// How often the collections were listed anew.
    pub(super) renewals: u32,
    /// Names of search indexes, by the position of their collection.
    pub(super) search_indexes: BTreeMap<usize, Vec<String>>,
    url_database: Option<String>,
    /// How it was begun.
    options: Options,
    /// The server does not read at the snapshot's time, or not any more.
    history_lost: AtomicBool,
}

/// What every way of reading needs.
pub(super) struct Reading {
    pub deployment: Deployment,
    pub sessions: Sessions,
    pub listing: Listing,
    /// The only database in scope.
    pub only: Option<String>,
    pub consistency: Consistency,
    pub ctx: Context,
    /// Records and bytes expected in each collection.
    pub sizes: Vec<(u64, u64)>,
    of_other_moments: Mutex<Vec<String>>,
    /// Another snapshot, begun anew, may succeed where this one failed.
    pub may_begin_again: AtomicBool,
}

impl Reading {
    /// Fails if a collection, its options or its indexes are not what they were.
    pub async fn check_definitions(&self) -> Result<()> {
        let now = catalog::list(&self.deployment, self.only.as_deref()).await?;
        self.listing.difference(&now).map_or(Ok(()), |difference| Err(self.begin_again(&difference)))
    }

    /// The failure for what changed, which another reading may not meet.
    pub fn begin_again(&self, what: &str) -> Error {
        self.may_begin_again.store(true, Ordering::Relaxed);
        catalog::changed(what)
    }

    pub fn set_of_other_moments(&self, names: Vec<String>) {
        *self.of_other_moments.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    pub fn of_other_moments(&self) -> Vec<String> {
        self.of_other_moments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn size(&self, position: usize) -> (u64, u64) {
        self.sizes.get(position).copied().unwrap_or_default()
    }
}

/// How all records come to be of one moment.
pub(super) enum Mode {
    /// Every read is at this time.
    AtTime(ClusterTime),
    /// Changes are followed and read again.
    CatchUp(Box<CatchUp>),
    /// They do not: collections are read until two readings agree.
    Repeat(Repeat),
}

impl Snapshot {
    /// Connects, chooses how to be consistent, and lists what there is.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for servers without replication unless the options
    /// allow records of different moments, [`SourceChanged`](ErrorKind::SourceChanged) when
    /// collections keep changing meanwhile; what [`super::test()`] reports when the server cannot be
    /// reached.
    pub async fn begin(url: &MongoUrl, options: &Options, ctx: &Context) -> Result<Self> {
        tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => Err(Error::cancelled()),
            begun = Self::begin_inner(url, options, ctx) => begun,
        }
    }

    async fn begin_inner(url: &MongoUrl, options: &Options, ctx: &Context) -> Result<Self> {
        let deployment = Deployment::connect(url).await?;
        deployment.check_release()?;
        if deployment.topology == Topology::Standalone && options.consistency == Consistency::PointInTime {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the server is standalone: it has no history to read at one moment",
            )
            .with_help(super::STANDALONE_HELP));
        }
        let sessions = Sessions::new(&deployment.client);
        let mut restarts = 0;
        let (listing, mode) = loop {
            let listing = catalog::list(&deployment, url.database()).await?;
            let mode = choose(&deployment, &sessions, &listing, url.database(), options, ctx).await?;
            let Mode::AtTime(_) = mode else { break (listing, mode) };
            // Definitions are in no snapshot. If they are the same on both sides of the time, they
            // are what they were at it.
            let again = catalog::list(&deployment, url.database()).await?;
            let Some(difference) = listing.difference(&again) else { break (listing, mode) };
            restarts += 1;
            if restarts > RESTARTS {
                return Err(catalog::changed(&difference));
            }
            tokio::time::sleep(Duration::from_millis(100) * restarts).await;
        };
        let sizes = catalog::sizes(&deployment, &listing.collections).await;
        let collections = describe_all(&listing, &sizes)?;
        let search_indexes = catalog::search_indexes(&deployment, &listing.collections).await;
        let reading = Reading {
            deployment,
            sessions,
            listing,
            only: url.database().map(str::to_owned),
            consistency: options.consistency,
            ctx: ctx.clone(),
            sizes,
            of_other_moments: Mutex::default(),
            may_begin_again: AtomicBool::new(false),
        };
        Ok(Self {
            reading,
            collections,
            mode,
            renewals: 0,
            search_indexes,
            url_database: url.database().map(str::to_owned),
            options: options.clone(),
            history_lost: AtomicBool::new(false),
        })
    }

    /// The collections that can be read, views included, by namespace and name.
    pub fn collections(&self) -> &[Collection] {
        &self.collections
    }

    /// What cannot be read, and what would allow it. Final once everything was read.
    pub fn incomplete(&self) -> Vec<Incomplete> {
        self.reading.listing.incomplete.clone()
    }

    /// Which of these databases, of an earlier snapshot, may be there and not be shown to the user.
    pub(crate) async fn hidden(&self, databases: Vec<String>) -> Vec<String> {
        match &self.reading.listing.shown {
            Some(shown) => shown.hidden(&self.reading.deployment, databases).await,
            None => Vec::new(),
        }
    }

    /// Whether the server may list less than there is.
    pub(crate) fn may_hide(&self) -> bool {
        self.reading.listing.shown.is_some()
    }

    /// Whether changes are followed, until all records are of one moment.
    pub(crate) fn follows_changes(&self) -> bool {
        matches!(self.mode, Mode::CatchUp(_))
    }

    /// The order a scan with this layout claims to deliver. Where several documents may have one
    /// `_id` (a collection sharded by another key) the claim is that none do: the reader checks.
    pub fn order_of(&self, namespace: &str, name: &str, layout: &Layout) -> ScanOrder {
        let Some(listed) = self.find(namespace, name).map(|(_, listed)| listed) else {
            return ScanOrder::Any;
        };
        let by_id = matches!(Order::of(listed), Ok(Order::ById));
        match listed.kind {
            Kind::Capped => ScanOrder::Natural,
            Kind::Plain
                if by_id
                    && layout.key.source != KeySource::Multiset
                    && !listed.has_collation().unwrap_or(true) =>
            {
                ScanOrder::Key
            }
            _ => ScanOrder::Any,
        }
    }

    fn find(&self, namespace: &str, name: &str) -> Option<(usize, &Listed)> {
        let position = self.reading.position(namespace, name)?;
        Some((position, self.reading.listing.collections.get(position)?))
    }

    fn found(&self, namespace: &str, name: &str) -> Result<(usize, &Listed)> {
        self.find(namespace, name).ok_or_else(|| {
            let shown = crate::source::dotted_name(namespace, name);
            Error::new(ErrorKind::NotFound, format!("{shown} is not in this snapshot"))
        })
    }

    /// Reads a collection and sends its records in batches: in key order where
    /// [`order_of`](Self::order_of) says so, a capped one in its natural order. A view has none.
    /// Ends early when `cancel` fires, the receiver is dropped, or this future is.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for a collection that was not listed,
    /// [`SourceChanged`](ErrorKind::SourceChanged) when the snapshot is lost: see
    /// [`another_way`](Self::another_way).
    pub async fn scan(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        row_key: &RowKey,
        batches: mpsc::Sender<RecordBatch>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        let (position, listed) = self.found(namespace, name)?;
        if listed.kind == Kind::View {
            return Ok(ScanStats::default());
        }
        let at = match &self.mode {
            Mode::AtTime(time) => ReadAt::Time(*time),
            Mode::CatchUp(catch_up) => catch_up.begin_scan(position),
            Mode::Repeat(_) => ReadAt::Latest,
        };
        let scan = self.scan_of(position, listed, layout, row_key, at);
        let reading = async {
            let mut held = self.reading.sessions.open().await?;
            match &self.mode {
                Mode::Repeat(repeat) => digested(&scan, &mut held.session, &batches, repeat, position).await,
                _ => scan.run(&mut held.session, &batches).await,
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            stats = reading => stats.map_err(|failure| self.settle(failure)),
        }
    }

    fn scan_of<'a>(
        &'a self,
        position: usize,
        listed: &'a Listed,
        layout: &'a Layout,
        row_key: &'a RowKey,
        at: ReadAt,
    ) -> Scan<'a> {
        let batch = batch_size(self.reading.size(position));
        Scan { deployment: &self.reading.deployment, listed, layout, row_key, at, batch }
    }

    /// Notes what a failure means to the snapshot.
    fn settle(&self, failure: Failure) -> Error {
        match failure {
            Failure::HistoryLost(error) => {
                self.history_lost.store(true, Ordering::Relaxed);
                error
            }
            Failure::BeginAgain(error) => {
                self.reading.may_begin_again.store(true, Ordering::Relaxed);
                error
            }
            Failure::Plain(error) | Failure::TransactionLost(error) => error,
        }
    }

    /// What has to be read again, after every scan has ended and after each round. `None` when all
    /// records are of one moment, or may be of different ones.
    ///
    /// # Errors
    /// [`SourceChanged`](ErrorKind::SourceChanged) when a collection, its options or its indexes
    /// changed, when the server's history is too short, or when there are too many writes to catch
    /// up with.
    pub async fn next_round(&self, cancel: &CancellationToken) -> Result<Option<Round>> {
        let turns = match &self.mode {
            Mode::AtTime(_) => return Ok(None),
            Mode::Repeat(repeat) => {
                let again = repeat.disagreeing().into_iter();
                let turns: Vec<Turn> = again.map(|collection| Turn { collection, whole: true }).collect();
                if turns.is_empty() {
                    self.reading.check_definitions().await?;
                }
                (!turns.is_empty()).then_some(turns)
            }
            Mode::CatchUp(catch_up) => tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                turns = catch_up.next_round(&self.reading) => turns?,
            },
        };
        Ok(turns.map(|turns| Round { parts: turns.into_iter().filter_map(|turn| self.part(turn)).collect() }))
    }

    fn part(&self, turn: Turn) -> Option<RoundPart> {
        let listed = self.reading.listing.collections.get(turn.collection)?;
        let (namespace, name) = (listed.database.clone(), listed.name.clone());
        Some(RoundPart { namespace, name, whole: turn.whole })
    }

    /// Reads the changed records of a part that is not whole, in key order. Parts are to be read in
    /// the order the round names them; leaving some out is allowed.
    pub async fn reread(
        &self,
        part: &RoundPart,
        layout: &Layout,
        row_key: &RowKey,
        changes: mpsc::Sender<Vec<ChangedRecord>>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        let (position, listed) = self.found(&part.namespace, &part.name)?;
        let Mode::CatchUp(catch_up) = &self.mode else { return Err(no_round()) };
        let mut state = catch_up.state.lock().await;
        let current = state.current.as_mut().ok_or_else(no_round)?;
        let size = self.reading.size(position);
        let reread = Reread {
            deployment: &self.reading.deployment,
            listed,
            layout,
            row_key,
            at: current.at,
            batch: batch_size(size),
        };
        let reading = reread_all(&self.reading, &reread, current, position, ids_at_a_time(size), &changes);
        let read = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::cancelled()),
            read = reading => read,
        };
        read.map_err(|failure| self.note_loss(failure, current))
    }

    fn note_loss(&self, failure: Failure, current: &mut Current) -> Error {
        current.lost |= matches!(failure, Failure::HistoryLost(_) | Failure::TransactionLost(_));
        match failure {
            Failure::HistoryLost(error) => error,
            other => self.settle(other),
        }
    }

    /// Reads a whole collection again, as [`scan`](Self::scan) does, within the round.
    pub async fn rescan(
        &self,
        part: &RoundPart,
        layout: &Layout,
        row_key: &RowKey,
        batches: mpsc::Sender<RecordBatch>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        let Mode::CatchUp(catch_up) = &self.mode else {
            return self.scan(layout, &part.namespace, &part.name, row_key, batches, cancel).await;
        };
        let (position, listed) = self.found(&part.namespace, &part.name)?;
        let mut state = catch_up.state.lock().await;
        let current = state.current.as_mut().ok_or_else(no_round)?;
        let scan = self.scan_of(position, listed, layout, row_key, current.at);
        let reading = async {
            match &mut current.session {
                Some(held) => scan.run(&mut held.session, &batches).await,
                None => scan.run(&mut self.reading.sessions.open().await?.session, &batches).await,
            }
        };
        let read = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::cancelled()),
            read = reading => read,
        };
        read.map_err(|failure| self.note_loss(failure, current))
    }

    /// After a round: `failure` is what its reading ended with, if it failed. Says whether the next
    /// round may make up for it, by failing with what is to be told when not.
    pub async fn end_round(&self, round: Round, failure: Option<Error>) -> Result<()> {
        tracing::debug!(
            parts = round.parts.len(),
            failed = failure.is_some(),
            "a round of catching up ended"
        );
        match &self.mode {
            Mode::CatchUp(catch_up) => catch_up.end_round(&self.reading, failure).await,
            _ => failure.map_or(Ok(()), Err),
        }
    }

    /// How to begin again after reading failed because the server's history is too short for it,
    /// a definition changed, or a scan ended that cannot be gone on with; `None` when beginning
    /// again would not help.
    pub fn another_way(&self, failure: &Error) -> Option<Options> {
        let lost = self.history_lost.load(Ordering::Relaxed) && matches!(self.mode, Mode::AtTime(_));
        let again = self.reading.may_begin_again.load(Ordering::Relaxed);
        tracing::info!(lost, again, error = %failure, "a snapshot cannot be read on");
        // A scan of another collection may have been cancelled for it.
        ((lost || again) && !self.reading.ctx.cancel.is_cancelled())
            .then(|| Options { catch_up: self.options.catch_up || lost, ..self.options.clone() })
    }

    /// Options and indexes of every collection, as the server gave them: one BSON document per
    /// collection, `{db, name, type, options, indexes: [..]}`, by database and name.
    pub async fn schema_archive(&self) -> Result<ArchiveOutcome> {
        let bytes = schema::archive(&self.reading.listing.collections, &self.search_indexes);
        Ok(ArchiveOutcome::Written(SchemaArchive {
            normalised: bytes.clone(),
            bytes,
            tool: "dbsnap bson 1".to_owned(),
            excluded: Vec::new(),
            notes: Vec::new(),
        }))
    }

    /// Which deployment it is.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            version: self.reading.deployment.version.clone(),
            database: self.url_database.clone().unwrap_or_default(),
            encoding: String::new(),
            collation: String::new(),
            extensions: Vec::new(),
            system_identifier: self.reading.deployment.replica_set.clone(),
        }
    }

    /// How it is known that all records are of one moment. Final once everything was read.
    pub fn evidence(&self) -> manifest::Evidence {
        let deployment = &self.reading.deployment;
        let (method, time, log_position, grade) = match &self.mode {
            Mode::AtTime(time) => (
                "every collection read with read concern snapshot at one cluster time".to_owned(),
                time.to_string(),
                Some(*time),
                Grade::PointInTime,
            ),
            Mode::CatchUp(catch_up) => self.catch_up_evidence(catch_up),
            Mode::Repeat(repeat) => (repeat.in_words(), String::new(), None, Grade::NotPointInTime),
        };
        manifest::Evidence {
            method: format!("{method}{}", deployment.read_from()),
            snapshot: time,
            log_position: log_position.map(|time| format!("{}:{}", time.seconds(), time.increment())),
            server_time: log_position.map(ClusterTime::iso).unwrap_or_default(),
            standby: deployment.reads_secondaries(),
            grade,
        }
    }

    fn catch_up_evidence(&self, catch_up: &CatchUp) -> (String, String, Option<ClusterTime>, Grade) {
        let done = catch_up.state.try_lock().ok().and_then(|state| state.done.clone());
        let Some(done) = done else {
            return ("not read to the end".to_owned(), String::new(), None, Grade::NotPointInTime);
        };
        let last = if catch_up.final_at_time { "at one cluster time" } else { "in one transaction" };
        let method = format!(
            "majority reads; what changed meanwhile, as the change stream told, was read again in {} {}, the last of \
             them {last}",
            done.rounds,
            if done.rounds == 1 { "round" } else { "rounds" }
        );
        let grade = if done.of_other_moments.is_empty() { Grade::PointInTime } else { Grade::NotPointInTime };
        (method, done.time.to_string(), Some(done.time), grade)
    }

    /// What is known to be left out although nothing failed, and what the user should know.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec!["users and roles are not part of snapshots".to_owned()];
        notes.extend(self.reading.listing.note_on_shown());
        notes.extend(self.reading.listing.notes.iter().cloned());
        let all = &self.reading.listing.collections;
        if let (Some(database), []) = (&self.url_database, all.as_slice()) {
            notes.push(format!("nothing is in the database {database}: it is empty, or not there any more"));
        }
        let named = |(&at, names): (&usize, &Vec<String>)| {
            names.iter().map(|name| format!("{name} of {}", all[at].display())).collect::<Vec<_>>()
        };
        let search_indexes: Vec<String> = self.search_indexes.iter().flat_map(named).collect();
        if !search_indexes.is_empty() {
            let names = search_indexes.join(", ");
            notes.push(format!("search indexes are listed here and not restored: {names}"));
        }
        for listed in self.reading.listing.collections.iter().filter(|listed| !listed.building.is_empty()) {
            let names = listed.building.join(", ");
            notes.push(format!("indexes of {} that were still being built: {names}", listed.display()));
        }
        let mut moments = self.reading.of_other_moments();
        if let Mode::Repeat(repeat) = &self.mode {
            moments
                .extend(repeat.never_agreed().into_iter().filter_map(|it| all.get(it)).map(Listed::display));
        }
        if !moments.is_empty() {
            notes.push(format!("records may be of different moments: {}", moments.join(", ")));
        }
        notes
    }

    /// Lets go of cursors, sessions and the change stream.
    pub async fn close(self) -> Result<()> {
        let client = self.reading.deployment.client.clone();
        drop(self);
        // Waits for cursors to be ended on the server, which happens in the background.
        client.shutdown().await;
        Ok(())
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let collections = self.collections.len();
        f.debug_struct("Snapshot").field("collections", &collections).finish_non_exhaustive()
    }
}

/// Chooses how to be consistent, and begins it.
async fn choose(
    deployment: &Deployment,
    sessions: &Sessions,
    listing: &Listing,
    only: Option<&str>,
    options: &Options,
    ctx: &Context,
) -> Result<Mode> {
    if deployment.topology == Topology::Standalone {
        return Ok(Mode::Repeat(Repeat::default()));
    }
    let Some(subject) = moment::subject(listing) else {
        return Ok(Mode::AtTime(read::now(deployment).await?));
    };
    let probe = moment::probe(deployment, subject, sessions).await?;
    match moment::time_for_all(&probe, deployment, listing) {
        Ok(time) if !options.catch_up => return Ok(Mode::AtTime(time)),
        Ok(_) => {}
        Err(why) => tracing::info!(why, "catching up by change stream"),
    }
    let follower = Follower::open(deployment, only, &listing.collections, ctx).await?;
    let final_at_time = matches!(probe, Probe::Honoured(_));
    let catch_up = CatchUp::new(follower, listing.collections.len(), final_at_time, options.patience);
    Ok(Mode::CatchUp(Box::new(catch_up)))
}

/// The collections of a listing as they are told to readers.
pub(super) fn describe_all(listing: &Listing, sizes: &[(u64, u64)]) -> Result<Vec<Collection>> {
    listing.collections.iter().zip(sizes).map(|(listed, &size)| describe(listed, size)).collect()
}

fn describe(listed: &Listed, (records, bytes): (u64, u64)) -> Result<Collection> {
    Ok(Collection {
        namespace: listed.database.clone(),
        name: listed.name.clone(),
        layout: layout(listed)?,
        schema: schema::text(listed)?,
        schema_version: schema::VERSION,
        estimated_rows: records,
        estimated_bytes: bytes,
    })
}

fn layout(listed: &Listed) -> Result<Layout> {
    let has_ids = match listed.kind {
        Kind::View | Kind::TimeSeries => false,
        Kind::Plain | Kind::Capped => listed.has_id_index()? || listed.is_clustered()?,
    };
    let key = if has_ids {
        let columns = vec![KeyColumn { column: 0, encoding: KeyEncoding::Bson }];
        Key { source: KeySource::Primary, name: Some("_id_".to_owned()), columns }
    } else {
        Key { source: KeySource::Multiset, name: None, columns: Vec::new() }
    };
    Ok(Layout {
        kind: match listed.kind {
            Kind::Plain => CollectionKind::Collection,
            Kind::Capped => CollectionKind::CappedCollection,
            Kind::TimeSeries => CollectionKind::TimeSeries,
            Kind::View => CollectionKind::View,
        },
        columns: vec![Column { name: "document".to_owned(), type_name: "bson".to_owned() }],
        key,
    })
}

/// Reads a collection and notes what it came to.
async fn digested(
    scan: &Scan<'_>,
    session: &mut mongodb::ClientSession,
    batches: &mpsc::Sender<RecordBatch>,
    repeat: &Repeat,
    position: usize,
) -> Result<ScanStats, Failure> {
    let (sender, mut between) = mpsc::channel::<RecordBatch>(1);
    let mut digest = Digest::default();
    let passing = async {
        while let Some(batch) = between.recv().await {
            digest.add_batch(&batch, scan.row_key);
            send(batches, batch).await?;
        }
        Ok::<_, Error>(())
    };
    let scanning = async {
        let stats = scan.run(session, &sender).await;
        drop(sender);
        stats
    };
    let (stats, passed) = tokio::join!(scanning, passing);
    let stats = stats?;
    passed?;
    repeat.note(position, digest);
    Ok(stats)
}

async fn reread_all(
    reading: &Reading,
    reread: &Reread<'_>,
    current: &mut Current,
    position: usize,
    ids_at_a_time: usize,
    changes: &mpsc::Sender<Vec<ChangedRecord>>,
) -> Result<ScanStats, Failure> {
    let mut stats = ScanStats::default();
    let mut own = match &current.session {
        Some(_) => None,
        None => Some(reading.sessions.open().await?),
    };
    while let Some(chunk) = current.next(position).await? {
        for part in super::catch_up::split(&chunk, ids_at_a_time) {
            let session = match (&mut own, &mut current.session) {
                (Some(held), _) | (None, Some(held)) => &mut held.session,
                (None, None) => return Err(no_round().into()),
            };
            let changed = reread.run(part, session, &mut stats.bytes_read).await?;
            stats.records += changed.iter().map(|changed| changed.records.len() as u64).sum::<u64>();
            send(changes, changed).await?;
        }
    }
    Ok(stats)
}

fn no_round() -> Error {
    Error::new(ErrorKind::Internal, "no round of catching up is being read")
}
