//! The tables under their locks: whether they are as planned, and which sequences move.

use std::collections::BTreeMap;

use repo_format::manifest::SequenceState;

use super::{Locking, checks};
use crate::error::{Error, Kind, Result};
use crate::restore::Scope;
use crate::restore::in_place::checks::Checked;
use crate::restore::in_place::fit::{Fit, Member};
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

impl Locking<'_> {
    /// Looks at the locked tables and what stands around them: nothing may be other than planned.
    pub(super) async fn look(&self, source: &Source, target: &postgres::Snapshot) -> Result<Held> {
        let (snapshot, standing) = (self.attempt.snapshot, self.attempt.standing);
        let (missing, unreadable) = (&snapshot.manifest.missing, source.incomplete());
        let barred = BTreeMap::new();
        let fit = Fit::of(&self.chosen, missing, source.collections(), &unreadable, &barred);
        let fit = fit.narrowed_to(standing);
        let around = Surroundings::read(target.holder()).await?;
        let names: Vec<TableName> = fit.members.iter().map(Member::name).collect();
        let bystanders = around.bystanders(&names);
        let (known, planned) = (&standing.bystanders, standing.names());
        if names != planned || !bystanders.iter().all(|table| known.contains(table)) {
            return Err(self.attempt.changed("its tables, their columns or their foreign keys"));
        }
        let scope = self.attempt.scope;
        let checked = Checked { snapshot, scope, fit: &fit, bystanders: &bystanders, others_write: false };
        if let Some(check) = checks(&checked, &around).into_iter().find(|check| !check.ok) {
            let kind = if check.check == "right to write" { Kind::Denied } else { Kind::Conflict };
            return Err(Error::new(kind, check.detail).with_help(self.attempt.again()));
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

    /// The sequences that are to stand elsewhere. Those of tables that are left as they are stay, and so do
    /// those that belong to none if any table is.
    pub(super) fn sequences(&self, held: &Held) -> Vec<SequenceState> {
        if *self.attempt.scope != Scope::All {
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
        let restored = &self.attempt.snapshot.manifest.sequences;
        let wanted = match self.attempt.back {
            None => restored,
            Some(back) => &back.safety.manifest.sequences,
        };
        let moves = |state: &&SequenceState| {
            let now = of(&held.sequences, state);
            let is_as_left = self.attempt.back.is_none() || now == of(restored, state);
            now.is_some_and(|now| now != **state) && is_as_left
        };
        wanted.iter().filter(is_ours).filter(moves).cloned().collect()
    }
}
