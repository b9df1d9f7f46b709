//! Snapshots that should be there and are not: their manifests were lost.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::files;
use repo_format::id::SnapshotId;
use repo_format::mark::Mark;

use super::Repository;
use crate::error::{Kind, Result};

impl Repository {
    /// Snapshots without a manifest that nobody deleted and no prune removed, and how they are known:
    /// a mark is about them, or another snapshot was made after them. `parents` are pairs of a snapshot
    /// that was read and its parent.
    pub(crate) async fn missing_snapshots(
        &self,
        parents: &[(SnapshotId, SnapshotId)],
    ) -> Result<BTreeMap<SnapshotId, String>> {
        // Marks and children come after the manifest, so that is listed after them.
        let marks = self.list_marks().await?;
        let listed = self.list_names(files::SNAPSHOTS).await?;
        let mut missing: BTreeMap<SnapshotId, String> =
            marks.of().map(|id| (id, "there are marks of it".to_owned())).collect();
        missing
            .extend(parents.iter().map(|(id, parent)| (*parent, format!("snapshot {id} was made after it"))));
        missing.retain(|id, _| !listed.contains(&files::snapshot(*id)) && !marks.deleted.contains(id));
        if !missing.is_empty() {
            // A manifest goes after the verdict that removes it, which is there by now.
            self.refresh_index().await?;
            let removed: BTreeSet<SnapshotId> = self.cache().view().removed.clone();
            missing.retain(|id, _| !removed.contains(id));
        }
        Ok(missing)
    }

    /// Whether a snapshot should be there and is not.
    pub(super) async fn is_missing(&self, id: SnapshotId) -> Result<bool> {
        let snapshots = self.snapshots().await?;
        let parents: Vec<_> =
            snapshots.iter().filter_map(|child| Some((child.id, child.manifest.parent?))).collect();
        Ok(self.missing_snapshots(&parents).await?.contains_key(&id))
    }

    /// Why a snapshot that was taken, and that nobody deleted, cannot be read. `None` where it can, or is none.
    /// Beside it what was said of it.
    pub async fn unreadable(&self, id: SnapshotId) -> Result<Option<(String, Mark)>> {
        let why = match self.snapshot(id).await {
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == Kind::Damaged => error.message().to_owned(),
            Err(error) if error.kind() == Kind::NotFound && self.is_missing(id).await? => {
                format!("the file {} is missing", files::snapshot(id))
            }
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let marks = self.list_marks().await?;
        // If all of it is lost, nothing is left to be kept.
        let mark = if marks.is_known(id) { self.mark_of(id, &marks).await? } else { Mark::default() };
        Ok(Some((why, mark)))
    }

    /// Deleted snapshots that no prune has removed yet, also those whose manifests were lost.
    pub(crate) async fn deleted_snapshots(&self) -> Result<BTreeSet<SnapshotId>> {
        let deleted = self.list_marks().await?.deleted;
        let removed: BTreeSet<SnapshotId> = self.cache().view().removed.clone();
        let mut found = BTreeSet::new();
        for id in deleted.into_iter().filter(|id| !removed.contains(id)) {
            // The mark is sealed: who only has the store cannot have a snapshot deleted.
            let name = files::deletion(id);
            let sealed = match self.store().read(&name).await {
                Ok(sealed) => sealed,
                // A prune has removed it since.
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if self.open_file(&name, &sealed).is_ok() && self.is_deletable(id).await? {
                found.insert(id);
            }
        }
        Ok(found)
    }

    /// A tombstone is not a snapshot, and stays for as long as its session might wake up.
    async fn is_deletable(&self, id: SnapshotId) -> Result<bool> {
        match self.manifest(id).await {
            Ok(Some(_)) => Ok(true),
            Ok(None) => Ok(!self.list_names(files::SNAPSHOTS).await?.contains(&files::snapshot(id))),
            Err(error) if error.kind() == Kind::Damaged => Ok(true),
            Err(error) => Err(error),
        }
    }
}
