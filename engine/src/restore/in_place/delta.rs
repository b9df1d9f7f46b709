//! The difference between what collections hold and what they are to hold.

use repo_format::tree::{Counts, Diff, Root};

use super::fit::Member;
use crate::error::Result;
use crate::overlay::Overlay;
use crate::repo::Repository;

/// A collection with its two trees.
#[derive(Clone, Debug)]
pub(super) struct Delta {
    pub member: Member,
    pub live: Root,
    pub goal: Root,
    pub counts: Counts,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.differing() == 0
    }

    pub fn differing(&self) -> u64 {
        self.counts.added + self.counts.removed + self.counts.changed
    }
}

/// Counts what differs between what collections hold and what they are to hold.
pub(super) async fn deltas(
    repo: &Repository,
    overlay: &Overlay,
    collections: Vec<(Member, Root, Root)>,
) -> Result<Vec<Delta>> {
    repo.with_reader_over(Some(overlay), move |reader| {
        let delta = |(member, live, goal): (Member, Root, Root)| {
            let counts = Diff::new(&live, &goal, None).count(reader)?;
            Ok(Delta { member, live, goal, counts })
        };
        collections.into_iter().map(delta).collect()
    })
    .await
}
