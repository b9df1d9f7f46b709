//! Restoring into PostgreSQL's tables: lock, read, keep, write, prove, commit. Whatever fails, the
//! transaction is taken back.

mod checks;
mod held;
mod proof;
mod write;

use std::time::Duration;

use repo_format::tree::Root;

use super::Reached;
use super::apply::Attempt;
use super::checks::listed;
use super::delta::{Delta, deltas};
use super::fit::{Chosen, Member};
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::overlay::{self, Overlay};
use crate::reading::{Target, read_all, read_own};
use crate::repo::Writer;
use crate::restore::apply::Restored;
use crate::source::postgres::{self as source_postgres, PostgresUrl};
use crate::source::{Source, sql_name};
use crate::target::postgres::in_place::{Surroundings, TableName, failed, set_sequences};

pub(super) use checks::checks;
use proof::{notes, proven};

/// How long a transaction that is taken back may take to end before its connection is cut.
const ROLLBACK: Duration = Duration::from_secs(10);

/// Carries a restore out.
pub(super) async fn restore(
    attempt: &Attempt<'_>,
    address: &PostgresUrl,
    chosen: Vec<Chosen>,
) -> Result<Restored> {
    Locking { attempt, address, chosen }.run().await
}

/// The error of a transaction that was taken back.
fn unchanged(error: Error) -> Error {
    const NOTHING: &str = "Nothing was changed";
    let help = match error.help() {
        Some(help) if help.contains("Nothing was") => return error,
        Some(help) => format!("{NOTHING}. {help}"),
        None => format!("{NOTHING}."),
    };
    error.with_help(help)
}

/// An attempt whose tables are locked.
struct Locking<'a> {
    attempt: &'a Attempt<'a>,
    address: &'a PostgresUrl,
    chosen: Vec<Chosen>,
}

impl Locking<'_> {
    async fn run(&self) -> Result<Restored> {
        let attempt = self.attempt;
        attempt.tell("locking the tables");
        let mut guarded = attempt.standing.names();
        guarded.extend(attempt.standing.bystanders.iter().cloned());
        let source = attempt.unless_cancelled(self.lock(guarded)).await?;
        let Source::Postgres(target) = &source else {
            return Err(Error::new(Kind::Internal, "a PostgreSQL database was opened as another"));
        };
        let guard = target.holder().cancel_guard();
        let done = attempt.unless_cancelled(self.write_and_prove(&source, target)).await;
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
                    _ => unchanged(error),
                })
            }
        }
    }

    async fn lock(&self, guarded: Vec<TableName>) -> Result<Source> {
        let around = Surroundings::look(self.address).await?;
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
        let ctx = &self.attempt.ctx;
        Source::begin_guarded(self.address, ctx.workers, guarded, ctx).await
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

    async fn write_and_prove(&self, source: &Source, target: &source_postgres::Snapshot) -> Result<Restored> {
        let attempt = self.attempt;
        let (repo, ctx) = (attempt.repo, &attempt.ctx);
        let held = self.look(source, target).await?;
        let targets: Vec<Target> = (held.fit.members.iter().map(Member::target))
            .chain(held.bystanders.iter().map(Target::from))
            .collect();
        let writer = Writer::new(repo);
        let output = Output::Repository(writer.clone());
        let trees = read_all(source, &targets, repo, &output, "reading the target", ctx).await?;
        output.settle().await?;
        let live: Vec<Root> = trees.iter().map(|tree| tree.root).collect();
        let overlay = Overlay::new(repo, overlay::MOST_BYTES, ctx)?;
        let (goals, conflicts) = attempt.goals(&held.fit, &live, &overlay).await?;
        let tables = held.fit.members.iter().cloned().zip(live.iter().copied()).zip(goals);
        let tables = tables.map(|((member, live), goal)| (member, live, goal)).collect();
        let deltas = deltas(repo, &overlay, tables).await?;
        let records = deltas.iter().map(Delta::differing).sum();
        let sequences = self.sequences(&held);
        let safety_snapshot = if deltas.iter().all(Delta::is_empty) && sequences.is_empty() {
            None
        } else {
            let kept = attempt.keep(source, &held.fit.members, &held.bystanders, &trees, &writer).await?;
            (attempt.order.note)(Reached { safety: kept, records }).await?;
            Some(kept.to_string())
        };
        target.dismiss_workers().await;
        let writing = write::Target {
            repo,
            snapshot: target,
            around: &held.around,
            overlay: &overlay,
            sent: &attempt.sent,
        };
        let wrote = writing.write(&deltas, |phase| attempt.tell(phase)).await;
        wrote.map_err(|error| attempt.beside(&conflicts, error))?;
        let left = set_sequences(target.holder(), &held.around, &sequences).await?;
        attempt.tell("proving");
        let found = read_own(target, &targets, repo, &Output::Overlay(overlay.clone()), ctx).await?;
        let collections = self.compare(&held, &deltas, &live, found, &overlay).await?;
        let proof = proven(collections, &held)?;
        let notes = notes(attempt, &held, &deltas, left);
        Ok(Restored { proof, records, notes, safety_snapshot, conflicts })
    }
}
