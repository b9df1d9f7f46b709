//! What is looked at before tables are written in place.

use std::collections::BTreeMap;

use super::fit::{Fit, Member};
use crate::diff;
use crate::repo::Snapshot;
use crate::restore::plan::completeness;
use crate::restore::{PreflightCheck, Scope};
use crate::source::sql_name;
use crate::target::postgres::in_place::{Surroundings, TableName};

/// Things named in one line.
const NAMED: usize = 12;

/// What the checks look at.
pub(super) struct Checked<'a> {
    pub snapshot: &'a Snapshot,
    pub scope: &'a Scope,
    pub fit: &'a Fit,
    pub around: &'a Surroundings,
    pub bystanders: &'a [TableName],
    /// Whether these credentials may be read-only, since those that write are given later.
    pub others_write: bool,
}

impl Checked<'_> {
    pub fn checks(&self) -> Vec<PreflightCheck> {
        let mut checks = vec![self.server(), self.tables(), self.definitions(), self.rights()];
        if *self.scope == Scope::All {
            checks.insert(0, completeness(&self.snapshot.manifest));
        }
        checks.extend([self.rules(), self.triggers(), self.foreign_keys()].into_iter().flatten());
        checks
    }

    fn server(&self) -> PreflightCheck {
        let version = &self.around.server_version;
        if self.around.is_standby {
            return check(
                "target database",
                false,
                "the server is a standby and takes no writes: name the primary",
            );
        }
        let source = &self.snapshot.manifest.source.version;
        check("target database", true, format!("PostgreSQL {version}; the snapshot's source was {source}"))
    }

    fn tables(&self) -> PreflightCheck {
        let (members, left_out) = (self.fit.members.len(), &self.fit.left_out);
        let reasons: Vec<String> = left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let count = match members {
            1 => "1 table can be written".to_owned(),
            _ => format!("{members} tables can be written"),
        };
        if members == 0 {
            let why = if reasons.is_empty() { "the snapshot has none".to_owned() } else { listed(&reasons) };
            return check("tables", false, format!("no table can be written: {why}"));
        }
        let is_all = *self.scope == Scope::All;
        let others = &self.fit.others;
        let count = match is_all && !others.is_empty() {
            true => format!("{count}; what the snapshot has not stays: {}", listed(others)),
            false => count,
        };
        if reasons.is_empty() {
            return check("tables", true, count);
        }
        // What is asked for by name is not left out on the quiet.
        let verb = if is_all { "these stay as they are" } else { "these cannot be" };
        let detail = format!("{count}, and {verb}: {}", listed(&reasons));
        PreflightCheck { warns: is_all, ..check("tables", is_all, detail) }
    }

    fn definitions(&self) -> PreflightCheck {
        let lines: Vec<String> = definition_differences(&self.fit.members);
        if lines.is_empty() {
            return check("definitions", true, "the tables are defined as in the snapshot");
        }
        let detail = format!("these differ from the snapshot's and stay as they are: {}", listed(&lines));
        PreflightCheck { warns: true, ..check("definitions", true, detail) }
    }

    fn rights(&self) -> PreflightCheck {
        let user = &self.around.user;
        let concerned = self.fit.members.iter().map(Member::name).chain(self.bystanders.iter().cloned());
        let may_not: Vec<String> = concerned
            .filter(|table| !self.around.tables.get(table).is_some_and(|rights| rights.may_write))
            .map(|(namespace, name)| sql_name(&namespace, &name))
            .collect();
        if may_not.is_empty() {
            return check("right to write", true, format!("{user} may read and write every row of them"));
        }
        let tables = listed(&may_not);
        if self.others_write {
            let detail = format!(
                "{user} may not write {tables}, which is enough to plan: carrying the plan out takes a user with \
                 SELECT, INSERT, UPDATE and DELETE on them"
            );
            return check("right to write", true, detail);
        }
        let detail = format!("{user} lacks SELECT, INSERT, UPDATE or DELETE on {tables}: use their owner");
        check("right to write", false, detail)
    }

    fn rules(&self) -> Option<PreflightCheck> {
        let rules = self.fit.members.iter().filter_map(|member| {
            let names = self.around.tables.get(&member.name())?.rules.as_ref()?;
            Some(format!("{} ({names})", member.display_name()))
        });
        let rules: Vec<String> = rules.collect();
        let detail = format!("rewrite rules would write something else than the rows: {}", listed(&rules));
        (!rules.is_empty()).then(|| check("rules", false, detail))
    }

    fn triggers(&self) -> Option<PreflightCheck> {
        let names: Vec<TableName> = self.fit.members.iter().map(Member::name).collect();
        let concerned: Vec<_> =
            self.around.triggers.iter().filter(|found| names.contains(&found.table)).collect();
        if concerned.is_empty() {
            return None;
        }
        let stubborn: Vec<String> = concerned
            .iter()
            .filter(|found| !found.owns)
            .map(|found| format!("{} on {}", found.name, sql_name(&found.table.0, &found.table.1)))
            .collect();
        let user = &self.around.user;
        if stubborn.is_empty() {
            let detail = "triggers on these tables are off while rows are written";
            return Some(check("triggers", true, detail));
        }
        let triggers = listed(&stubborn);
        if self.others_write {
            let detail = format!(
                "{triggers}: off while rows are written if the restoring user owns the tables; {user} does not"
            );
            return Some(check("triggers", true, detail));
        }
        let detail = format!(
            "{user} does not own their tables, so these run while rows are written: {triggers}. If they alter rows, the \
             proof fails and nothing is changed; what they do elsewhere stays"
        );
        Some(PreflightCheck { warns: true, ..check("triggers", true, detail) })
    }

    fn foreign_keys(&self) -> Option<PreflightCheck> {
        let names: Vec<String> = self.bystanders.iter().map(|table| sql_name(&table.0, &table.1)).collect();
        let detail = format!(
            "foreign keys could change rows of {}, which the restore is not for: they are locked too, and nothing is \
             changed if any of their rows would be",
            listed(&names)
        );
        (!names.is_empty()).then(|| check("foreign keys", true, detail))
    }
}

/// Where definitions of tables differ from the snapshot's, in words.
pub(super) fn definition_differences(members: &[Member]) -> Vec<String> {
    let mut by_table = BTreeMap::new();
    for member in members {
        let (snapshot, target) = (&member.chosen.cataloged.schema, &member.found.schema);
        if snapshot != target {
            by_table.insert(member.display_name(), diff::schema_text_changes(snapshot, target));
        }
    }
    let lines = by_table
        .into_iter()
        .flat_map(|(name, changes)| changes.into_iter().map(move |change| format!("{name}: {change}")));
    lines.collect()
}

fn check(name: &str, ok: bool, detail: impl Into<String>) -> PreflightCheck {
    PreflightCheck { check: name.to_owned(), ok, warns: false, detail: detail.into() }
}

/// "a; b and 3 more".
pub(super) fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
