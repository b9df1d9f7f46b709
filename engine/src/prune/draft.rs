//! The first part: what may go.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::files::{self, PruneFile};
use repo_format::id::{PackId, SnapshotId};
use repo_format::prune::{self, PackUse, Run};

use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::prune::needed::Needed;
use crate::prune::reach::Reach;
use crate::prune::{Prune, Stats, damaged, is_disturbed};
use crate::repo::Session;
use crate::store::Created;

/// What may go, and what that would do.
pub(super) struct Draft {
    pub run: Run,
    pub stats: Stats,
    is_worth_it: bool,
}

/// What came of publishing.
pub(super) enum Published {
    /// The prune of this number.
    Run(u64),
    /// Nothing is worth it.
    Nothing,
    /// Somebody else was first.
    Behind,
}

impl Prune<'_> {
    /// Counts what is needed, and chooses what may go. Within a session: nothing is deleted under it,
    /// but by a prune that was published before. When one of those ended meanwhile, what looked
    /// damaged may have been a snapshot that is gone by now, so it is counted anew.
    pub(super) async fn draft(&self) -> Result<Draft> {
        let mut prunes = self.repo.prunes().await?;
        loop {
            let session = Session::begin_reading(self.repo, &[], &self.ctx).await?;
            let draft = self.draft_in_session().await;
            match session.conclude(draft).await {
                Err(error) if is_disturbed(&error) => {
                    let now = self.repo.prunes().await?;
                    if now == prunes {
                        return Err(error);
                    }
                    prunes = now;
                }
                ended => return ended,
            }
        }
    }

    async fn draft_in_session(&self) -> Result<Draft> {
        self.steps.step("looking at packs");
        // Packs before the index: one that is in no index now may be in one by then. Only packs that
        // are listed before the run is published may be condemned for being in no index.
        let listed = self.repo.list_packs().await?;
        let deleted = self.repo.deleted_snapshots().await?;
        // Snapshots before the index, too: what they need is in it by then.
        let ids = self.repo.snapshot_ids().await?;
        self.repo.refresh_index().await?;
        let uses = match self.uses(&listed, &ids).await {
            // What is missing may be in packs whose index file is lost.
            Err(error) if error.kind() == Kind::Damaged && self.has_unindexed() => {
                self.repo.index_unindexed().await?;
                self.uses(&listed, &ids).await?
            }
            uses => uses?,
        };
        let plan = prune::plan(&uses, &self.options.thresholds);
        let indexes = prune::stale_indexes(&self.index_files(&BTreeSet::new())?, &self.options.thresholds);
        let stats = Stats {
            snapshots_removed: deleted.len() as u64,
            objects_condemned: plan.unneeded_objects,
            bytes_condemned: plan.unneeded_bytes,
            bytes_kept: plan.kept_bytes + plan.copied_bytes,
            ..Stats::default()
        };
        let is_index_damaged = !self.repo.cache().view().damaged_indexes.is_empty();
        let is_worth_it =
            !plan.condemned.is_empty() || !deleted.is_empty() || !indexes.is_empty() || is_index_damaged;
        let run = Run { began_ms: self.ctx.clock.now_ms(), snapshots: deleted, condemned: plan.condemned };
        Ok(Draft { run, stats, is_worth_it })
    }

    fn has_unindexed(&self) -> bool {
        !self.repo.cache().view().unindexed.is_empty()
    }

    /// What each pack holds that these snapshots need.
    async fn uses(&self, listed: &BTreeMap<PackId, u64>, ids: &[SnapshotId]) -> Result<Vec<PackUse>> {
        let needed = self.count(ids).await?;
        self.steps.step("choosing packs");
        let (uses, absent) = self.tally(&needed, listed).await?;
        if absent > 0 {
            return Err(damaged(format!("{absent} objects that snapshots need are missing")));
        }
        Ok(uses)
    }

    /// Drafts a run and publishes it.
    pub(super) async fn publish(&self) -> Result<(Published, Stats)> {
        let n = match self.repo.prunes().await?.last() {
            None => 1,
            Some((last, files)) if files.contains(&PruneFile::Done) => last + 1,
            Some(_) => return Ok((Published::Behind, Stats::default())),
        };
        let Draft { run, stats, is_worth_it } = self.draft().await?;
        if !is_worth_it {
            return Ok((Published::Nothing, stats));
        }
        match self.repo.create_file(&files::prune(n, PruneFile::Run), &run.to_bytes()).await? {
            (Created::New, _) => Ok((Published::Run(n), stats)),
            // A request that was repeated says so of its first sending.
            (Created::Taken, _) if self.repo.read_run(n).await? == run => Ok((Published::Run(n), stats)),
            (Created::Taken, _) => Ok((Published::Behind, Stats::default())),
        }
    }

    /// What a snapshot needs cannot be counted without its manifest, which somebody may yet bring back.
    async fn check_none_missing(&self, parents: &[(SnapshotId, SnapshotId)]) -> Result<()> {
        let missing = self.repo.missing_snapshots(parents).await?;
        let Some((id, why)) = missing.first_key_value() else { return Ok(()) };
        if let Some((name, error)) = self.repo.lost_verdict().await? {
            let what =
                format!("the file {name} cannot be read, which may have removed snapshot {id}: {error}");
            return Err(damaged(what).with_help(format!(
                "Put the file {name} back from a copy of the storage. If there is none, delete the snapshot by DELETE \
                 /api/v1/snapshots/{id}: the next prune goes on without it."
            )));
        }
        let more = match missing.len() {
            1 => String::new(),
            n => format!(" ({} more are missing, too)", n - 1),
        };
        let what = format!("the file snapshots/{id} is missing{more}: {why}, and no prune removed it");
        Err(damaged(what).with_help(format!(
            "Put the file back from a copy of the storage. If there is none, delete the snapshot on its page, \
             /snapshots/{id}, or by DELETE /api/v1/snapshots/{id}: the next prune goes on without it."
        )))
    }

    /// Counts what these snapshots need.
    pub(super) async fn count(&self, ids: &[SnapshotId]) -> Result<Needed> {
        let mut reach = Reach::new(self.repo, &self.ctx)?;
        let mut parents = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            self.steps.step(&format!("counting what snapshot {} of {} needs", at + 1, ids.len()));
            if let Some(snapshot) = self.repo.manifest(*id).await.map_err(explained)? {
                parents.extend(snapshot.manifest.parent.map(|parent| (*id, parent)));
                reach.add(&snapshot).await.map_err(explained)?;
            }
        }
        if !is_planted(Defect::ForgetMissing) {
            self.check_none_missing(&parents).await?;
        }
        reach.finish().await.map_err(explained)
    }
}

/// What cannot be read may refer to anything.
fn explained(error: Error) -> Error {
    match error.kind() {
        Kind::Damaged => damaged(format!("a snapshot is damaged: {error}")).with_source(error),
        _ => error,
    }
}
