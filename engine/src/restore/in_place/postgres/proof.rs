//! What the tables hold in the end, and what there is to say of it.

use repo_format::catalog::Descriptor;
use repo_format::tree::Root;

use super::Locking;
use super::held::Held;
use crate::catalog::Cataloged;
use crate::error::{Error, Kind, Result};
use crate::ingest::Tree;
use crate::overlay::Overlay;
use crate::restore::in_place::apply::Attempt;
use crate::restore::in_place::checks::listed;
use crate::restore::in_place::delta::Delta;
use crate::restore::in_place::proof;
use crate::restore::prove::{CollectionProof, Proof};
use crate::source::{Collection, sql_name};
use crate::target::Note;
use crate::target::postgres::in_place::TableName;

impl Locking<'_> {
    /// Holds what the tables hold now, read on the connection that wrote, against what they are to hold.
    pub(super) async fn compare(
        &self,
        held: &Held,
        deltas: &[Delta],
        live: &[Root],
        found: Vec<Tree>,
        overlay: &Overlay,
    ) -> Result<Vec<CollectionProof>> {
        // Rows that only foreign keys could change must be what they were.
        let beside = held.bystanders.iter().zip(&live[deltas.len()..]);
        let beside = beside.map(|(found, root)| cataloged(found, root));
        let expected = deltas.iter().map(proof::goal_of).chain(beside).collect();
        proof::compare(self.attempt.repo, overlay, expected, found).await
    }
}

/// The proof, if it holds. Else everything is taken back, and the error says what differed.
pub(super) fn proven(collections: Vec<CollectionProof>, held: &Held) -> Result<Proof> {
    let failed: Vec<String> = (collections.iter().filter(|found| !found.matches))
        .map(|found| format!("{}: {} differ ({})", found.name, found.differences, found.examples.join("; ")))
        .collect();
    if !failed.is_empty() {
        let message = format!("the proof failed, so everything was taken back: {}", listed(&failed));
        return Err(Error::new(Kind::Refused, message).with_help(
            "Nothing was changed. Something alters rows as they are written: a trigger, an action of a foreign key, or \
             a type that does not take the value that it printed.",
        ));
    }
    let members = held.fit.members.len();
    Ok(proof::of(collections.into_iter().take(members).collect()))
}

/// What there is to know of a restore beside its proof.
pub(super) fn notes(
    attempt: &Attempt<'_>,
    held: &Held,
    deltas: &[Delta],
    sequences_left: Vec<String>,
) -> Vec<Note> {
    let mut notes: Vec<Note> = sequences_left.into_iter().map(Note::failed).collect();
    notes.extend(attempt.notes(&held.fit));
    let written: Vec<TableName> =
        deltas.iter().filter(|delta| !delta.is_empty()).map(|delta| delta.member.name()).collect();
    let ran = held.around.triggers.iter().filter(|found| !found.owns && written.contains(&found.table));
    let ran: Vec<String> =
        ran.map(|found| format!("{} on {}", found.name, sql_name(&found.table.0, &found.table.1))).collect();
    if !ran.is_empty() {
        let text = format!("These triggers were on while rows were written: {}", listed(&ran));
        notes.push(Note::remark(text));
    }
    if !held.around.filled_views.is_empty() {
        let views = listed(&held.around.filled_views);
        let text = format!("Materialized views hold what they held, until they are refreshed: {views}");
        notes.push(Note::remark(text));
    }
    notes
}

/// A table beside those that are restored, as a catalog would have it.
fn cataloged(found: &Collection, root: &Root) -> Cataloged {
    let descriptor = Descriptor {
        layout: found.layout.clone(),
        data_root: root.id,
        level: root.level,
        records: root.records,
        logical_bytes: root.bytes,
        schema_version: found.schema_version,
        natural_order: None,
    };
    let (namespace, name, schema) = (found.namespace.clone(), found.name.clone(), found.schema.clone());
    Cataloged { namespace, name, descriptor, schema }
}
