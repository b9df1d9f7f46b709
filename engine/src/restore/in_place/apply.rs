//! Carrying a restore in place out, or taking one back, whatever the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use repo_format::id::SnapshotId;

use super::checks::listed;
use super::fit::{Chosen, choose};
use super::{Standing, check_engine, mongodb, postgres};
use crate::backup;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::monitor::{Progress, Steps};
use crate::repo::{Repository, Session, Snapshot};
use crate::restore::apply::{Conflicts, Restored, check_order};
use crate::restore::{Plan, Scope};
use crate::source::DatabaseUrl;

/// How far a restore may have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The snapshot of what was there before.
    pub safety: SnapshotId,
    /// Records that it wrote, of those that differed and in the order in which restores write.
    pub records: u64,
}

/// Notes down how far a restore comes: before each of its transactions takes effect, and after one that
/// turned out not to. What it returns decides whether the restore goes on: one that ends half-way can be taken
/// back only by who knows of it.
pub type NoteDown = dyn Fn(Reached) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// A restore that is taken back.
#[derive(Clone, Copy, Debug)]
pub struct Back<'a> {
    /// The snapshot of what was there before.
    pub safety: &'a Snapshot,
    /// Records that it wrote, as [noted down](NoteDown); all that differed where nobody knows.
    pub records: Option<u64>,
}

/// What carries a restore in place out.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The phrase that was typed.
    pub confirm: &'a str,
    /// What the safety snapshot is of. Its URL leads to the target, with the right to write.
    pub request: &'a backup::Request,
    /// Notes down how far it comes.
    pub note: &'a NoteDown,
}

impl std::fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Restores into the target's collections as planned. When this returns everything was written, and the
/// proof says what is there. After an error PostgreSQL's tables are as they were; of MongoDB's collections the
/// error says whether anything was written.
///
/// # Errors
/// [`Conflict`](Kind::Conflict) when the collections changed since the plan; [`Refused`](Kind::Refused) when
/// the server refused a record, or PostgreSQL's proof showed differences.
pub async fn apply_in_place(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    plan: &Plan,
    order: &Order<'_>,
    ctx: &Context,
) -> Result<Restored> {
    start(repo, snapshot, scope, plan, None, order, ctx).await
}

/// Takes a restore in place back: what it wrote becomes what its safety snapshot holds. Records that changed
/// since then stay, and are told as conflicts.
///
/// # Errors
/// As [`apply_in_place`].
pub async fn undo(
    repo: &Repository,
    snapshot: &Snapshot,
    back: &Back<'_>,
    scope: &Scope,
    plan: &Plan,
    order: &Order<'_>,
    ctx: &Context,
) -> Result<Restored> {
    start(repo, snapshot, scope, plan, Some(back), order, ctx).await
}

async fn start(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    plan: &Plan,
    back: Option<&Back<'_>>,
    order: &Order<'_>,
    ctx: &Context,
) -> Result<Restored> {
    let url = DatabaseUrl::parse(&order.request.url)?.within(ctx.addresses);
    check_engine(&url, snapshot)?;
    check_order(plan, order.confirm, &url)?;
    let standing = plan
        .in_place
        .as_ref()
        .ok_or_else(|| Error::new(Kind::Invalid, "the plan is for a restore into a new database"))?;
    let session = Session::begin(repo, ctx).await?;
    let steps = Arc::new(Steps::new(ctx.monitor.clone()));
    let ctx = Context { monitor: steps.clone(), ..ctx.clone() };
    let (sent, session_ref) = (Arc::default(), &session);
    let attempt =
        Attempt { repo, snapshot, scope, standing, back, order, url, session: session_ref, steps, ctx, sent };
    let restored = async {
        attempt.check_snapshots().await?;
        let chosen = choose(scope, repo, snapshot, &attempt.url).await?;
        attempt.run(chosen).await
    };
    let restored = restored.await;
    session.conclude(restored).await
}

/// One attempt to carry a restore out, or to take one back.
pub(super) struct Attempt<'a> {
    pub(super) repo: &'a Repository,
    pub(super) snapshot: &'a Snapshot,
    pub(super) scope: &'a Scope,
    pub(super) standing: &'a Standing,
    /// The restore that is taken back, if that is what it does.
    pub(super) back: Option<&'a Back<'a>>,
    pub(super) order: &'a Order<'a>,
    pub(super) url: DatabaseUrl,
    pub(super) session: &'a Session,
    pub(super) steps: Arc<Steps>,
    pub(super) ctx: Context,
    /// Records on their way.
    pub(super) sent: Arc<AtomicU64>,
}

impl Attempt<'_> {
    async fn run(&self, chosen: Vec<Chosen>) -> Result<Restored> {
        match &self.url {
            DatabaseUrl::Postgres(address) => postgres::restore(self, address, chosen).await,
            DatabaseUrl::MongoDb(address) => mongodb::restore(self, address, chosen).await,
        }
    }

    async fn check_snapshots(&self) -> Result<()> {
        let there = self.repo.snapshot_ids().await?;
        let needed = std::iter::once(self.snapshot).chain(self.back.map(|back| back.safety));
        match needed.into_iter().find(|snapshot| !there.contains(&snapshot.id)) {
            Some(gone) => Err(Error::new(Kind::NotFound, format!("there is no snapshot {}", gone.id))),
            None => Ok(()),
        }
    }

    pub(super) async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.ctx.cancel.cancelled() => Err(Error::cancelled()),
            result = work => result,
        }
    }

    /// The error for what is not as it was planned, or as the restore left it that is taken back.
    pub(super) fn changed(&self, what: &str) -> Error {
        let (since, help) = match self.back {
            None => ("the restore was planned", "Nothing was written. Plan again, and look at what changed."),
            Some(_) => (
                "the restore",
                "Nothing was written. The safety snapshot holds what was there before: restore what you need of it.",
            ),
        };
        Error::new(Kind::Conflict, format!("the target changed since {since}: {what}")).with_help(help)
    }

    /// What to do when what is in the way is gone.
    pub(super) fn again(&self) -> &'static str {
        match self.back {
            None => "Plan again once that is mended.",
            Some(_) => "Undo the restore again once that is mended.",
        }
    }

    /// An error of writing. What stays as it is, since it changed after the restore that is taken back, may
    /// hold a value that is allowed once, or what another record needs.
    pub(super) fn beside(&self, conflicts: &Conflicts, error: Error) -> Error {
        if conflicts.count == 0 || error.kind() != Kind::Refused {
            return error;
        }
        let named = listed(&conflicts.examples);
        let help = format!(
            "Records that changed since the restore stay as they are, and one of them may be in the way ({named}). \
             Change it, then undo the restore again, or restore single records of the safety snapshot."
        );
        let message = error.message().to_owned();
        Error::new(Kind::Refused, message).with_help(help).with_source(error)
    }

    pub(super) fn tell(&self, phase: &str) {
        self.ctx.monitor.progress(&Progress {
            phase: phase.to_owned(),
            records: self.sent.load(Ordering::Relaxed),
            ..Progress::default()
        });
    }
}
