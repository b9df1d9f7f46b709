//! Sessions: how everybody who relies on objects says so.
//!
//! A session file is created first, and only then are prunes and index files listed. Whoever
//! deletes objects publishes what it will delete and then waits for every session it finds: so
//! either it sees this session and waits, or this session sees what is condemned and does not rely
//! on it.
//!
//! A session shows that it lives by further files. One that has shown nothing for long is ended by
//! whoever waits for it: a tombstone takes the name that its commit needs. So a process that slept
//! cannot commit what others have stopped protecting; it fails, and says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use repo_format::files;
use repo_format::id::SnapshotId;
use repo_format::manifest::Manifest;
use repo_format::prune::moment;
use repo_format::session::{Beginning, Purpose, tombstone};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::clock::{Clock, random};
use crate::context::Context;
use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::repo::{Mark, Repository, Snapshot};
use crate::store::Created;

/// A sign of life is given so often.
pub(crate) const BEAT_MS: u64 = 60_000;

/// A session without a sign of life for so long, by the clock of whoever waits for it, is dead.
pub(crate) const DEAD_MS: u64 = 15 * 60_000;

/// A session, open until [`close`](Session::close) or until it is dropped, as with a request that nobody
/// waits for any more. A process that dies leaves its file behind.
pub struct Session {
    repository: Repository,
    id: SnapshotId,
    purpose: Purpose,
    clock: Arc<dyn Clock>,
    beats: Arc<AtomicU64>,
    beating: JoinHandle<()>,
    /// Whether a commit may still come into effect although nobody waits for it any more.
    unsettled: AtomicBool,
    is_closed: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Session {
    /// Begins a session that may commit a snapshot, and brings the key epoch and the index up to date.
    pub async fn begin(repository: &Repository, ctx: &Context) -> Result<Self> {
        Self::open(repository, Purpose::Commit, ctx).await
    }

    /// Begins a session that only reads these snapshots. One that is deleted by now is
    /// [`Kind::NotFound`]; one that is deleted later can be read until the session ends.
    pub async fn begin_reading(
        repository: &Repository,
        snapshots: &[SnapshotId],
        ctx: &Context,
    ) -> Result<Self> {
        let session = Self::open(repository, Purpose::Read, ctx).await?;
        let all_there = async {
            let there = if snapshots.is_empty() { Vec::new() } else { repository.snapshot_ids().await? };
            match snapshots.iter().find(|id| !there.contains(id)) {
                Some(id) => Err(Error::new(Kind::NotFound, format!("there is no snapshot {id}"))),
                None => Ok(()),
            }
        };
        match all_there.await {
            Ok(()) => Ok(session),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    async fn open(repository: &Repository, purpose: Purpose, ctx: &Context) -> Result<Self> {
        if is_planted(Defect::ListBeforeSession) {
            repository.refresh_index().await?;
        }
        let id = SnapshotId(random(ctx.entropy.as_ref()));
        let beginning = Beginning { began_ms: ctx.clock.now_ms(), purpose };
        let name = files::session(id);
        if let Err(error) = repository.create_random(&name, &beginning.to_bytes()).await {
            // It may be there all the same, and whoever prunes would wait for it.
            drop(repository.store().delete(&name).await);
            return Err(error);
        }
        let beats = Arc::new(AtomicU64::new(0));
        let beating = tokio::spawn(beat(repository.clone(), id, ctx.clock.clone(), beats.clone()));
        let (repository, clock, unsettled) = (repository.clone(), ctx.clock.clone(), AtomicBool::new(false));
        let session = Self { repository, id, purpose, clock, beats, beating, unsettled, is_closed: false };
        if is_planted(Defect::ListBeforeSession) {
            return Ok(session);
        }
        let refreshed = async {
            session.repository.refresh_epoch().await?;
            session.repository.refresh_index().await?;
            match purpose {
                // What a killed backup stored is used again.
                Purpose::Commit => session.repository.index_unindexed().await,
                Purpose::Read => Ok(()),
            }
        };
        match refreshed.await {
            Ok(()) => Ok(session),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    /// The id of the snapshot that this session may commit.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Creates the manifest: the one point at which a snapshot comes into being. When the outcome
    /// of the creation is not known, what is there decides.
    pub async fn commit(&self, manifest: Manifest) -> Result<Snapshot> {
        if self.purpose != Purpose::Commit {
            return Err(Error::new(Kind::Internal, "a session that only reads cannot commit"));
        }
        let name = files::snapshot(self.id);
        let plain = manifest.to_bytes();
        // Until the outcome is known, this session must not look ended.
        self.unsettled.store(true, Ordering::Relaxed);
        let mut created = self.repository.create_file(&name, &plain).await;
        if created.is_err() {
            // The failure may have come after the file was there. Trying again tells, and makes
            // sure that what is there is durable.
            created = self.repository.create_file(&name, &plain).await;
        }
        let is_committed = match created {
            Ok((Created::New, _)) => true,
            Ok((Created::Taken, _)) => self.read_back(&name).await?.is_some_and(|found| found == plain),
            // An attempt that failed here may yet arrive there, and must not once nobody protects
            // its objects. So the name is taken: either it was committed before, or it never is.
            Err(error) => match self.repository.create_file(&name, &tombstone(self.clock.now_ms())).await {
                Ok((Created::New, _)) => {
                    self.unsettled.store(false, Ordering::Relaxed);
                    return Err(error);
                }
                Ok((Created::Taken, _)) => match self.read_back(&name).await? {
                    Some(found) if found == plain => true,
                    // Our own tombstone, whose creation was reported late, or somebody else's.
                    _ => {
                        self.unsettled.store(false, Ordering::Relaxed);
                        return Err(error);
                    }
                },
                Err(_) => return Err(error),
            },
        };
        if !is_committed {
            self.unsettled.store(false, Ordering::Relaxed);
            return Err(ended());
        }
        // While its session is there the snapshot may have no mark; who ends the session makes it.
        let now_ms = self.clock.now_ms();
        let mut marked = self.repository.create_first_mark(self.id, now_ms).await;
        if marked.is_err() {
            marked = self.repository.create_first_mark(self.id, now_ms).await;
        }
        match marked {
            Ok(()) => self.unsettled.store(false, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(snapshot = %self.id, %error, "the first mark of a snapshot could not be made");
            }
        }
        Ok(Snapshot { id: self.id, manifest, mark: Mark::default() })
    }

    async fn read_back(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.repository.store().read(name).await {
            Ok(sealed) => Ok(self.repository.open_file(name, &sealed).ok()),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the session and passes on what was done in it. Damage that comes of this session having
    /// been ended by somebody else is told as that.
    pub async fn conclude<T>(self, outcome: Result<T>) -> Result<T> {
        let outcome = match outcome {
            Err(error) if error.kind() == Kind::Damaged => {
                let file = self.repository.store().read(&files::session(self.id)).await;
                match file {
                    Err(gone) if gone.kind() == Kind::NotFound => Err(ended().with_source(error)),
                    // Whether it was ended cannot be told: so neither can damage.
                    Err(unknown) => Err(unknown.with_source(error)),
                    Ok(_) => Err(error),
                }
            }
            outcome => outcome,
        };
        self.close().await;
        outcome
    }

    /// Ends the session. A file that cannot be removed only delays deletion of old objects.
    pub async fn close(mut self) {
        self.is_closed = true;
        self.beating.abort();
        // Until it has stopped it holds the repository, and with it the file of its cache.
        drop((&mut self.beating).await);
        if let Some(names) = self.files() {
            remove(&self.repository, self.id, names).await;
        }
    }

    /// The files that go with the session; none as long as it must not look ended.
    fn files(&self) -> Option<Vec<String>> {
        if !is_planted(Defect::CloseUnsettled) && self.unsettled.load(Ordering::Relaxed) {
            tracing::warn!(session = %self.id, "it is not known whether a snapshot was committed");
            return None;
        }
        let last = self.beats.load(Ordering::Relaxed);
        let beats = (last.saturating_sub(1).max(1)..=last + 1).filter(|_| last > 0);
        let beats = beats.map(|n| files::beat(self.id, n));
        Some(std::iter::once(files::session(self.id)).chain(beats).collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        self.beating.abort();
        // Else every prune would wait for it until it counts as dead.
        if let (Ok(runtime), Some(names)) = (Handle::try_current(), self.files()) {
            let (repository, id) = (self.repository.clone(), self.id);
            runtime.spawn(async move { remove(&repository, id, names).await });
        }
    }
}

async fn remove(repository: &Repository, id: SnapshotId, names: Vec<String>) {
    for name in names {
        if let Err(error) = repository.store().delete(&name).await {
            tracing::warn!(session = %id, %error, "a session file could not be removed");
        }
    }
}

/// Gives signs of life, and takes the older ones away.
async fn beat(repository: Repository, id: SnapshotId, clock: Arc<dyn Clock>, beats: Arc<AtomicU64>) {
    loop {
        clock.sleep(BEAT_MS).await;
        let n = beats.load(Ordering::Relaxed) + 1;
        match repository.create_file(&files::beat(id, n), &moment(clock.now_ms())).await {
            Ok(_) => {
                beats.store(n, Ordering::Relaxed);
                if n > 1 && repository.store().delete(&files::beat(id, n - 1)).await.is_err() {
                    tracing::debug!(session = %id, "an old sign of life stays until the next prune");
                }
            }
            // Fifteen of these in a row would have to fail before anybody thinks it dead.
            Err(error) => tracing::warn!(session = %id, %error, "a sign of life could not be given"),
        }
    }
}

fn ended() -> Error {
    Error::new(
        Kind::Ended,
        "this was ended by another process, because it had shown no sign of life for 15 minutes",
    )
    .with_help("Start it again; what a backup stored is used again. Did the computer sleep?")
}
