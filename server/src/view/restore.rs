//! Restores as pages show them.

use engine::restore::{PreflightCheck, Proof};
use engine::target::Note;
use web::pages::{restore_plan, restore_result};

/// A check made before writing. The one of the snapshot itself warns where that is incomplete.
pub fn check(check: &PreflightCheck, snapshot_complete: bool) -> restore_plan::Check {
    restore_plan::Check {
        name: heading(&check.check),
        ok: check.ok,
        warns: check.check == "snapshot" && !snapshot_complete,
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
