//! Carrying a restore in place out, or taking one back: lock, read, keep, write, prove, commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use repo_format::tree::Root;

use super::checks::listed;
use super::fit::{Chosen, Member, choose};
use super::proof::{notes, proven};
use super::write::{Delta, Target as Writing, deltas};
use super::{Standing, postgres};
use crate::backup;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::monitor::{Progress, Steps};
use crate::overlay::{self, Overlay};
use crate::reading::{Target, read_all, read_own};
use crate::repo::{Repository, Session, Snapshot, Writer};
use crate::restore::apply::{Conflicts, Restored, check_order};
use crate::restore::{Plan, Scope};
use crate::source::postgres::{self as source_postgres, PostgresUrl};
use crate::source::{DatabaseUrl, Source, sql_name};
use crate::target::postgres::in_place::{Surroundings, TableName, failed, set_sequences};

/// How long a transaction that is taken back may take to end before its connection is cut.
const ROLLBACK: Duration = Duration::from_secs(10);

/// What carries a restore in place out.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The phrase that was typed.
    pub confirm: &'a str,
    /// What the safety snapshot is of. Its URL leads to the target, with the right to write.
    pub request: &'a backup::Request,
}

/// Restores into the target's tables as planned. When this returns, they hold what was planned, and that is
/// proven; after an error they are as they were.
///
/// # Errors
/// [`Conflict`](Kind::Conflict) when the tables changed since the plan; [`Refused`](Kind::Refused) when the
/// server refused a row, or the proof showed differences.
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
    let address = postgres(&url, snapshot)?.clone();
    check_order(plan, order.confirm, &url)?;
    let standing = plan
        .in_place
        .as_ref()
        .ok_or_else(|| Error::new(Kind::Invalid, "the plan is for a restore into a new database"))?;
    let session = Session::begin(repo, ctx).await?;
    let steps = Arc::new(Steps::new(ctx.monitor.clone()));
    let ctx = Context { monitor: steps.clone(), ..ctx.clone() };
    let (request, sent) = (order.request, Arc::default());
    let attempt = Attempt {
        repo,
        snapshot,
        scope,
        standing,
        safety,
        request,
        url,
        address,
        session: &session,
        steps,
        ctx,
        sent,
    };
    let restored = attempt.run().await;
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
    pub(super) request: &'a backup::Request,
    pub(super) url: DatabaseUrl,
    pub(super) address: PostgresUrl,
    pub(super) session: &'a Session,
    pub(super) steps: Arc<Steps>,
    pub(super) ctx: Context,
    /// Records on their way.
    pub(super) sent: Arc<AtomicU64>,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<Restored> {
        let there = self.repo.snapshot_ids().await?;
        let needed = std::iter::once(self.snapshot).chain(self.safety);
        if let Some(gone) = needed.into_iter().find(|snapshot| !there.contains(&snapshot.id)) {
            return Err(Error::new(Kind::NotFound, format!("there is no snapshot {}", gone.id)));
        }
        let chosen = choose(self.scope, self.repo, self.snapshot).await?;
        self.tell("locking the tables");
        let mut guarded = self.standing.names();
        guarded.extend(self.standing.bystanders.iter().cloned());
        let source = self.unless_cancelled(self.lock(guarded)).await?;
        let Source::Postgres(target) = &source else {
            return Err(Error::new(Kind::Internal, "a PostgreSQL database was opened as another"));
        };
        let guard = target.holder().cancel_guard();
        let done = self.unless_cancelled(self.write_and_prove(&source, target, &chosen)).await;
        match done {
            Ok(restored) => {
                self.commit(target).await?;
                guard.disarm();
                Ok(restored)
            }
            Err(error) => {
                // A statement that still runs is cancelled first.
                match error.kind() {
                    Kind::Cancelled => drop(guard),
                    _ => guard.disarm(),
                }
                let ended = tokio::time::timeout(ROLLBACK, target.holder().run("ROLLBACK")).await;
                tracing::debug!(ended = matches!(ended, Ok(Ok(()))), "a restore in place was taken back");
                Err(match error.kind() {
                    Kind::Cancelled => {
                        error.with_help("Nothing was changed: what was written was taken back.")
                    }
                    _ => error,
                })
            }
        }
    }

    async fn lock(&self, guarded: Vec<TableName>) -> Result<Source> {
        let around = Surroundings::look(&self.address).await?;
        let may_write = |table: &&TableName| around.tables.get(*table).is_some_and(|rights| rights.may_write);
        let not: Vec<String> = guarded
            .iter()
            .filter(|table| !may_write(table))
            .map(|table| sql_name(&table.0, &table.1))
            .collect();
        if !not.is_empty() {
            let message =
                format!("{} lacks SELECT, INSERT, UPDATE or DELETE on {}", around.user, listed(&not));
            return Err(Error::new(Kind::Denied, message).with_help("Use the owner of the tables."));
        }
        Source::begin_guarded(&self.address, self.ctx.workers, guarded, &self.ctx).await
    }

    /// Up to here everything can be taken back. A commit whose answer is lost may have come into effect.
    async fn commit(&self, target: &source_postgres::Snapshot) -> Result<()> {
        target.holder().run("COMMIT").await.map_err(|error| match error.as_db_error() {
            Some(_) => failed("committing", error),
            None => Error::new(Kind::Unreachable, "the connection was lost while the restore was committed")
                .with_help(
                    "It is not known whether it came into effect: compare the database with the snapshot before you \
                     restore again. The safety snapshot holds what was there before.",
                )
                .with_source(error),
        })
    }

    async fn write_and_prove(
        &self,
        source: &Source,
        target: &source_postgres::Snapshot,
        chosen: &[Chosen],
    ) -> Result<Restored> {
        let held = self.look(source, target, chosen).await?;
        let targets: Vec<Target> = (held.fit.members.iter().map(Member::target))
            .chain(held.bystanders.iter().map(Target::from))
            .collect();
        let writer = Writer::new(self.repo);
        let output = Output::Repository(writer.clone());
        let read = read_all(source, &targets, self.repo, &output, "reading the target", &self.ctx);
        let trees = read.await?;
        output.settle().await?;
        let live: Vec<Root> = trees.iter().map(|tree| tree.root).collect();
        let overlay = Overlay::new(self.repo, overlay::MOST_BYTES, &self.ctx)?;
        let (goals, conflicts) = match self.safety {
            None => (self.goals_of_restore(&held, &live, &overlay).await?, Conflicts::default()),
            Some(safety) => self.goals_of_undo(safety, &held, &live, &overlay).await?,
        };
        let tables = held.fit.members.iter().cloned().zip(live.iter().copied()).zip(goals);
        let tables = tables.map(|((member, live), goal)| (member, live, goal)).collect();
        let deltas = deltas(self.repo, &overlay, tables).await?;
        let sequences = self.sequences(&held);
        let safety_snapshot = if deltas.iter().all(Delta::is_empty) && sequences.is_empty() {
            None
        } else {
            Some(self.keep(source, &held, &trees, &writer).await?.id.to_string())
        };
        target.dismiss_workers().await;
        let writing = Writing {
            repo: self.repo,
            snapshot: target,
            around: &held.around,
            overlay: &overlay,
            sent: &self.sent,
        };
        writing.write(&deltas, |phase| self.tell(phase)).await?;
        let left = set_sequences(target.holder(), &held.around, &sequences).await?;
        self.tell("proving");
        let found =
            read_own(target, &targets, self.repo, &Output::Overlay(overlay.clone()), &self.ctx).await?;
        let collections = self.compare(&held, &deltas, &live, found, &overlay).await?;
        let proof = proven(collections, &held)?;
        let records = deltas.iter().map(Delta::differing).sum();
        let notes = notes(&held, &deltas, left);
        Ok(Restored { proof, records, notes, safety_snapshot, conflicts })
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
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
