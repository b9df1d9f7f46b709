//! What simulated processes do, and what they may fail with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repo_format::id::SnapshotId;
use repo_format::prune::Thresholds;

use crate::clock::random;
use crate::context::Context;
use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::prune::{self, Options, Stats};
use crate::repo::{Repository, Session, UnlockKey, Writer};
use crate::simulation::content::{self, Versions};
use crate::simulation::world::{Chance, Dice, Fate, Watch, World};

/// Suspended for less than this, a process must not be thought dead.
const HARMLESS_MS: u64 = 8 * 60_000;

/// What a process does, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Of ten things, how many are backups, reads and deletions; the rest are prunes.
    pub shares: [u64; 3],
    /// How many things it does.
    pub tasks: u64,
    /// Of a thousand objects, those after which a writer stores what it has.
    pub flushes: u64,
    /// How prunes choose.
    pub tastes: Tastes,
    /// How long they wait beside waiting for sessions.
    pub grace_ms: u64,
}

/// What prunes find worth deleting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tastes {
    /// Anything.
    Any,
    /// One of them nearly everything, the next nearly nothing: they decide differently on one run.
    Unequal,
}

/// What happened so far, as far as an all-seeing observer knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    /// What each session was going to commit.
    pub planned: BTreeMap<SnapshotId, Versions>,
    /// Commits that were reported to have succeeded.
    pub committed: BTreeSet<SnapshotId>,
    /// Snapshots that somebody tried to delete.
    pub deleted: BTreeSet<SnapshotId>,
    /// What must never happen.
    pub violations: Vec<String>,
    pub reads: u64,
    pub refused: u64,
    pub prunes: u64,
    pub removed: u64,
}

/// Shared by all actors.
#[derive(Clone)]
pub(super) struct Stage {
    pub world: World,
    pub book: Arc<Mutex<Book>>,
    pub key: [u8; 32],
}

impl Stage {
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The surroundings of a process. Without a scratch folder everything stays in memory.
    pub fn context(&self, process: usize, seed: u64) -> Context {
        Context {
            clock: Arc::new(Watch { world: self.world.clone(), process }),
            entropy: Arc::new(Dice(Mutex::new(Chance::new(seed)))),
            ..Context::new("")
        }
    }

    pub async fn open(&self, process: usize, ctx: &Context) -> Result<Repository> {
        let store = self.world.disk(process).into();
        Repository::open(store, &UnlockKey::new(self.key), Path::new(""), ctx).await
    }
}

/// One simulated process: it opens the repository and does some things, one after the other.
pub(super) async fn live(stage: Stage, process: usize, seed: u64, habits: Habits) {
    let ctx = stage.context(process, seed);
    let mut chance = Chance::new(seed ^ 1);
    let Ok(repo) = stage.open(process, &ctx).await else { return };
    let [backups, reads, deletions] = habits.shares;
    for _ in 0..habits.tasks {
        let dice = chance.below(10);
        let (what, outcome) = if dice < backups {
            ("a backup", back_up(&stage, &repo, &ctx, &mut chance, habits.flushes).await)
        } else if dice < backups + reads {
            ("a read", look(&stage, &repo, &ctx, &mut chance).await)
        } else if dice < backups + reads + deletions {
            ("a deletion", delete(&stage, &repo, &ctx, &mut chance).await)
        } else {
            (
                "a prune",
                prune(&stage, &repo, &ctx, &mut chance, habits.tastes, habits.grace_ms).await.map(drop),
            )
        };
        if let Err(error) = outcome {
            let fate = stage.world.fate(process);
            if !is_forgivable(&error, &fate) {
                stage.book().violations.push(format!("{what} of process {process} failed: {error}"));
            }
        }
    }
}

/// A failed call may fail an operation, and an operation that slept may have been ended.
fn is_forgivable(error: &Error, fate: &Fate) -> bool {
    match error.kind() {
        Kind::Storage | Kind::NotFound => true,
        // Signs of life that fail are silence, too.
        Kind::Ended => fate.longest_ms >= if fate.faults > 0 { HARMLESS_MS / 4 } else { HARMLESS_MS },
        _ => false,
    }
}

async fn back_up(
    stage: &Stage,
    repo: &Repository,
    ctx: &Context,
    chance: &mut Chance,
    flushes: u64,
) -> Result<()> {
    let versions = content::any_versions(chance);
    let session = Session::begin(repo, ctx).await?;
    let outcome = back_up_in(stage, repo, &session, &versions, chance, flushes).await;
    let id = session.id();
    let outcome = session.conclude(outcome).await;
    match &outcome {
        Ok(()) => drop(stage.book().committed.insert(id)),
        Err(error) if error.kind() == Kind::Ended => stage.book().refused += 1,
        Err(_) => {}
    }
    outcome
}

async fn back_up_in(
    stage: &Stage,
    repo: &Repository,
    session: &Session,
    versions: &Versions,
    chance: &mut Chance,
    flushes: u64,
) -> Result<()> {
    let (objects, mut manifest) = content::snapshot(repo.keys(), versions)?;
    // No two manifests are equal, as no two backups are.
    manifest.started_ms = chance.any() as i64 >> 1;
    stage.book().planned.insert(session.id(), *versions);
    let writer = Writer::new(repo);
    for (kind, id, plaintext) in objects {
        if writer.claim(id)? {
            writer.add_async(&writer.seal(kind, id, &plaintext)?).await?;
        }
        if chance.in_thousand(flushes) {
            writer.flush().await?;
        }
    }
    if is_planted(Defect::CommitBeforeIndex) {
        session.commit(manifest).await?;
        return writer.flush().await.map(drop);
    }
    writer.flush().await?;
    session.commit(manifest).await.map(drop)
}

/// Reads a snapshot in a session: it must succeed, whatever others do, as long as this process lives.
async fn look(stage: &Stage, repo: &Repository, ctx: &Context, chance: &mut Chance) -> Result<()> {
    let snapshots = repo.snapshots().await?;
    if snapshots.is_empty() {
        return Ok(());
    }
    let snapshot = &snapshots[chance.below(snapshots.len() as u64) as usize];
    let session = Session::begin_reading(repo, &[snapshot.id], ctx).await?;
    let read = content::read(repo, snapshot).await;
    let found = session.conclude(read).await?;
    let mut book = stage.book();
    book.reads += 1;
    if book.planned.get(&snapshot.id).map(content::content) != Some(found) {
        book.violations.push(format!("snapshot {} was read with other content", snapshot.id));
    }
    Ok(())
}

async fn delete(stage: &Stage, repo: &Repository, ctx: &Context, chance: &mut Chance) -> Result<()> {
    let snapshots = repo.snapshots().await?;
    // One is always left, so that there is something to lose.
    if snapshots.len() < 2 {
        return Ok(());
    }
    let id = snapshots[chance.below(snapshots.len() as u64) as usize].id;
    stage.book().deleted.insert(id);
    repo.delete_snapshot(id, ctx.clock.as_ref()).await
}

pub(super) async fn prune(
    stage: &Stage,
    repo: &Repository,
    ctx: &Context,
    chance: &mut Chance,
    tastes: Tastes,
    grace_ms: u64,
) -> Result<Stats> {
    let mut thresholds = Thresholds {
        unneeded_percent: 1 + chance.below(60),
        // Where nothing is small, what is needed again is not copied but stays.
        small_percent: if chance.in_thousand(500) { 0 } else { 25 },
        small_packs: 2 + chance.below(3) as usize,
        small_indexes: 2 + chance.below(3) as usize,
    };
    if tastes == Tastes::Unequal {
        (thresholds.unneeded_percent, thresholds.small_percent) = (chance.one_of([1, 90]), 0);
    }
    let stats = prune::run(repo, &Options { thresholds, grace_ms, ..Options::default() }, ctx).await?;
    let mut book = stage.book();
    book.prunes += 1;
    book.removed += stats.objects_removed;
    Ok(stats)
}

/// A new repository with a short history, in packs that are small and partly needed.
pub(super) async fn found(stage: &Stage, process: usize) -> Result<()> {
    let ctx = stage.context(process, 1);
    let key = UnlockKey::new(stage.key);
    let store = stage.world.disk(process).into();
    let repo = Repository::create(store, &key, Path::new(""), &ctx).await?;
    let mut chance = Chance::new(2);
    for _ in 0..4 {
        back_up(stage, &repo, &ctx, &mut chance, 150).await?;
    }
    Ok(())
}

/// A key that every world has.
pub(super) fn key() -> [u8; 32] {
    random(&Dice(Mutex::new(Chance::new(0))))
}
