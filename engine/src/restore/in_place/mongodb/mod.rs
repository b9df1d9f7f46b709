//! Restoring into MongoDB's collections: read, keep, write, prove.
//!
//! Nobody is kept from writing meanwhile. Each transaction holds the documents that it writes against what
//! was read of them, and what it wrote against what is wanted, before it is committed. A difference that
//! does not fit into one transaction is written in several; what those before a failure wrote stays, and
//! is taken back by an undo, for which the safety snapshot is known before the first of them begins.

mod checks;
mod write;

use super::apply::Attempt;
use super::checks::Checked;
use super::delta::{Delta, deltas};
use super::fit::{Chosen, Fit, Member};
use super::{Name, proof};
use crate::error::{Error, Kind, Result};
use crate::ingest::{Output, Tree};
use crate::overlay::{self, Overlay};
use crate::reading::{Read, Target, read_database};
use crate::repo::Writer;
use crate::restore::apply::Restored;
use crate::source::mongodb::MongoUrl;
use crate::source::{Consistency, Options, Source};
use crate::target::Note;
use crate::target::mongodb::in_place::Surroundings;

pub(super) use checks::{checks, extent};

/// What stands around the collections that were chosen.
pub(super) async fn look(address: &MongoUrl, chosen: &[Chosen]) -> Result<Surroundings> {
    let name = |chosen: &Chosen| (chosen.cataloged.namespace.clone(), chosen.cataloged.name.clone());
    let names: Vec<Name> = chosen.iter().map(name).collect();
    Surroundings::look(address, &names).await
}

/// How collections can be read to compare them. A server without replication has no moments, and no
/// transactions either: a plan shows what differs all the same.
pub(super) fn consistency(around: &Surroundings) -> Consistency {
    if around.is_replicated { Consistency::PointInTime } else { Consistency::BestEffort }
}

/// Carries a restore out.
pub(super) async fn restore(
    attempt: &Attempt<'_>,
    address: &MongoUrl,
    chosen: Vec<Chosen>,
) -> Result<Restored> {
    attempt.tell("looking at the target");
    let around = attempt.unless_cancelled(look(address, &chosen)).await?;
    Guarding { attempt, address, chosen, around }.run().await
}

/// An attempt that holds every document against what was read of it.
struct Guarding<'a> {
    attempt: &'a Attempt<'a>,
    address: &'a MongoUrl,
    chosen: Vec<Chosen>,
    around: Surroundings,
}

impl Guarding<'_> {
    async fn run(&self) -> Result<Restored> {
        let attempt = self.attempt;
        let (repo, ctx) = (attempt.repo, &attempt.ctx);
        let writer = Writer::new(repo);
        let output = Output::Repository(writer.clone());
        let targets =
            |source: &Source| Ok(self.fit(source)?.members.iter().map(Member::target).collect::<Vec<_>>());
        let Read { source, trees } = self.read(&targets, &output, "reading the target").await?;
        output.settle().await?;
        let fit = self.fit(&source)?;
        let overlay = Overlay::new(repo, overlay::MOST_BYTES, ctx)?;
        let live: Vec<_> = trees.iter().map(|tree| tree.root).collect();
        let (goals, conflicts) = attempt.goals(&fit, &live, &overlay).await?;
        let collections = fit.members.iter().cloned().zip(live).zip(goals);
        let collections = collections.map(|((member, live), goal)| (member, live, goal)).collect();
        let deltas = deltas(repo, &overlay, collections).await?;
        let records = deltas.iter().map(Delta::differing).sum();
        let mut safety_snapshot = None;
        let mut found = trees;
        if records > 0 {
            let kept = attempt.keep(&source, &fit.members, &[], &found, &writer).await?;
            safety_snapshot = Some(kept.to_string());
            source.close().await?;
            self.write(&deltas, &conflicts, &overlay, kept).await?;
            found = self.read_again(&fit, &overlay).await.map_err(|error| self.unproven(error))?;
        } else {
            source.close().await?;
        }
        let expected = deltas.iter().map(proof::goal_of).collect();
        let proof = proof::of(proof::compare(repo, &overlay, expected, found).await?);
        let mut notes = attempt.notes(&fit);
        if !proof.matches {
            let text = "Every document that was written was read again in its transaction and was as wanted. What differs \
                        now was written since, or has expired.";
            notes.push(Note::remark(text));
        }
        Ok(Restored { proof, records, notes, safety_snapshot, conflicts })
    }

    /// What of the source is written: as it was planned, or nothing is.
    fn fit(&self, source: &Source) -> Result<Fit> {
        let (snapshot, standing) = (self.attempt.snapshot, self.attempt.standing);
        let (missing, unreadable) = (&snapshot.manifest.missing, source.incomplete());
        let fit = Fit::of(&self.chosen, missing, source.collections(), &unreadable, &self.around.barred);
        let fit = fit.narrowed_to(standing);
        let names: Vec<Name> = fit.members.iter().map(Member::name).collect();
        if names != standing.names() {
            return Err(self.attempt.changed("its collections, or what they are"));
        }
        let scope = self.attempt.scope;
        let checked = Checked { snapshot, scope, fit: &fit, bystanders: &[], others_write: false };
        if let Some(check) = checks(&checked, &self.around).into_iter().find(|check| !check.ok) {
            let kind = if check.check == checks::RIGHTS { Kind::Denied } else { Kind::Conflict };
            return Err(Error::new(kind, check.detail).with_help(self.attempt.again()));
        }
        Ok(fit)
    }

    async fn read(
        &self,
        targets: &(dyn Fn(&Source) -> Result<Vec<Target>> + Send + Sync),
        output: &Output,
        phase: &str,
    ) -> Result<Read> {
        let Attempt { url, repo, ctx, .. } = self.attempt;
        let options = Options::new(ctx.workers, consistency(&self.around));
        read_database(url, options, targets, repo, output, phase, ctx).await
    }

    async fn read_again(&self, fit: &Fit, overlay: &Overlay) -> Result<Vec<Tree>> {
        let targets = |_: &Source| Ok(fit.members.iter().map(Member::target).collect());
        let output = Output::Overlay(overlay.clone());
        let Read { source, trees } = self.read(&targets, &output, "proving").await?;
        source.close().await?;
        Ok(trees)
    }

    fn unproven(&self, error: Error) -> Error {
        let message = format!("everything was written, and could not be proven: {}", error.message());
        let help = "What was written stays. Compare the database with the snapshot, or undo the restore.";
        Error::new(error.kind(), message).with_help(help).with_source(error)
    }
}
