//! What is looked at before tables are written in place.

use crate::restore::in_place::checks::{Checked, check, listed};
use crate::restore::in_place::fit::Member;
use crate::source::sql_name;
use crate::target::PreflightCheck;
use crate::target::postgres::in_place::{Surroundings, TableName};

const WORD: &str = "table";

/// The checks of a restore into tables.
pub(in crate::restore::in_place) fn checks(
    checked: &Checked<'_>,
    around: &Surroundings,
) -> Vec<PreflightCheck> {
    let looked = Looked { checked, around };
    let mut checks: Vec<PreflightCheck> = checked.completeness().into_iter().collect();
    checks.extend([looked.server(), checked.members(WORD), checked.definitions(WORD), looked.rights()]);
    checks.extend([looked.rules(), looked.triggers(), looked.foreign_keys()].into_iter().flatten());
    checks
}

struct Looked<'a> {
    checked: &'a Checked<'a>,
    around: &'a Surroundings,
}

impl Looked<'_> {
    fn server(&self) -> PreflightCheck {
        let version = &self.around.server_version;
        if self.around.is_standby {
            return check(
                "target database",
                false,
                "the server is a standby and takes no writes: name the primary",
            );
        }
        let source = &self.checked.snapshot.manifest.source.version;
        check("target database", true, format!("PostgreSQL {version}; the snapshot's source was {source}"))
    }

    fn rights(&self) -> PreflightCheck {
        let user = &self.around.user;
        let concerned =
            self.checked.fit.members.iter().map(Member::name).chain(self.checked.bystanders.iter().cloned());
        let may_not: Vec<String> = concerned
            .filter(|table| !self.around.tables.get(table).is_some_and(|rights| rights.may_write))
            .map(|(namespace, name)| sql_name(&namespace, &name))
            .collect();
        if may_not.is_empty() {
            return check("right to write", true, format!("{user} may read and write every row of them"));
        }
        let tables = listed(&may_not);
        if self.checked.others_write {
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
        let rules = self.checked.fit.members.iter().filter_map(|member| {
            let names = self.around.tables.get(&member.name())?.rules.as_ref()?;
            Some(format!("{} ({names})", member.display_name()))
        });
        let rules: Vec<String> = rules.collect();
        let detail = format!("rewrite rules would write something else than the rows: {}", listed(&rules));
        (!rules.is_empty()).then(|| check("rules", false, detail))
    }

    fn triggers(&self) -> Option<PreflightCheck> {
        let names: Vec<TableName> = self.checked.fit.members.iter().map(Member::name).collect();
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
        if self.checked.others_write {
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
        let names: Vec<String> =
            self.checked.bystanders.iter().map(|table| sql_name(&table.0, &table.1)).collect();
        let detail = format!(
            "foreign keys could change rows of {}, which the restore is not for: they are locked too, and nothing is \
             changed if any of their rows would be",
            listed(&names)
        );
        (!names.is_empty()).then(|| check("foreign keys", true, detail))
    }
}
