//! One process on a store that fails, and on one whose files were damaged.
//!
//! The [simulation](crate::simulation) is about many processes and what they do to each other; here
//! every single call fails once, and every kind of file is damaged in every way. Snapshots are the
//! simulation's: a few collections in a few versions.

mod anew;
mod damage;
mod disk;
mod missing;
mod nth;
mod resume;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use repo_format::id::SnapshotId;
use repo_format::prune::Thresholds;

use crate::clock::{Clock, Sleep};
use crate::context::Context;
use crate::error::Result;
use crate::prune::{self, Options};
use crate::repo::{Repository, Session, Snapshot, UnlockKey, Writer};
use crate::simulation::content::{self, Versions};
use crate::simulation::{Chance, Dice};

pub(crate) use disk::Disk;
use disk::{Fault, Files};

/// A clock for which waiting takes no time. Sessions give no signs of life, so that the number of
/// calls does not depend on how fast this computer is.
#[derive(Default)]
struct Leaping(AtomicU64);

impl Clock for Leaping {
    fn now_ms(&self) -> i64 {
        1_790_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed) as i64
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn sleep(&self, wait_ms: u64) -> Sleep {
        if wait_ms == crate::repo::BEAT_MS {
            return Box::pin(std::future::pending());
        }
        self.0.fetch_add(wait_ms, Ordering::Relaxed);
        Box::pin(tokio::task::yield_now())
    }
}

/// A process, and what it knows of the snapshots that were taken.
struct Process {
    disk: Disk,
    repo: Repository,
    ctx: Context,
}

/// What snapshots hold.
type Planned = BTreeMap<SnapshotId, Versions>;

thread_local! {
    /// How many processes a test has started: no two draw the same names.
    static STARTED: Cell<u64> = const { Cell::new(0) };
}

/// The surroundings of a process. Its randomness follows from how many there were before.
fn context() -> Context {
    let seed = STARTED.replace(STARTED.get() + 1);
    Context {
        clock: Arc::new(Leaping::default()),
        entropy: Arc::new(Dice(Mutex::new(Chance::new(seed << 32)))),
        ..Context::new("")
    }
}

fn key() -> UnlockKey {
    UnlockKey::new([7; 32])
}

impl Process {
    async fn create() -> Self {
        Self::create_on(Disk::default()).await.expect("because nothing fails yet")
    }

    async fn create_on(disk: Disk) -> Result<Self> {
        let ctx = context();
        let repo = Repository::create(disk.clone().into(), &key(), Path::new(""), &ctx).await?;
        Ok(Self { disk, repo, ctx })
    }

    async fn open(files: Files) -> Result<Self> {
        Self::open_on(Disk::new(files)).await
    }

    async fn open_on(disk: Disk) -> Result<Self> {
        let ctx = context();
        let repo = Repository::open(disk.clone().into(), &key(), Path::new(""), &ctx).await?;
        Ok(Self { disk, repo, ctx })
    }

    /// Takes a snapshot of these versions, after the newest one.
    async fn back_up(&self, versions: &Versions) -> Result<Snapshot> {
        let session = Session::begin(&self.repo, &self.ctx).await?;
        let snapshot = self.back_up_in(&session, versions).await;
        session.conclude(snapshot).await
    }

    async fn back_up_in(&self, session: &Session, versions: &Versions) -> Result<Snapshot> {
        let parent = self.repo.snapshots().await?.into_iter().next();
        let (objects, mut manifest) = content::snapshot(self.repo.keys(), versions)?;
        manifest.parent = parent.map(|parent| parent.id);
        manifest.started_ms = self.ctx.clock.now_ms();
        manifest.finished_ms = self.ctx.clock.now_ms();
        let writer = Writer::new(&self.repo);
        for (kind, id, plaintext) in objects {
            if writer.claim(id)? {
                writer.add_async(&writer.seal(kind, id, &plaintext)?).await?;
            }
        }
        writer.flush().await?;
        session.commit(manifest).await
    }

    /// Prunes whatever is worth anything.
    async fn prune(&self) -> Result<prune::Stats> {
        let thresholds =
            Thresholds { unneeded_percent: 1, small_packs: 2, small_indexes: 2, ..Thresholds::default() };
        prune::run(&self.repo, &Options { thresholds, ..Options::default() }, &self.ctx).await
    }

    async fn delete(&self, id: SnapshotId) -> Result<()> {
        self.repo.delete_snapshot(id, self.ctx.clock.as_ref()).await
    }
}
