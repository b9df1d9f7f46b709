//! What the collections hold in the end, and what there is to say of it.

use super::apply::Attempt;
use super::checks::{definition_differences, listed};
use super::delta::Delta;
use super::fit::Fit;
use crate::catalog::Cataloged;
use crate::error::Result;
use crate::ingest::Tree;
use crate::overlay::Overlay;
use crate::repo::Repository;
use crate::restore::prove::{CollectionProof, Proof, compare_one};
use crate::restore::records::with_root;
use crate::target::Note;

/// A collection as it is to be.
pub(super) fn goal_of(delta: &Delta) -> Cataloged {
    with_root(&delta.member.chosen.cataloged, &delta.goal)
}

/// Holds what collections hold now against what they are to hold.
pub(super) async fn compare(
    repo: &Repository,
    overlay: &Overlay,
    expected: Vec<Cataloged>,
    found: Vec<Tree>,
) -> Result<Vec<CollectionProof>> {
    repo.with_reader_over(Some(overlay), move |reader| {
        let of_one = |(expected, found)| compare_one(expected, found, &mut Vec::new(), reader);
        expected.iter().zip(&found).map(of_one).collect()
    })
    .await
}

/// The proof of a restore in place, which is of records alone.
pub(super) fn of(collections: Vec<CollectionProof>) -> Proof {
    Proof {
        matches: collections.iter().all(|found| found.matches),
        differences: collections.iter().map(|found| found.differences).sum(),
        collections,
        sequence_differences: Vec::new(),
        schema_differences: Vec::new(),
        remarks: Vec::new(),
    }
}

impl Attempt<'_> {
    /// What stays as it was. A restore has said it by the time when it is taken back.
    pub(super) fn notes(&self, fit: &Fit) -> Vec<Note> {
        if self.back.is_some() {
            return Vec::new();
        }
        let left_out = fit.left_out.iter();
        let mut notes: Vec<Note> =
            left_out.map(|(name, why)| Note::failed(format!("{name} stays as it was: {why}"))).collect();
        let differing = definition_differences(&fit.members);
        if !differing.is_empty() {
            let what = listed(&differing);
            notes.push(Note::remark(format!(
                "Definitions stay as they are. They differ from the snapshot's: {what}"
            )));
        }
        notes
    }
}
