//! What is looked at before collections are written in place, whatever their engine.

use std::collections::BTreeMap;

use super::Name;
use super::fit::{Fit, Member};
use crate::diff;
use crate::repo::Snapshot;
use crate::restore::plan::completeness;
use crate::restore::{PreflightCheck, Scope};

/// Things named in one line.
const NAMED: usize = 12;

/// What the checks look at.
pub(super) struct Checked<'a> {
    pub snapshot: &'a Snapshot,
    pub scope: &'a Scope,
    pub fit: &'a Fit,
    pub bystanders: &'a [Name],
    /// Whether these credentials may be read-only, since those that write are given later.
    pub others_write: bool,
}

impl Checked<'_> {
    /// Whether the snapshot is whole, where all of it is restored.
    pub fn completeness(&self) -> Option<PreflightCheck> {
        (*self.scope == Scope::All).then(|| completeness(&self.snapshot.manifest))
    }

    /// Which collections can be written. `word` is what their system calls one.
    pub fn members(&self, word: &str) -> PreflightCheck {
        let name = &format!("{word}s");
        let (members, left_out) = (self.fit.members.len(), &self.fit.left_out);
        let reasons: Vec<String> = left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let count = match members {
            1 => format!("1 {word} can be written"),
            _ => format!("{members} {word}s can be written"),
        };
        if members == 0 {
            let why = if reasons.is_empty() { "the snapshot has none".to_owned() } else { listed(&reasons) };
            return check(name, false, format!("no {word} can be written: {why}"));
        }
        let is_all = *self.scope == Scope::All;
        let others = &self.fit.others;
        let count = match is_all && !others.is_empty() {
            true => format!("{count}; what the snapshot has not stays: {}", listed(others)),
            false => count,
        };
        if reasons.is_empty() {
            return check(name, true, count);
        }
        // What is asked for by name is not left out on the quiet.
        let verb = if is_all { "these stay as they are" } else { "these cannot be" };
        let detail = format!("{count}, and {verb}: {}", listed(&reasons));
        PreflightCheck { warns: is_all, ..check(name, is_all, detail) }
    }

    /// Whether the collections are defined as in the snapshot.
    pub fn definitions(&self, word: &str) -> PreflightCheck {
        let lines: Vec<String> = definition_differences(&self.fit.members);
        if lines.is_empty() {
            return check("definitions", true, format!("the {word}s are defined as in the snapshot"));
        }
        let detail = format!("these differ from the snapshot's and stay as they are: {}", listed(&lines));
        PreflightCheck { warns: true, ..check("definitions", true, detail) }
    }
}

/// Where definitions of collections differ from the snapshot's, in words.
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

pub(super) fn check(name: &str, ok: bool, detail: impl Into<String>) -> PreflightCheck {
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
