//! What of a snapshot is restored, as if the snapshot were of nothing else.

use std::collections::BTreeMap;

use repo_format::catalog::CollectionKind;
use serde_json::{Map, Value};

use crate::catalog::Cataloged;
use crate::context::Context;
use crate::error::Result;
use crate::ingest::Output;
use crate::overlay::{self, Overlay};
use crate::repo::{Repository, Snapshot};
use crate::restore::plan::{Scope, names, schema_archive};
use crate::restore::records;
use crate::source::{Engine, concerns, missing_object};
use crate::target::postgres::subset::{LeftOut, Subset, subset};
use crate::target::{Note, PreflightCheck};

/// A snapshot cut to a scope.
pub(super) struct Selection {
    /// Its manifest says nothing of what is not in scope.
    pub(super) snapshot: Snapshot,
    /// The schema archive of what is in scope.
    pub(super) archive: Vec<u8>,
    /// The collections in scope, described as they can be restored.
    pub(super) collections: Vec<Cataloged>,
    /// Where the objects of their trees are that the repository has not.
    pub(super) overlay: Overlay,
    /// What comes along with chosen tables, and which of their parts do not.
    cut: Option<Cut>,
}

struct Cut {
    /// Whether not all of their records come.
    is_of_records: bool,
    tables: usize,
    of: u64,
    along: BTreeMap<String, u64>,
    left_out: Vec<LeftOut>,
}

impl Selection {
    pub(super) async fn of(
        scope: &Scope,
        repo: &Repository,
        snapshot: &Snapshot,
        ctx: &Context,
    ) -> Result<Self> {
        let archive = schema_archive(repo, snapshot).await?;
        let overlay = Overlay::new(repo, overlay::MOST_BYTES, ctx)?;
        let mut collections = Vec::new();
        for (found, ids) in scope.select(repo, snapshot).await? {
            collections.push(match ids {
                None => found,
                Some(ids) => records::only(repo, found, ids, Output::Overlay(overlay.clone())).await?,
            });
        }
        let mut whole = Self { snapshot: snapshot.clone(), archive, collections, overlay, cut: None };
        if *scope == Scope::All {
            return Ok(whole);
        }
        let chosen: Vec<String> = whole.collections.iter().map(Cataloged::display_name).collect();
        whole.snapshot.manifest.missing.retain(|missing| {
            chosen.iter().any(|name| missing_object(&missing.name) == name || concerns(&missing.name, name))
        });
        if snapshot.manifest.source.engine == Engine::Postgres.as_str() {
            whole.cut(matches!(scope, Scope::Records(_)))
        } else {
            Ok(whole)
        }
    }

    /// Cuts the archive and the manifest to the chosen tables. What single records refer to need not come, so
    /// foreign keys do not.
    fn cut(mut self, is_of_records: bool) -> Result<Self> {
        let is_table = |found: &&Cataloged| found.descriptor.layout.kind != CollectionKind::LargeObjects;
        let tables: Vec<Cataloged> = self.collections.iter().filter(is_table).cloned().collect();
        let Subset { archive, left_out, along, sequences, extensions } =
            subset(&self.archive, &names(&tables), !is_of_records)?;
        self.archive = archive;
        let manifest = &mut self.snapshot.manifest;
        manifest.sequences.retain(|state| sequences.contains(&(state.namespace.clone(), state.name.clone())));
        manifest.source.extensions.retain(|extension| extensions.contains(&extension.name));
        // Views are no part of any table.
        manifest.unfilled_views.clear();
        for found in &mut self.collections {
            let of_it: Vec<&LeftOut> = (left_out.iter())
                .filter(|part| part.table == (found.namespace.clone(), found.name.clone()))
                .collect();
            if !of_it.is_empty() {
                found.schema = without(&found.schema, &of_it);
            }
        }
        let (tables, of) = (self.collections.len(), manifest.collections);
        self.cut = Some(Cut { is_of_records, tables, of, along, left_out });
        Ok(self)
    }

    /// What is restored, for a plan; nothing to say where it is all of it.
    pub(super) fn check(&self) -> Option<PreflightCheck> {
        let Cut { is_of_records, tables, of, along, left_out } = self.cut.as_ref()?;
        let mut detail = format!("{tables} of {of} tables");
        if *is_of_records {
            let records: u64 = self.collections.iter().map(|found| found.descriptor.records).sum();
            detail = format!("{} of {}", counted(records, "record"), counted(*tables as u64, "table"));
        }
        if !along.is_empty() {
            let along: Vec<String> = along.iter().map(|(kind, count)| counted(*count, kind)).collect();
            detail.push_str(&format!(", and with them what they need: {}", along.join(", ")));
        }
        if !left_out.is_empty() {
            let parts: Vec<String> = left_out.iter().map(ToString::to_string).collect();
            let why = match is_of_records {
                false => "for tables that were not chosen",
                true => "since what they need need not come along",
            };
            detail.push_str(&format!(". Left out, {why}: {}", parts.join(", ")));
        }
        Some(PreflightCheck { check: "scope".to_owned(), ok: true, warns: !left_out.is_empty(), detail })
    }

    /// What a restore of it leaves out on purpose.
    pub(super) fn notes(&self) -> Vec<Note> {
        let Some(Cut { is_of_records, left_out, .. }) = &self.cut else { return Vec::new() };
        let why = if *is_of_records { "single records come without it" } else { "that table was not chosen" };
        left_out.iter().map(|part| Note::remark(format!("{part} is left out: {why}"))).collect()
    }
}

/// "2 functions", "1 index". Kinds of objects are words of PostgreSQL's.
fn counted(count: u64, kind: &str) -> String {
    match kind {
        kind if count == 1 => format!("1 {kind}"),
        "text search dictionary" => format!("{count} text search dictionaries"),
        kind => format!("{count} {kind}s"),
    }
}

/// A table's schema text without the parts that are left out.
fn without(schema: &str, left_out: &[&LeftOut]) -> String {
    let Ok(mut members) = serde_json::from_str::<Map<String, Value>>(schema) else {
        return schema.to_owned();
    };
    for part in left_out {
        let member = match part.kind.as_str() {
            "INDEX" => "indexes",
            "POLICY" => "policies",
            "RULE" => "rules",
            "TRIGGER" => "triggers",
            _ => "constraints",
        };
        let is_it = |item: &Value| item.get("name").and_then(Value::as_str) == Some(part.name.as_str());
        if let Some(Value::Array(items)) = members.get_mut(member) {
            items.retain(|item| !is_it(item));
            if items.is_empty() {
                members.remove(member);
            }
        }
    }
    Value::Object(members).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_loses_the_parts_that_are_left_out() {
        let part =
            |kind: &str, name: &str| LeftOut::new(kind, ("public", "t"), name, "public.other".to_owned());
        let schema = r#"{"columns":[{"name":"fk"}],"constraints":[{"name":"fk"},{"name":"pk"}],"policies":[{"name":"p"}]}"#;
        let (fk, policy) = (part("FK CONSTRAINT", "fk"), part("POLICY", "p"));
        assert_eq!(
            without(schema, &[&fk, &policy]),
            r#"{"columns":[{"name":"fk"}],"constraints":[{"name":"pk"}]}"#
        );
    }
}
