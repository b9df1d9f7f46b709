//! The third part: deleting what the verdict says.

use std::collections::BTreeMap;

use repo_format::files::{self, PruneFile};
use repo_format::id::PackId;
use repo_format::prune::moment;

use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::prune::judge::Judged;
use crate::prune::{Prune, Stats};

impl Prune<'_> {
    /// Deletes what the published verdict says, whoever published it, and says that it is done. May
    /// be repeated, and may come late: what a verdict deletes is dead for ever.
    pub(super) async fn execute(&self, n: u64, judged: Judged, stats: &mut Stats) -> Result<()> {
        let published = self.repo.read_verdict(n).await.map_err(|error| unreadable(n, error))?;
        let is_ours = judged.own.as_ref() == Some(&published);
        let verdict = match judged.own {
            Some(own) if is_planted(Defect::IgnoreVerdict) => own,
            _ => published,
        };
        self.steps.step("deleting");
        let mut sizes = BTreeMap::new();
        for folder in [files::SNAPSHOTS, files::INDEX, files::PACKS] {
            let listed = self.repo.store().list(folder).await?;
            sizes.extend(listed.into_iter().map(|file| (file.name, file.size_bytes)));
        }
        let kept = sizes.iter().filter(|(name, _)| {
            let pack = name.strip_prefix(files::PACKS).and_then(PackId::parse);
            pack.is_some_and(|pack| !verdict.deleted.contains(&pack))
        });
        stats.bytes_kept = kept.map(|(_, size_bytes)| size_bytes).sum();
        // Manifests, then what says where objects are, then the objects: whoever stops in between
        // leaves nothing that refers to what is gone.
        let manifests = verdict.snapshots.iter().map(|id| files::snapshot(*id));
        let indexes = verdict.indexes.iter().map(|id| files::index(*id));
        let packs = verdict.deleted.iter().map(|id| files::pack(*id));
        let mut bytes = 0;
        for name in manifests.chain(indexes).chain(packs) {
            self.repo.store().delete(&name).await?;
            bytes += sizes.get(&name).copied().unwrap_or(0);
        }
        let suspects = verdict.deleted.iter().map(|id| files::suspect(*id));
        let marks =
            self.repo.list_names(files::MARKS).await?.into_iter().filter(|name| {
                files::parse_mark(name).is_some_and(|(id, _)| verdict.snapshots.contains(&id))
            });
        let suspects_listed = self.repo.list_names(files::SUSPECTS).await?;
        for name in suspects.filter(|name| suspects_listed.contains(name)).chain(marks) {
            self.repo.store().delete(&name).await?;
        }
        self.sweep_beats().await?;
        let done = files::prune(n, PruneFile::Done);
        self.repo.create_file(&done, &moment(self.ctx.clock.now_ms())).await?;
        stats.snapshots_removed = verdict.snapshots.len() as u64;
        stats.bytes_freed = bytes.saturating_sub(judged.bytes_written);
        if is_ours {
            stats.objects_removed = judged.objects_removed;
        }
        Ok(())
    }

    /// Signs of life of sessions that have ended: one that was on its way at the end stays behind.
    async fn sweep_beats(&self) -> Result<()> {
        let names = self.repo.list_names(files::SESSIONS).await?;
        let parsed: Vec<_> = names.iter().filter_map(|name| files::parse_session(name)).collect();
        let is_there = |id| parsed.contains(&(id, 0));
        for (id, beat) in parsed.iter().filter(|(id, beat)| *beat > 0 && !is_there(*id)) {
            self.repo.store().delete(&files::beat(*id, *beat)).await?;
        }
        Ok(())
    }
}

/// A verdict that cannot be read may be obeyed by somebody who read it before, so that it must not be
/// replaced as long as anybody is there.
fn unreadable(n: u64, error: Error) -> Error {
    if error.kind() != Kind::Damaged {
        return error;
    }
    let name = files::prune(n, PruneFile::Verdict);
    Error::new(Kind::Damaged, format!("nothing is deleted, because what to delete cannot be read: {error}"))
        .with_help(format!(
            "Stop all servers that use the repository, delete the file {name} from the storage, and start \
             them again: the next prune decides anew."
        ))
        .with_source(error)
}
