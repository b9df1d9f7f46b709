//! Deleting what no snapshot needs, beside writers and readers, without a lock.
//!
//! A prune has three parts, each of which another process may take over where this one stops:
//!
//! 1. `draft` counts what is needed and publishes what may go, as `gc/<n>`.
//! 2. `judge` waits for every session that may not know of that, counts again, copies what is
//!    needed out of packs that are mostly unneeded, and publishes the verdict.
//! 3. `execute` deletes what the verdict says, and nothing else.
//!
//! Safety rests on waiting for sessions, not on clocks. A prune holds no session while it waits, or
//! two of them would wait for each other; nothing but a verdict deletes, and whoever finds a verdict
//! drops its own count.

mod draft;
mod execute;
mod judge;
pub(crate) mod needed;
pub(crate) mod reach;
mod sessions;
mod tally;

use std::sync::Arc;

use repo_format::files::PruneFile;
use repo_format::prune::Thresholds;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::monitor::Steps;
use crate::repo::Repository;
use draft::Published;

/// How a prune is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only says what would go.
    pub dry_run: bool,
    /// Waits so long after saying what may go, beside waiting for sessions. A prune that would have
    /// to wait for more than a minute ends, and the next one goes on where it ended.
    pub grace_ms: u64,
    /// When packs are worth rewriting.
    pub thresholds: Thresholds,
}

/// What a prune did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Deleted snapshots whose manifests went, or would go.
    pub snapshots_removed: u64,
    /// Objects that no snapshot needs, in the packs that were condemned.
    pub objects_condemned: u64,
    /// Bytes that go with those packs, less what is copied out of them first.
    pub bytes_condemned: u64,
    /// Objects that went.
    pub objects_removed: u64,
    /// Bytes of deleted files, less those of files written instead.
    pub bytes_freed: u64,
    /// Bytes of packs that stay.
    pub bytes_kept: u64,
    /// Whether a grace time has yet to pass before the rest is done.
    pub is_waiting: bool,
}

/// Prunes a repository. An error leaves it whole: the next prune goes on.
pub async fn run(repo: &Repository, options: &Options, ctx: &Context) -> Result<Stats> {
    let steps = Arc::new(Steps::new(ctx.monitor.clone()));
    let ctx = Context { monitor: steps.clone(), ..ctx.clone() };
    let prune = Prune { repo, options, ctx, steps };
    if options.dry_run {
        return Ok(prune.draft().await?.stats);
    }
    repo.store().sweep().await?;
    let mut stats = Stats::default();
    // What others began is ended first; then one prune of our own.
    for _ in 0..ROUNDS {
        let Some(n) = prune.open_run().await? else {
            let (published, drafted) = prune.publish().await?;
            match published {
                Published::Run(n) => return prune.end(n, drafted).await,
                Published::Nothing => {
                    // What was done for others, and what stays.
                    return Ok(Stats { bytes_kept: drafted.bytes_kept, ..stats });
                }
                // Theirs is ended first.
                Published::Behind => continue,
            }
        };
        stats = prune.end(n, Stats::default()).await?;
        if stats.is_waiting {
            return Ok(stats);
        }
    }
    Ok(stats)
}

/// Prunes of others that are ended before this one gives up.
const ROUNDS: usize = 4;

struct Prune<'a> {
    repo: &'a Repository,
    options: &'a Options,
    ctx: Context,
    steps: Arc<Steps>,
}

impl Prune<'_> {
    /// The prune that was begun and is not done.
    async fn open_run(&self) -> Result<Option<u64>> {
        let prunes = self.repo.prunes().await?;
        Ok(prunes.last().filter(|(_, files)| !files.contains(&PruneFile::Done)).map(|(n, _)| n))
    }

    /// Brings a prune to its end: whoever's it is, and however far it is.
    async fn end(&self, n: u64, mut stats: Stats) -> Result<Stats> {
        match self.judge(n).await {
            Ok(judged) => {
                let Some(mut judged) = judged else {
                    return Ok(Stats { is_waiting: true, ..stats });
                };
                let refused = judged.refused.take();
                self.execute(n, judged, &mut stats).await?;
                refused.map_or(Ok(stats), Err)
            }
            // While this one counted, another may have ended the prune under its hands.
            Err(error) if is_disturbed(&error) && self.has_verdict(n).await? => {
                self.execute(n, judge::Judged::default(), &mut stats).await?;
                Ok(stats)
            }
            Err(error) => Err(error),
        }
    }

    async fn has_verdict(&self, n: u64) -> Result<bool> {
        let prunes = self.repo.prunes().await?;
        Ok(prunes.0.get(&n).is_some_and(|files| files.contains(&PruneFile::Verdict)))
    }
}

/// Whether something that was there is not, which is also what another process's prune looks like.
fn is_disturbed(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::NotFound)
}

fn damaged(what: String) -> Error {
    Error::new(Kind::Damaged, format!("nothing was deleted, because {what}")).with_help(
        "Run a full verify. A new backup heals what can be read again; a damaged snapshot that is not \
         needed can be deleted.",
    )
}
