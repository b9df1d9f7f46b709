//! Restores as pages show them.

use engine::history::CollectionSummary;
use engine::restore::{Plan, PreflightCheck, Proof};
use engine::target::Note;
use web::components::system::System;
use web::pages::{restore_new, restore_plan, restore_result};

/// A collection that can be chosen.
pub fn choice(summary: CollectionSummary, is_chosen: impl Fn(&str) -> bool) -> restore_new::Choice {
    let CollectionSummary { name, kind, records, .. } = summary;
    restore_new::Choice { chosen: is_chosen(&name), name, kind, records }
}

/// Where in the target the collections go, if there is a choice.
pub fn placement(system: System, plan: &Plan) -> Option<String> {
    match (system, &plan.target.database) {
        (System::PostgreSql, _) => None,
        (System::MongoDb, Some(database)) => {
            Some(format!("Every collection goes into the database {database}."))
        }
        (System::MongoDb, None) => Some("Each collection goes into the database it was in.".to_owned()),
    }
}

/// A check made before writing.
pub fn check(check: &PreflightCheck) -> restore_plan::Check {
    restore_plan::Check {
        name: heading(&check.check),
        ok: check.ok,
        warns: check.warns,
        detail: check.detail.clone(),
    }
}

/// The engine's word at the head of a line. Names of programs stay as they are.
fn heading(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !text.contains('_') => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// The proof, table by table.
pub fn proofs(proof: &Proof) -> Vec<restore_result::CollectionProof> {
    let proofs = proof.collections.iter().map(|found| restore_result::CollectionProof {
        name: found.name.clone(),
        matches: found.matches,
        expected_root: found.expected_root.clone(),
        found_root: found.found_root.clone(),
        differences: found.differences,
        examples: found.examples.clone(),
    });
    proofs.collect()
}

/// Remarks on a restore; what is missing first.
pub fn notes(notes: &[Note]) -> Vec<restore_result::Note> {
    let shown = |note: &Note| restore_result::Note { failed: note.failed, text: note.text.clone() };
    let (failed, remarks): (Vec<&Note>, Vec<&Note>) = notes.iter().partition(|note| note.failed);
    failed.into_iter().chain(remarks).map(shown).collect()
}
