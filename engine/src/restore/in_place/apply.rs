//! Carrying a restore in place out, or taking one back, whatever the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use repo_format::id::SnapshotId;

use super::fit::{Chosen, choose};
use super::{Standing, check_engine, mongodb, postgres};
use crate::backup;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::monitor::{Progress, Steps};
use crate::repo::{Repository, Session, Snapshot};
use crate::restore::apply::{Restored, check_order};
use crate::restore::{Plan, Scope};
use crate::source::DatabaseUrl;

/// Hears of a safety snapshot once it is committed, before anything is written. What it returns decides
/// whether anything is: a restore that ends half-way can be taken back only by who knows the snapshot.
pub type Kept = dyn Fn(SnapshotId) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// What carries a restore in place out.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The phrase that was typed.
    pub confirm: &'a str,
    /// What the safety snapshot is of. Its URL leads to the target, with the right to write.
    pub request: &'a backup::Request,
    /// Hears of the safety snapshot, before anything that is written takes effect.
    pub kept: &'a Kept,
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

/// Takes a restore in place back: what it wrote becomes what `safety`, its safety snapshot, holds. Records
/// that changed since then stay, and are told as conflicts.
///
/// # Errors
/// As [`apply_in_place`].
pub async fn undo(
    repo: &Repository,
    snapshot: &Snapshot,
    safety: &Snapshot,
    scope: &Scope,
    plan: &Plan,
    order: &Order<'_>,
    ctx: &Context,
) -> Result<Restored> {
    start(repo, snapshot, scope, plan, Some(safety), order, ctx).await
}

async fn start(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    plan: &Plan,
    safety: Option<&Snapshot>,
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
    let attempt = Attempt {
        repo,
        snapshot,
        scope,
        standing,
        safety,
        order,
        url,
        session: session_ref,
        steps,
        ctx,
        sent,
    };
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
    /// The safety snapshot of the restore that is taken back.
    pub(super) safety: Option<&'a Snapshot>,
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
        let needed = std::iter::once(self.snapshot).chain(self.safety);
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

    pub(super) fn tell(&self, phase: &str) {
        self.ctx.monitor.progress(&Progress {
            phase: phase.to_owned(),
            records: self.sent.load(Ordering::Relaxed),
            ..Progress::default()
        });
    }
}
