//! The tables under their locks: whether they are as planned, and what they are to hold.

use repo_format::manifest::SequenceState;
use repo_format::tree::Root;

use super::apply::Attempt;
use super::checks::Checked;
use super::fit::{Chosen, Fit, Member};
use super::{goal, plan, reversal};
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::overlay::Overlay;
use crate::repo::{ObjectReader, Snapshot};
use crate::restore::Scope;
use crate::restore::apply::Conflicts;
use crate::source::postgres;
use crate::source::{Collection, Source, sql_name};
use crate::target::postgres::in_place::{Surroundings, TableName};

/// The tables as they are under the locks.
pub(super) struct Held {
    pub fit: Fit,
    pub around: Surroundings,
    pub bystanders: Vec<Collection>,
    pub sequences: Vec<SequenceState>,
}

impl Attempt<'_> {
    /// Looks at the locked tables and what stands around them: nothing may be other than planned.
    pub(super) async fn look(
        &self,
        source: &Source,
        target: &postgres::Snapshot,
        chosen: &[Chosen],
    ) -> Result<Held> {
        let missing = &self.snapshot.manifest.missing;
        let fit = Fit::of(chosen, missing, source.collections(), &source.incomplete());
        let fit = fit.narrowed_to(self.standing);
        let around = Surroundings::read(target.holder()).await?;
        let names: Vec<TableName> = fit.members.iter().map(Member::name).collect();
        let bystanders = around.bystanders(&names);
        let (known, planned) = (&self.standing.bystanders, self.standing.names());
        if names != planned || !bystanders.iter().all(|table| known.contains(table)) {
            return Err(changed("its tables, their columns or their foreign keys"));
        }
        let (scope, snapshot) = (self.scope, self.snapshot);
        let checked = Checked {
            snapshot,
            scope,
            fit: &fit,
            around: &around,
            bystanders: &bystanders,
            others_write: false,
        };
        if let Some(check) = checked.checks().into_iter().find(|check| !check.ok) {
            let kind = if check.check == "right to write" { Kind::Denied } else { Kind::Conflict };
            return Err(Error::new(kind, check.detail).with_help("Plan again once that is mended."));
        }
        let listed = source.collections();
        let of_name = |table: &TableName| {
            let found = listed.iter().find(|found| found.namespace == table.0 && found.name == table.1);
            found.cloned().ok_or_else(|| {
                let table = sql_name(&table.0, &table.1);
                Error::new(
                    Kind::Denied,
                    format!("{table} could be changed by foreign keys, and cannot be read"),
                )
            })
        };
        let bystanders = bystanders.iter().map(of_name).collect::<Result<_>>()?;
        Ok(Held { fit, around, bystanders, sequences: source.sequences().await? })
    }

    pub(super) async fn goals_of_restore(
        &self,
        held: &Held,
        live: &[Root],
        overlay: &Overlay,
    ) -> Result<Vec<Root>> {
        let members = held.fit.members.clone();
        let live = live[..members.len()].to_vec();
        let now = plan::tables(self.repo, None, members.clone(), live.clone()).await?;
        if let Some((table, _)) =
            now.iter().zip(&self.standing.tables).find(|(now, planned)| now.root != planned.root)
        {
            return Err(changed(&sql_name(&table.namespace, &table.name)));
        }
        let (keys, output) = (self.repo.keys().clone(), Output::Overlay(overlay.clone()));
        self.repo
            .with_reader_over(Some(overlay), move |reader| {
                let of_one = |(member, live)| goal::of_restore(member, live, &keys, reader, output.clone());
                members.iter().zip(&live).map(of_one).collect()
            })
            .await
    }

    pub(super) async fn goals_of_undo(
        &self,
        safety: &Snapshot,
        held: &Held,
        live: &[Root],
        overlay: &Overlay,
    ) -> Result<(Vec<Root>, Conflicts)> {
        let kept = catalog::collections(self.repo, safety).await?;
        let (keys, output, ctx) =
            (self.repo.keys().clone(), Output::Overlay(overlay.clone()), self.ctx.clone());
        let (mut goals, mut conflicts) = (Vec::new(), Conflicts::default());
        for (member, now) in held.fit.members.iter().cloned().zip(live.iter().copied()) {
            let name = member.name();
            let before = kept.iter().find(|kept| kept.namespace == name.0 && kept.name == name.1);
            let before = before.ok_or_else(|| catalog::not_found(&member.display_name()))?.root();
            let mut second = ObjectReader::new(self.repo);
            second.lay_over(overlay.clone());
            let (keys, output, ctx) = (keys.clone(), output.clone(), ctx.clone());
            let goal = self.repo.with_reader_over(Some(overlay), move |reader| {
                let after = goal::of_restore(&member, &before, &keys, reader, output.clone())?;
                let (name, is_multiset) = (member.display_name(), member.is_multiset());
                let table = reversal::Table { name: &name, layout: member.layout(), is_multiset };
                let trees = reversal::Trees { before, after, now };
                reversal::goal(trees, table, &keys, reader, second, output, &ctx)
            });
            let (goal, found) = goal.await?;
            goals.push(goal);
            conflicts.count += found.count;
            conflicts.examples.extend(found.examples);
        }
        Ok((goals, conflicts))
    }

    /// The sequences that are to stand elsewhere. Those of tables that are left as they are stay, and so do
    /// those that belong to none if any table is.
    pub(super) fn sequences(&self, held: &Held) -> Vec<SequenceState> {
        if *self.scope != Scope::All {
            return Vec::new();
        }
        let names: Vec<TableName> = held.fit.members.iter().map(Member::name).collect();
        let is_ours = |state: &&SequenceState| {
            let rights = held.around.sequences.get(&(state.namespace.clone(), state.name.clone()));
            rights.is_some_and(|rights| match &rights.table {
                Some(table) => names.contains(table),
                None => held.fit.left_out.is_empty(),
            })
        };
        let of = |all: &[SequenceState], state: &SequenceState| {
            all.iter().find(|one| one.namespace == state.namespace && one.name == state.name).cloned()
        };
        let restored = &self.snapshot.manifest.sequences;
        let wanted = match self.safety {
            None => restored,
            Some(safety) => &safety.manifest.sequences,
        };
        let moves = |state: &&SequenceState| {
            let now = of(&held.sequences, state);
            let is_as_left = self.safety.is_none() || now == of(restored, state);
            now.is_some_and(|now| now != **state) && is_as_left
        };
        wanted.iter().filter(is_ours).filter(moves).cloned().collect()
    }
}

fn changed(what: &str) -> Error {
    let message = format!("the target changed since the restore was planned: {what}");
    Error::new(Kind::Conflict, message)
        .with_help("Nothing was written. Plan again, and look at what changed.")
}
