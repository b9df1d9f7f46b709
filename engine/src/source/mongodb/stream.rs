//! Following a deployment's changes while it is read.
//!
//! A change stream's position is a time up to which every change is known. A server tells it in its
//! resume tokens, which begin with a time in a fixed encoding. A server with other tokens does not
//! say how far its answers reach: an event tells that those before it were told, and silence for a
//! while after a time that nothing up to it is left. What it tells counts once its oplog is proven to
//! reach back far enough.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::error::Error as DriverError;
use mongodb::options::CursorType;
use mongodb::raw_batch_cursor::RawBatchCursor;
use repo_format::keys::RowKey;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::catalog::{self, Kind, Listed};
use super::connect::Deployment;
use super::fault::{self, code};
use super::oplog::Proof;
use super::pending::{Change, Pending};
use super::read::in_time;
use super::records::Id;
use super::wire::{self, ClusterTime, CursorReply};
use crate::context::Context;
use crate::error::{Error, Kind as ErrorKind, Result};

/// How long the server waits for a change before it answers with none.
const AWAIT: Duration = Duration::from_millis(250);
/// Empty answers in a row that are taken for silence, of a server that was never heard of and of
/// one that was: a transaction that goes on holds back what was committed after it began.
const SILENT: (u32, u32) = (1, 8);
/// Streams that may fail in a row.
const ATTEMPTS: u32 = 8;
const BACKOFF: Duration = Duration::from_millis(200);
/// What a stream's failure interrupts.
const DOING: &str = "following the changes";
/// Events after which a name stands for the collection that was listed by it. One is created only where there was
/// none: what was listed and went away before was dropped or renamed. A stream may begin with how that which is
/// listed came to be.
const STAYING: [&str; 4] = ["create", "createIndexes", "dropIndexes", "modify"];
/// The first version that tells of indexes and options.
const EXPANDED_EVENTS: (u32, u32) = (6, 0);

/// What changes in one collection are noted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// By id.
    ById,
    /// Only that there were some.
    Whole,
    /// Not at all: the server does not tell.
    Untold,
}

impl Tracking {
    pub fn of(listed: &Listed) -> Result<Self> {
        Ok(match listed.kind {
            Kind::View | Kind::TimeSeries => Self::Untold,
            _ if listed.name.starts_with("system.") => Self::Untold,
            Kind::Capped => Self::Whole,
            Kind::Plain if listed.has_id_index()? || listed.is_clustered()? => Self::ById,
            Kind::Plain => Self::Whole,
        })
    }
}

/// Change streams over everything in scope, read in the background.
pub(super) struct Follower {
    shared: Arc<Shared>,
    /// Databases with a stream each; none where one stream tells of all.
    databases: Option<BTreeSet<String>>,
    positions: Vec<watch::Receiver<ClusterTime>>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    deployment: Deployment,
    row_key: RowKey,
    heard: Mutex<Heard>,
    failure: Mutex<Option<Error>>,
    /// The latest time that somebody waits for.
    wanted: AtomicU64,
}

/// Positions in the listing, by database and name.
type Names = HashMap<String, HashMap<String, (usize, Tracking)>>;

/// What is followed, and what was heard of it.
struct Heard {
    collections: Names,
    /// Taken away by each round.
    pending: Pending,
    /// The first change of a definition, in words.
    definition: Option<String>,
    /// Collections that were dropped, renamed or resharded, and when last. One that is back under its
    /// name was written to under another meanwhile.
    moved: BTreeMap<usize, ClusterTime>,
}

impl Heard {
    fn of(listed: &[Listed], ctx: &Context) -> Result<Self> {
        let mut collections = Names::new();
        for (position, listed) in listed.iter().enumerate() {
            let tracking = Tracking::of(listed)?;
            let of_database = collections.entry(listed.database.clone()).or_default();
            of_database.insert(listed.name.clone(), (position, tracking));
        }
        Ok(Self { collections, pending: Pending::new(ctx), definition: None, moved: BTreeMap::new() })
    }

    fn find(&self, database: &str, name: &str) -> Option<(usize, Tracking)> {
        self.collections.get(database)?.get(name).copied()
    }
}

impl Follower {
    /// Opens the streams: one for the whole deployment, or one for each database where only those
    /// are in scope or allowed. Everything from now on will be known.
    pub async fn open(
        deployment: &Deployment,
        only: Option<&str>,
        listed: &[Listed],
        ctx: &Context,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            deployment: deployment.clone(),
            // Changes are noted under keys of their own: those of trees bound long keys with another hash.
            row_key: RowKey::new([0; 32]),
            heard: Mutex::new(Heard::of(listed, ctx)?),
            failure: Mutex::default(),
            wanted: AtomicU64::new(0),
        });
        let mut follower = Self { shared, databases: None, positions: Vec::new(), tasks: Vec::new() };
        if only.is_none() {
            match follower.begin(None).await {
                Ok(()) => return Ok(follower),
                Err(error) if fault::code_of(&error) == Some(code::UNAUTHORIZED) => {}
                Err(error) => return Err(fault::statement("opening a change stream", &error)),
            }
        }
        follower.databases = Some(BTreeSet::new());
        follower.follow_databases(only.map(str::to_owned).into_iter()).await?;
        if only.is_none() {
            follower.follow_databases(listed.iter().map(|listed| listed.database.clone())).await?;
        }
        Ok(follower)
    }

    /// Opens the streams of databases that have none yet, where each needs its own.
    pub async fn follow_databases(&mut self, databases: impl Iterator<Item = String>) -> Result<()> {
        for database in databases {
            let is_new = self.databases.as_mut().is_some_and(|followed| followed.insert(database.clone()));
            if !is_new {
                continue;
            }
            let opened = self.begin(Some(database.clone())).await;
            opened.map_err(|error| {
                fault::statement(&format!("opening a change stream on {database}"), &error)
            })?;
        }
        Ok(())
    }

    async fn begin(&mut self, database: Option<String>) -> Result<(), DriverError> {
        let mut stream = Stream::new(self.shared.clone(), database);
        let (cursor, position) = stream.open().await?;
        let (sender, receiver) = watch::channel(position);
        self.positions.push(receiver);
        self.tasks.push(tokio::spawn(stream.follow(cursor, sender)).abort_handle());
        Ok(())
    }

    /// Every change up to this time is known.
    pub fn position(&self) -> ClusterTime {
        self.positions.iter().map(|position| *position.borrow()).min().unwrap_or_default()
    }

    /// Waits until every change up to `time` is known. Says whether it is; false after `patience`.
    pub async fn reach(&self, time: ClusterTime, patience: Duration) -> Result<bool> {
        self.shared.wanted.fetch_max(time.0, Ordering::SeqCst);
        let reached = async {
            for position in &self.positions {
                let mut position = position.clone();
                let ended = position.wait_for(|position| *position >= time).await.is_err();
                if ended {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(patience, reached).await.is_ok();
        self.check()?;
        Ok(in_time)
    }

    /// Fails if a stream did.
    pub fn check(&self) -> Result<()> {
        match locked(&self.shared.failure).as_ref() {
            Some(error) => {
                let told = Error::new(error.kind(), error.message());
                Err(match error.help() {
                    Some(help) => told.with_help(help),
                    None => told,
                })
            }
            None => Ok(()),
        }
    }

    /// The first change of a definition that was heard of.
    pub fn definition_changed(&self) -> Option<String> {
        locked(&self.shared.heard).definition.clone()
    }

    /// What changes from here on will be heard of once more.
    pub fn forget_definition(&self) {
        locked(&self.shared.heard).definition = None;
    }

    /// A collection that was dropped, renamed or resharded after its last whole reading.
    pub fn moved_after(&self, since: &[ClusterTime]) -> Option<usize> {
        moved_after(&locked(&self.shared.heard).moved, since).next()
    }

    pub fn with_pending<T>(&self, use_it: impl FnOnce(&mut Pending) -> T) -> T {
        use_it(&mut locked(&self.shared.heard).pending)
    }

    /// From here on, changes are noted for another listing. `kept` has, for each of its collections,
    /// the earlier position of the records that were read of it; it is taken out where they do not
    /// count any more. What was heard of the others is kept.
    pub async fn follow_listing(
        &self,
        listed: &[Listed],
        kept: &mut [Option<usize>],
        since: &[ClusterTime],
        ctx: &Context,
    ) -> Result<()> {
        let other = Heard::of(listed, ctx)?;
        let earlier = {
            // At once, so that no event falls between the two.
            let mut heard = locked(&self.shared.heard);
            let definition = heard.definition.take();
            let earlier = std::mem::replace(&mut *heard, Heard { definition, ..other });
            drop(heard);
            let moved: BTreeSet<usize> = moved_after(&earlier.moved, since).collect();
            kept.iter_mut().for_each(|kept| *kept = kept.filter(|it| !moved.contains(it)));
            earlier.pending
        };
        let kept = kept.iter().enumerate();
        let now_at: HashMap<usize, usize> = kept.filter_map(|(now, kept)| Some(((*kept)?, now))).collect();
        let shared = Arc::clone(&self.shared);
        let noting = tokio::task::spawn_blocking(move || {
            for (earlier, &time) in earlier.whole() {
                if let Some(&now) = now_at.get(earlier) {
                    locked(&shared.heard).pending.push_whole(now, time);
                }
            }
            earlier.for_each(|change| match now_at.get(&change.collection) {
                Some(&collection) => locked(&shared.heard).pending.push(&Change { collection, ..change }),
                None => Ok(()),
            })
        });
        noting.await.map_err(|error| {
            Error::new(ErrorKind::Internal, "noting changes ended early").with_source(error)
        })?
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn moved_after<'a>(
    moved: &'a BTreeMap<usize, ClusterTime>,
    since: &'a [ClusterTime],
) -> impl Iterator<Item = usize> + 'a {
    let later = moved.iter().filter(|&(&it, &time)| since.get(it).is_none_or(|&since| time > since));
    later.map(|(&it, _)| it)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One change stream.
struct Stream {
    shared: Arc<Shared>,
    /// None for the whole deployment.
    database: Option<String>,
    /// Where to go on after a failure.
    token: Option<Vec<u8>>,
    /// Whether there was any event.
    has_heard: bool,
    /// The time that was asked after when silence began, and the answers since.
    silence: (ClusterTime, u32),
    /// Of a server whose resume tokens tell no time.
    proof: Option<Proof>,
}

impl Stream {
    fn new(shared: Arc<Shared>, database: Option<String>) -> Self {
        Self { shared, database, token: None, has_heard: false, silence: Default::default(), proof: None }
    }

    async fn open(&mut self) -> Result<(RawBatchCursor, ClusterTime), DriverError> {
        let deployment = &self.shared.deployment;
        let command = self.command(self.token.as_deref(), doc! {})?;
        let database = deployment.client.database(self.database.as_deref().unwrap_or("admin"));
        let run = database.run_raw_cursor_command(command);
        let run = run.cursor_type(CursorType::TailableAwait).max_time(AWAIT);
        let mut cursor = in_time(run.batch().into_future()).await?;
        let is_new = self.token.is_none();
        let first = match in_time(cursor.try_next()).await? {
            Some(reply) => reply,
            None => return Err(DriverError::custom(ended())),
        };
        let bytes = first.as_raw_document().as_bytes();
        let position = self.take(bytes, ClusterTime::default()).map_err(DriverError::custom)?;
        let token = self.token.as_deref();
        if let (true, Some(token), None) = (is_new, token, token.and_then(|token| time_of(token).ok()?)) {
            self.proof = Some(Proof::begin(token.to_vec()));
            return Ok((cursor, ClusterTime::default()));
        }
        Ok((cursor, position.unwrap_or_default()))
    }

    /// The aggregation: without documents' contents, which are read later and as of later.
    fn command(&self, token: Option<&[u8]>, cursor: Document) -> Result<RawDocumentBuf, DriverError> {
        let mut stage = Document::new();
        if self.database.is_none() {
            stage.insert("allChangesForCluster", true);
        }
        if self.shared.deployment.release() >= EXPANDED_EVENTS {
            stage.insert("showExpandedEvents", true);
        }
        if let Some(token) = token {
            let token = bson::RawDocument::from_bytes(token)?;
            stage.insert("resumeAfter", Document::try_from(token)?);
        }
        let wanted = doc! { "_id": 1, "operationType": 1, "ns": 1, "documentKey": 1, "clusterTime": 1 };
        let command = doc! {
            "aggregate": 1,
            "pipeline": [{ "$changeStream": stage }, { "$project": wanted }],
            "cursor": cursor,
            "readConcern": { "level": "majority" },
        };
        Ok(RawDocumentBuf::try_from(&command)?)
    }

    async fn follow(mut self, mut cursor: RawBatchCursor, position: watch::Sender<ClusterTime>) {
        let mut failures = 0;
        loop {
            let asked_after = ClusterTime(self.shared.wanted.load(Ordering::SeqCst));
            let error = match in_time(cursor.try_next()).await {
                Ok(Some(reply)) => match self.heed(reply.as_raw_document().as_bytes(), asked_after).await {
                    Ok(reached) => {
                        failures = 0;
                        let reached = reached.unwrap_or_default();
                        position.send_if_modified(|known| {
                            let is_later = reached > *known;
                            *known = reached.max(*known);
                            is_later
                        });
                        continue;
                    }
                    Err(error) => return self.fail(error),
                },
                Err(error) => error,
                Ok(None) => return self.fail(ended()),
            };
            failures += 1;
            let resumable = fault::is_passing(&error) || error.contains_label("ResumableChangeStreamError");
            if fault::is_stream_lost(&error) || !resumable || failures > ATTEMPTS || self.token.is_none() {
                return self.fail(fault::statement(DOING, &error));
            }
            tokio::time::sleep(BACKOFF * failures).await;
            match self.open().await {
                Ok((again, _)) => cursor = again,
                Err(error) if fault::is_passing(&error) && failures < ATTEMPTS => {}
                Err(error) => return self.fail(fault::statement(DOING, &error)),
            }
        }
    }

    fn fail(&self, error: Error) {
        tracing::warn!(error = %error, "a change stream ended");
        locked(&self.shared.failure).get_or_insert(error);
    }

    /// Notes the changes of a reply. Returns up to when every change is known for certain, if that is
    /// later than before.
    async fn heed(&mut self, reply: &[u8], asked_after: ClusterTime) -> Result<Option<ClusterTime>> {
        let told = self.take(reply, asked_after)?;
        let Some(proof) = &mut self.proof else { return Ok(told) };
        let wanted = ClusterTime(self.shared.wanted.load(Ordering::SeqCst));
        if !proof.note(told.unwrap_or_default(), wanted) {
            return Ok(None);
        }
        let from = proof.token.clone();
        match self.resume_at(&from).await {
            Ok(()) => Ok(self.token.clone().zip(self.proof.as_mut()).map(|(token, proof)| proof.hold(token))),
            Err(error) if fault::is_stream_lost(&error) => Err(fault::history_lost(DOING)),
            // Asked again with the next reply.
            Err(error) if fault::is_passing(&error) => Ok(None),
            Err(error) => Err(fault::statement("asking how far the oplog reaches back", &error)),
        }
    }

    /// Opens another stream at a token and lets go of it. Fails if the oplog does not reach back to it.
    async fn resume_at(&self, token: &[u8]) -> Result<(), DriverError> {
        let command = self.command(Some(token), doc! { "batchSize": 0 })?;
        let database = self.shared.deployment.client.database(self.database.as_deref().unwrap_or("admin"));
        in_time(database.run_raw_cursor_command(command).batch().into_future()).await.map(drop)
    }

    /// Notes the changes of a reply. Returns up to when every change is known, if the reply says.
    fn take(&mut self, reply: &[u8], asked_after: ClusterTime) -> Result<Option<ClusterTime>> {
        let reply = CursorReply::parse(reply)?;
        let mut last = None;
        for event in reply.documents()? {
            let event = event?;
            last = self.note(event)?.or(last);
            self.token = wire::document(event, "_id")?.map(<[u8]>::to_vec).or(self.token.take());
        }
        let silent_up_to = self.hear(reply.is_empty(), asked_after);
        let Some(token) = reply.resume_token else {
            return Ok(last.map(ClusterTime::before));
        };
        self.token = Some(token.to_vec());
        let stands_at = time_of(token)?;
        Ok(match (stands_at, reply.is_empty()) {
            (Some(time), true) => Some(time),
            // More of the same time may follow.
            (Some(time), false) => Some(last.unwrap_or(time).before()),
            (None, true) => silent_up_to,
            (None, false) => last.map(ClusterTime::before),
        })
    }

    /// Counts an answer. Returns the time up to which silence tells that nothing is left.
    fn hear(&mut self, is_empty: bool, asked_after: ClusterTime) -> Option<ClusterTime> {
        self.has_heard |= !is_empty;
        if !is_empty || self.silence.0 != asked_after {
            self.silence = (asked_after, 0);
        }
        self.silence.1 += u32::from(is_empty);
        let enough = if self.has_heard { SILENT.1 } else { SILENT.0 };
        (asked_after > ClusterTime::default() && self.silence.1 >= enough).then_some(asked_after)
    }

    fn note(&self, event: &[u8]) -> Result<Option<ClusterTime>> {
        let time = wire::time(event, "clusterTime")?;
        let operation = wire::text(event, "operationType")?.unwrap_or_default();
        let place = match wire::document(event, "ns")? {
            Some(place) => (wire::text(place, "db")?, wire::text(place, "coll")?),
            None => (None, None),
        };
        let (database, name) = (place.0.unwrap_or_default(), place.1.unwrap_or_default());
        if !matches!(operation.as_str(), "insert" | "update" | "replace" | "delete") {
            if !name.starts_with("system.") || name == "system.js" {
                let place = crate::source::dotted_name(&database, &name);
                let mut heard = locked(&self.shared.heard);
                heard.definition.get_or_insert_with(|| format!("{operation} on {place}"));
                if let Some((collection, _)) = heard.find(&database, &name)
                    && !STAYING.contains(&operation.as_str())
                {
                    // Of an event that tells no time none is known to be later.
                    let at = time.unwrap_or(ClusterTime(u64::MAX));
                    let known = heard.moved.entry(collection).or_default();
                    *known = at.max(*known);
                }
            }
            return Ok(time);
        }
        let mut heard = locked(&self.shared.heard);
        let Some((collection, tracking)) = heard.find(&database, &name) else { return Ok(time) };
        let at = time.ok_or_else(|| Error::new(ErrorKind::Internal, "a change without a time"))?;
        let id = match (tracking, wire::document(event, "documentKey")?) {
            (Tracking::ById, Some(key)) => Id::of(key),
            _ => None,
        };
        match id {
            Some(id) => {
                let key = id.key(&self.shared.row_key)?;
                heard.pending.push(&Change { collection, key, id, time: at })?;
            }
            None => heard.pending.push_whole(collection, at),
        }
        Ok(time)
    }
}

/// The time a resume token stands at, where it is written as MongoDB writes it: hexadecimal, a type
/// byte, then seconds and counter.
fn time_of(token: &[u8]) -> Result<Option<ClusterTime>> {
    const TIMESTAMP: &str = "82";
    let Some(text) = wire::text(token, "_data")? else { return Ok(None) };
    let digits = text.strip_prefix(TIMESTAMP).and_then(|rest| rest.get(..16));
    let time = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(ClusterTime);
    // No cluster is older than MongoDB: what says so is no time.
    Ok(time.filter(|time| time.seconds() >= 1_200_000_000))
}

fn ended() -> Error {
    catalog::changed("a database was dropped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_mongodb_tell_their_time() {
        let token = |text: &str| RawDocumentBuf::try_from(&doc! { "_data": text }).unwrap().into_bytes();
        let time = time_of(&token("8263F5A1B2000000012B0229296E04")).unwrap();
        assert_eq!(time, Some(ClusterTime(0x63F5_A1B2_0000_0001)));
        assert_eq!(time_of(&token("2B0000001273000D")).unwrap(), None);
        assert_eq!(time_of(&token("82")).unwrap(), None);
        assert_eq!(time_of(&token("820000001273000D0000000000000000")).unwrap(), None);
    }
}
