//! Bringing records of different moments to one.
//!
//! A scan with majority reads sees at least everything up to the time it is given, and of what came
//! later some. Whatever changed after that time is known by its id from the change stream, and is
//! read again; those reads, too, see at least all that had been heard of before. So each round
//! leaves only what changed while it ran. The last round reads at one time: everything with a
//! change after its last read is read again there, and everything else is what it was.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use repo_format::limits;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::catalog::{Kind, Listed, Listing};
use super::connect::Topology;
use super::fault;
use super::moment::{self, CAPPED_SNAPSHOTS};
use super::pending::{Change, Pending};
use super::read::{self, Find, Order, ReadAt};
use super::scan::Failure;
use super::sessions::Held;
use super::snapshot::Reading;
use super::stream::{Follower, Tracking};
use super::wire::{ClusterTime, CursorReply};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::Consistency;

/// So few changes are read within the last round.
const LITTLE: u64 = 2_000;
/// Rounds before the last one is begun however much is left.
const ROUNDS: u32 = 8;
/// Last rounds that may be lost to the server's limits.
const FINALS: u32 = 5;
/// How long a stream may take to tell of what is known to have happened. Routers tell every ten
/// seconds when nothing happens, and servers end transactions after 60.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Ids asked for at a time: so many, or so many bytes of them.
const IDS: usize = 1_000;
const IDS_BYTES: usize = 1 << 20;
/// Bytes of documents that one question for ids may bring, by the collection's average.
const ANSWER_BYTES: u64 = 16 << 20;
/// The way to one moment by following changes.
pub(super) struct CatchUp {
    pub follower: Follower,
    /// Whether the last round reads at a time that the server honours, not in a transaction.
    pub final_at_time: bool,
    /// For each collection, a time up to which its last whole reading saw everything.
    since: Mutex<Vec<ClusterTime>>,
    /// What scans are to see at least: from then on, the changes of all collections are noted.
    noted_from: ClusterTime,
    patience: Duration,
    pub state: tokio::sync::Mutex<State>,
}

/// How far the rounds are.
#[derive(Default)]
pub(super) struct State {
    rounds: u32,
    /// Of other listings of the collections.
    rounds_before: u32,
    finals: u32,
    last_total: u64,
    pub current: Option<Current>,
    pub done: Option<Done>,
}

/// What all records stand at.
#[derive(Clone, Debug)]
pub(super) struct Done {
    /// The time, or one that is not before it where the server keeps the time to itself.
    pub time: ClusterTime,
    pub rounds: u32,
    /// Collections whose records are of other moments.
    pub of_other_moments: Vec<String>,
}

/// A round that is being read.
pub(super) struct Current {
    pub is_final: bool,
    pub at: ReadAt,
    /// The session of the last round's transaction.
    pub session: Option<Held>,
    pub time: ClusterTime,
    changes: mpsc::Receiver<Vec<Change>>,
    reader: Option<JoinHandle<Result<()>>>,
    /// Changes of a collection whose turn has not come.
    held: Option<Vec<Change>>,
    /// What to read again should this round be lost.
    retry: Option<Pending>,
    /// Collections that changed in ways that no id tells, and when last.
    whole: BTreeMap<usize, ClusterTime>,
    /// The server ended the transaction, or forgot the time.
    pub lost: bool,
}

/// What became of an attempt to begin the last round.
enum LastRound {
    /// This is to be read.
    Begun(Vec<Turn>),
    /// The server ended its transaction.
    Ended,
    /// The stream did not tell in time of all changes up to its time.
    Lags,
}

/// A collection's turn in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub collection: usize,
    pub whole: bool,
}

impl CatchUp {
    pub fn new(follower: Follower, collections: usize, final_at_time: bool, patience: Duration) -> Self {
        let since = Mutex::new(vec![ClusterTime::default(); collections]);
        let noted_from = ClusterTime::default();
        Self { follower, final_at_time, since, noted_from, patience, state: tokio::sync::Mutex::default() }
    }

    /// A whole reading of the collection begins: what it is to see.
    pub fn begin_scan(&self, collection: usize) -> ReadAt {
        let seen = self.follower.position().max(self.noted_from);
        self.note_since(collection, seen);
        ReadAt::Majority(seen)
    }

    fn note_since(&self, collection: usize, time: ClusterTime) {
        let mut since = self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(since) = since.get_mut(collection) {
            *since = time;
        }
    }

    fn since(&self) -> Vec<ClusterTime> {
        self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// What is to be read next; none when all records stand at one time.
    pub async fn next_round(&self, reading: &Reading) -> Result<Option<Vec<Turn>>> {
        let mut state = self.state.lock().await;
        if state.done.is_some() {
            return Ok(None);
        }
        self.follower.check()?;
        if self.follower.definition_changed().is_some() {
            self.check_definitions(reading).await?;
        }
        let now = read::now(&reading.deployment).await?;
        let heard_all = self.follower.reach(now, self.patience).await?;
        let total = self.follower.with_pending(|pending| pending.total());
        let no_less = state.rounds >= 3 && total.saturating_mul(2) > state.last_total;
        if heard_all && (total <= LITTLE || no_less || state.rounds >= ROUNDS) {
            let mut lags = false;
            while state.finals < FINALS {
                match self.final_round(reading, &mut state, now).await? {
                    LastRound::Begun(turns) => return Ok((!turns.is_empty()).then_some(turns)),
                    LastRound::Ended => lags = false,
                    LastRound::Lags => lags = true,
                }
            }
            let ended = || too_busy("the server ends every transaction before it has begun");
            return Err(if lags { too_fast() } else { ended() });
        }
        if state.rounds >= 2 * ROUNDS {
            return Err(too_fast());
        }
        state.rounds += 1;
        state.last_total = total;
        let taken = self.take(reading);
        let whole = self.changed_whole(taken.whole());
        let at = self.follower.position().max(taken.latest());
        // Those are read whole in the last round.
        self.follower
            .with_pending(|pending| whole.iter().for_each(|(&it, &time)| pending.push_whole(it, time)));
        let turns = turns(&taken, &BTreeMap::new());
        state.current = Some(self.current(taken, ReadAt::Majority(at), at, BTreeMap::new()));
        Ok(Some(turns))
    }

    /// Fails if a definition is not what it was, or a name stood for another collection meanwhile.
    async fn check_definitions(&self, reading: &Reading) -> Result<()> {
        reading.check_definitions().await?;
        let Some(moved) = self.follower.moved_after(&self.since()) else { return Ok(()) };
        let name = reading.listing.collections.get(moved).map(Listed::display).unwrap_or_default();
        Err(reading.begin_again(&format!("{name} was dropped, renamed or resharded")))
    }

    /// Goes on with another listing, after everything heard of was put back. Returns, for each of its
    /// collections, the position that it had, where records read of it still count: they are caught
    /// up with, the others are to be scanned.
    pub async fn follow_listing(&mut self, reading: &Reading, now: &Listing) -> Result<Vec<Option<usize>>> {
        let databases = now.collections.iter().map(|listed| listed.database.clone());
        self.follower.follow_databases(databases).await?;
        let since = self.since();
        let known = now.collections.iter().map(|listed| {
            let Some(known) = reading.position(&listed.database, &listed.name) else { return Ok(None) };
            Ok(listed.has_records_of(&reading.listing.collections[known])?.then_some(known))
        });
        let mut kept: Vec<Option<usize>> = known.collect::<Result<_>>()?;
        self.follower.follow_listing(&now.collections, &mut kept, &since, &reading.ctx).await?;
        // Changes of collections that were not followed until now may have passed unnoted: scans see them.
        self.noted_from = read::now(&reading.deployment).await?;
        let since_of = |kept: &Option<usize>| kept.and_then(|it| since.get(it).copied()).unwrap_or_default();
        self.since = Mutex::new(kept.iter().map(since_of).collect());
        let state = self.state.get_mut();
        *state = State { rounds_before: state.rounds_before + state.rounds, ..State::default() };
        Ok(kept)
    }

    fn take(&self, reading: &Reading) -> Pending {
        self.follower.with_pending(|pending| std::mem::replace(pending, Pending::new(&reading.ctx)))
    }

    /// Collections that changed after their last reading, of those noted as a whole.
    fn changed_whole(&self, noted: &BTreeMap<usize, ClusterTime>) -> BTreeMap<usize, ClusterTime> {
        let since = self.since();
        let later = noted.iter().filter(|&(&it, &time)| since.get(it).is_none_or(|&since| time > since));
        later.map(|(&it, &time)| (it, time)).collect()
    }

    fn current(
        &self,
        taken: Pending,
        at: ReadAt,
        time: ClusterTime,
        whole: BTreeMap<usize, ClusterTime>,
    ) -> Current {
        let (sender, changes) = mpsc::channel(2);
        let since = self.since();
        let reader = tokio::task::spawn_blocking(move || chunks(taken, &since, &sender));
        Current {
            is_final: false,
            at,
            session: None,
            time,
            changes,
            reader: Some(reader),
            held: None,
            retry: None,
            whole,
            lost: false,
        }
    }

    /// Begins the last round.
    async fn final_round(&self, reading: &Reading, state: &mut State, now: ClusterTime) -> Result<LastRound> {
        state.finals += 1;
        let known =
            self.follower.with_pending(|pending| pending.latest()).max(self.follower.position()).max(now);
        let (at, session, time) = if self.final_at_time {
            let time = self.time_after(reading, known).await?;
            (ReadAt::Time(time), None, time)
        } else {
            match begin_transaction(reading, known).await {
                Ok((session, time)) => (ReadAt::Transaction, Some(session), time),
                Err(Failure::TransactionLost(_)) => return Ok(LastRound::Ended),
                Err(Failure::Plain(error) | Failure::HistoryLost(error) | Failure::BeginAgain(error)) => {
                    return Err(error);
                }
            }
        };
        if !self.follower.reach(time, self.patience).await? {
            if let Some(mut held) = session {
                let _ = held.session.abort_transaction().await;
            }
            return Ok(LastRound::Lags);
        }
        let taken = self.take(reading);
        let mut whole = self.changed_whole(taken.whole());
        for (position, listed) in reading.listing.collections.iter().enumerate() {
            if Tracking::of(listed)? == Tracking::Untold && listed.kind != Kind::View {
                whole.insert(position, time);
            }
        }
        // Should this round be lost, those that it leaves out have changed nevertheless.
        let changed = whole.clone();
        let of_other_moments = refused_in_snapshots(reading, &mut whole)?;
        let turns = turns(&taken, &whole);
        let mut current = self.current(taken, at, time, changed);
        current.session = session;
        current.is_final = true;
        current.retry = Some(Pending::new(&reading.ctx));
        state.done = None;
        state.rounds += 1;
        reading.set_of_other_moments(of_other_moments);
        if turns.is_empty() {
            self.finish(reading, state, current).await?;
        } else {
            state.current = Some(current);
        }
        Ok(LastRound::Begun(turns))
    }

    /// A time to read at that is not before anything known.
    async fn time_after(&self, reading: &Reading, known: ClusterTime) -> Result<ClusterTime> {
        let none = || too_busy("the server gives no time to read at");
        let subject = moment::subject(&reading.listing).ok_or_else(none)?;
        for _ in 0..50 {
            match moment::fresh(&reading.deployment, subject, &reading.sessions).await? {
                Some(time) if time >= known => return Ok(time),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        Err(none())
    }

    /// The last round was read to its end.
    async fn finish(&self, reading: &Reading, state: &mut State, mut current: Current) -> Result<()> {
        if let Some(mut held) = current.session.take() {
            // Nothing was written; a server that does not hear of it forgets the transaction.
            let _ = held.session.abort_transaction().await;
        }
        if let Err(error) = self.check_definitions(reading).await {
            // What was heard of after this round's time was read as of it.
            self.put_back(current).await?;
            return Err(error);
        }
        let of_other_moments = reading.of_other_moments();
        let rounds = state.rounds_before + state.rounds;
        state.done = Some(Done { time: current.time, rounds, of_other_moments });
        Ok(())
    }

    /// After a round.
    pub async fn end_round(&self, reading: &Reading, failure: Option<Error>) -> Result<()> {
        let mut state = self.state.lock().await;
        let Some(mut current) = state.current.take() else {
            return failure.map_or(Ok(()), Err);
        };
        let Some(failure) = failure else {
            if current.is_final {
                self.finish(reading, &mut state, current).await?;
            }
            return Ok(());
        };
        if !(current.is_final && current.lost) {
            if failure.kind() == ErrorKind::SourceChanged {
                self.put_back(current).await?;
            }
            return Err(failure);
        }
        if state.finals >= FINALS {
            let told = format!("{} rounds were not enough: {}", state.rounds, failure.message());
            return Err(too_busy(&told));
        }
        if let Some(mut held) = current.session.take() {
            let _ = held.session.abort_transaction().await;
        }
        self.put_back(current).await
    }

    /// Everything of a round that was lost is to be read again.
    async fn put_back(&self, mut current: Current) -> Result<()> {
        let mut rest: Vec<Vec<Change>> = current.held.take().into_iter().collect();
        let retry = current.retry.take();
        let push = |changes: &[Change]| {
            self.follower.with_pending(|pending| changes.iter().try_for_each(|change| pending.push(change)))
        };
        while let Some(changes) = match rest.pop() {
            Some(changes) => Some(changes),
            None => current.changes.recv().await,
        } {
            push(&changes)?;
        }
        current.read_to_the_end().await?;
        if let Some(retry) = retry {
            retry.for_each(|change| push(std::slice::from_ref(&change)))?;
        }
        self.follower.with_pending(|pending| {
            current.whole.iter().for_each(|(&collection, &time)| pending.push_whole(collection, time));
        });
        Ok(())
    }
}

impl Current {
    /// The next changes of a collection, or none. Those of collections before it were not asked
    /// for.
    pub async fn next(&mut self, collection: usize) -> Result<Option<Vec<Change>>> {
        loop {
            let changes = match self.held.take() {
                Some(changes) => changes,
                None => match self.changes.recv().await {
                    Some(changes) => changes,
                    None => {
                        self.read_to_the_end().await?;
                        return Ok(None);
                    }
                },
            };
            match changes.first().map(|change| change.collection.cmp(&collection)) {
                Some(std::cmp::Ordering::Greater) => {
                    self.held = Some(changes);
                    return Ok(None);
                }
                Some(std::cmp::Ordering::Equal) => {
                    if let Some(retry) = &mut self.retry {
                        changes.iter().try_for_each(|change| retry.push(change))?;
                    }
                    return Ok(Some(changes));
                }
                _ => {}
            }
        }
    }

    async fn read_to_the_end(&mut self) -> Result<()> {
        let Some(reader) = self.reader.take() else { return Ok(()) };
        let ended = reader.await;
        ended.map_err(|error| {
            Error::new(ErrorKind::Internal, "reading changes ended early").with_source(error)
        })?
    }
}

fn turns(taken: &Pending, whole: &BTreeMap<usize, ClusterTime>) -> Vec<Turn> {
    let by_id = taken.collections().into_iter().map(|collection| Turn { collection, whole: false });
    by_id.chain(whole.keys().map(|&collection| Turn { collection, whole: true })).collect()
}

/// Hands on the changes after each collection's last reading, in pieces. Ids whose keys begin alike
/// stay together: what the tree puts in place of a long key's rest may order them otherwise.
fn chunks(taken: Pending, since: &[ClusterTime], sender: &mpsc::Sender<Vec<Change>>) -> Result<()> {
    let mut chunk: Vec<Change> = Vec::new();
    let mut bytes = 0;
    taken.for_each(|change| {
        if since.get(change.collection).is_some_and(|&since| change.time <= since) {
            return Ok(());
        }
        let ends = chunk.last().is_some_and(|last| {
            last.collection != change.collection
                || ((chunk.len() >= IDS || bytes >= IDS_BYTES) && !start_alike(last, &change))
        });
        if ends {
            bytes = 0;
            sender.blocking_send(std::mem::take(&mut chunk)).map_err(|_| Error::cancelled())?;
        }
        bytes += change.id.value.len();
        chunk.push(change);
        Ok(())
    })?;
    if chunk.is_empty() {
        return Ok(());
    }
    sender.blocking_send(chunk).map_err(|_| Error::cancelled())
}

/// A piece in smaller ones. Ids whose keys begin alike stay together.
pub(super) fn split(chunk: &[Change], at_most: usize) -> Vec<&[Change]> {
    let mut parts = Vec::new();
    let mut rest = chunk;
    while !rest.is_empty() {
        let mut end = at_most.min(rest.len());
        while end < rest.len() && start_alike(&rest[end - 1], &rest[end]) {
            end += 1;
        }
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

/// Whether the tree may put these two in another order than the changes are in.
fn start_alike(one: &Change, other: &Change) -> bool {
    let prefix = one.key.get(..limits::KEY_PREFIX);
    prefix.is_some() && prefix == other.key.get(..limits::KEY_PREFIX)
}

/// How many ids of a collection to ask for at a time.
pub(super) fn ids_at_a_time((records, bytes): (u64, u64)) -> usize {
    let average = bytes.checked_div(records).unwrap_or(0).max(1);
    usize::try_from(ANSWER_BYTES / average).unwrap_or(IDS).clamp(1, IDS)
}

/// Takes out what the server does not read in snapshots and that changed nevertheless.
fn refused_in_snapshots(reading: &Reading, whole: &mut BTreeMap<usize, ClusterTime>) -> Result<Vec<String>> {
    if reading.deployment.release() >= CAPPED_SNAPSHOTS {
        return Ok(Vec::new());
    }
    let is_capped = |position: &usize| {
        reading.listing.collections.get(*position).is_some_and(|listed| listed.kind == Kind::Capped)
    };
    let refused: Vec<usize> = whole.keys().copied().filter(is_capped).collect();
    let names: Vec<String> = refused.iter().map(|&it| reading.listing.collections[it].display()).collect();
    if reading.consistency == Consistency::PointInTime && !names.is_empty() {
        let message = format!(
            "MongoDB {} does not read capped collections in snapshots, and {} changed meanwhile",
            reading.deployment.version,
            names.join(", ")
        );
        return Err(Error::new(ErrorKind::Unsupported, message).with_help(
            "Allow snapshots that are not of one moment (best effort): these collections are then marked so. \
             MongoDB 8.0 has no such limit.",
        ));
    }
    whole.retain(|position, _| !refused.contains(position));
    Ok(names)
}

/// The stream falls behind what is written.
fn too_fast() -> Error {
    Error::new(ErrorKind::SourceChanged, "changes come faster than they can be followed").with_help(
        "Take the snapshot over a faster connection to the server, or when there are fewer writes. A URL that names \
         the database that matters follows the changes of that one only.",
    )
}

fn too_busy(what: &str) -> Error {
    Error::new(ErrorKind::SourceChanged, what.to_owned()).with_help(
        "Take the snapshot when there are fewer writes. On a server of your own, a longer history \
         (minSnapshotHistoryWindowInSeconds) or longer transactions (transactionLifetimeLimitSeconds) help too.",
    )
}

/// Begins a transaction that sees everything up to `known`, and returns a time not before the one
/// it reads at.
async fn begin_transaction(reading: &Reading, known: ClusterTime) -> Result<(Held, ClusterTime), Failure> {
    let doing = "beginning the last round's transaction";
    let mut held = reading.sessions.open_causal().await?;
    held.session.advance_operation_time(known.timestamp());
    let started = held.session.start_transaction().read_concern(mongodb::options::ReadConcern::snapshot());
    started.await.map_err(|error| fault::statement(doing, &error))?;
    let failed = |error| Failure::of(doing, ReadAt::Transaction, &error);
    let Some(subject) = moment::subject(&reading.listing) else {
        return Err(too_busy("there is nothing to begin a transaction with").into());
    };
    let find = Find {
        listed: subject,
        filter: None,
        order: Order::Any,
        from: None,
        batch: 1,
        limit: Some(1),
        may_time_out: true,
    };
    let opened = find.open(&reading.deployment, ReadAt::Transaction, &mut held.session).await;
    let mut cursor = opened.map_err(failed)?;
    let reply = futures::StreamExt::next(&mut cursor.stream(&mut held.session)).await;
    let reply = reply.transpose().map_err(failed)?;
    let mut time = known;
    if let Some(reply) = reply {
        let bytes = reply.as_raw_document().as_bytes();
        time = time.max(CursorReply::parse(bytes)?.operation_time.unwrap_or_default());
        if reading.deployment.topology == Topology::Sharded
            && let Some(cluster) = super::wire::document(bytes, "$clusterTime")?
        {
            // A router's transactions read at the newest time it has heard of from any shard.
            time = time.max(super::wire::time(cluster, "clusterTime")?.unwrap_or_default());
        }
    }
    // Asked afterwards, so it is not before the transaction's own time.
    Ok((held, time.max(read::now(&reading.deployment).await?)))
}

impl Reading {
    /// Positions by name are needed on every call; the listing is sorted.
    pub fn position(&self, namespace: &str, name: &str) -> Option<usize> {
        position(&self.listing, namespace, name)
    }
}

fn position(listing: &Listing, namespace: &str, name: &str) -> Option<usize> {
    let found = listing
        .collections
        .binary_search_by(|listed| (listed.database.as_str(), listed.name.as_str()).cmp(&(namespace, name)));
    found.ok()
}
