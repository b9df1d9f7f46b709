//! The second part: what goes.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadableDatabase, TableDefinition};
use repo_format::files::{self, PruneFile};
use repo_format::id::{ObjectId, ObjectKind, PackId, SnapshotId};
use repo_format::index::{self, IndexedPack};
use repo_format::limits;
use repo_format::prune::{self as plan, Judge, Run, Verdict};

use crate::clock::random;
use crate::context::Context;
use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::prune::needed::{Joined, Needed, scratch_database};
use crate::prune::{Prune, damaged};
use crate::repo::{Place, Repository, Writer};
use crate::store::Created;

/// Objects to copy, by where they are read from: pack (16), offset (4, big-endian), id (32) to frame
/// length, plain length (4 each) and kind (1).
const COPIES: TableDefinition<&[u8; 52], &[u8; 9]> = TableDefinition::new("copies");

/// A pack, and the objects to copy out of it.
type PackCopies = (PackId, Vec<(ObjectId, Place)>);

/// What deciding cost and found, for the figures.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Objects in the packs that go which nobody needs.
    pub objects_removed: u64,
    /// Bytes of files written instead of what goes.
    pub bytes_written: u64,
    /// What this process decided; another's verdict may be the one that counts.
    pub own: Option<Verdict>,
    /// Why it decided that everything stays.
    pub refused: Option<Error>,
}

impl Prune<'_> {
    /// Publishes a verdict, unless there is one. `None` while a grace time has yet to pass.
    pub(super) async fn judge(&self, n: u64) -> Result<Option<Judged>> {
        if self.has_verdict(n).await? {
            return Ok(Some(Judged::default()));
        }
        let run = match self.repo.read_run(n).await {
            Ok(run) => run,
            // Whatever it meant to delete stays, and the next one means it anew.
            Err(error) if error.kind() == Kind::Damaged => {
                tracing::error!(%error, prune = n, "a prune cannot be read and is given up");
                return self.publish_verdict(n, &Verdict::default()).await.map(|_| Some(Judged::default()));
            }
            Err(error) => return Err(error),
        };
        self.ctx.monitor.waits(true);
        let waited = async {
            if !is_planted(Defect::SkipWaiting) {
                self.await_sessions().await?;
            }
            self.wait_grace(&run).await
        };
        let waited = waited.await;
        self.ctx.monitor.waits(false);
        if !waited? {
            return Ok(None);
        }
        match self.decide(&run).await {
            Ok((verdict, mut judged)) => {
                self.publish_verdict(n, &verdict).await?;
                judged.own = Some(verdict);
                Ok(Some(judged))
            }
            // What cannot be counted must stay, all of it. The run is ended, so that whatever is
            // deleted by then, damaged snapshots too, does not count for the next one. Unless there is
            // a verdict: then another has ended the prune under the hands of this one.
            Err(error) if error.kind() == Kind::Damaged => {
                if self.has_verdict(n).await? {
                    return Ok(Some(Judged::default()));
                }
                let verdict = Verdict { kept: run.condemned, ..Verdict::default() };
                let counts = self.publish_verdict(n, &verdict).await?;
                Ok(Some(Judged { refused: counts.then_some(error), ..Judged::default() }))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the grace time has passed, once it has been waited for if it is short.
    async fn wait_grace(&self, run: &Run) -> Result<bool> {
        let since_ms = self.ctx.clock.now_ms().saturating_sub(run.began_ms).max(0) as u64;
        let rest_ms = self.options.grace_ms.saturating_sub(since_ms);
        if rest_ms > 60_000 {
            return Ok(false);
        }
        if rest_ms > 0 {
            self.steps.step("waiting for the grace time to pass");
            self.ctx.clock.sleep(rest_ms).await;
            self.ctx.check()?;
        }
        Ok(true)
    }

    /// Counts again, copies, and decides.
    async fn decide(&self, run: &Run) -> Result<(Verdict, Judged)> {
        let listed = self.repo.list_packs().await?;
        // Before the index: what these snapshots need is in it by then. Who commits later began after the run
        // was published, and relies on nothing that it condemns.
        let ids = self.counted_snapshots(run).await?;
        self.repo.refresh_index().await?;
        let run = &self.with_late_orphans(run, &listed);
        if is_planted(Defect::SkipRecheck) {
            let verdict = Verdict {
                snapshots: run.snapshots.clone(),
                deleted: run.condemned.clone(),
                ..Verdict::default()
            };
            return Ok((verdict, Judged::default()));
        }
        let needed = self.count(&ids).await?;
        let (uses, absent) = self.tally(&needed, &listed).await?;
        if absent > 0 {
            return Err(damaged(format!("{absent} objects that snapshots need are missing")));
        }
        let rescued = plan::rescued(&uses, &run.condemned, &self.options.thresholds);
        let copied = self.copy(&needed, Judge::new(&run.condemned, rescued.clone())).await?;
        let mut judge = Judge::new(&run.condemned, rescued);
        needed.join(self.repo, |Joined { is_needed, places, .. }| {
            if is_needed && !is_planted(Defect::CountDoomedPlaces) {
                judge.needed(places.iter().map(|place| place.pack));
            }
            Ok(())
        })?;
        if judge.absent() > 0 {
            return Err(damaged("objects that snapshots need are missing".to_owned()));
        }
        let (deleted, kept) = judge.finish();
        let (indexes, index_bytes) = self.replace_indexes(&deleted).await?;
        let gone = uses.iter().filter(|pack| deleted.contains(&pack.id));
        let judged = Judged {
            objects_removed: gone.map(|pack| pack.unneeded_objects).sum(),
            bytes_written: copied + index_bytes,
            own: None,
            refused: None,
        };
        Ok((Verdict { snapshots: run.snapshots.clone(), deleted, kept, indexes }, judged))
    }

    fn with_late_orphans(&self, run: &Run, listed: &BTreeMap<PackId, u64>) -> Run {
        let mut run = run.clone();
        if is_planted(Defect::CondemnLateOrphans) {
            let view = self.repo.cache().view();
            run.condemned.extend(listed.keys().filter(|pack| view.standing(**pack).is_none()));
        }
        run
    }

    /// Every snapshot that is there, whether deleted since or not: who reads one that was deleted
    /// after the run was published is not waited for.
    async fn counted_snapshots(&self, run: &Run) -> Result<Vec<SnapshotId>> {
        if is_planted(Defect::DropLateDeletions) {
            return self.repo.snapshot_ids().await;
        }
        let ids = self.repo.manifest_ids().await?.into_iter();
        Ok(ids.filter(|id| !run.snapshots.contains(id)).collect())
    }

    /// Copies what is needed out of packs that are to go. What cannot be read keeps its pack.
    async fn copy(&self, needed: &Needed, judge: Judge<'_>) -> Result<u64> {
        let copies = Copies::new(&self.ctx)?;
        let mut batch = Vec::new();
        needed.join(self.repo, |Joined { id, is_needed, places }| {
            if is_needed && !places.is_empty() && judge.is_at_risk(places.iter().map(|place| place.pack)) {
                batch.push((id, places[0]));
            }
            if batch.len() >= 1000 { copies.add(std::mem::take(&mut batch)) } else { Ok(()) }
        })?;
        copies.add(batch)?;
        let writer = Writer::new(self.repo);
        let mut after = None;
        while let Some((pack, objects)) = copies.of_next_pack(after)? {
            self.ctx.check()?;
            self.steps.step("copying what is needed");
            after = Some(pack);
            copy_from(self.repo, pack, objects, &writer).await?;
            if is_planted(Defect::DeleteBeforeVerdict) {
                self.repo.store().delete(&files::pack(pack)).await?;
            }
        }
        Ok(writer.flush().await?.bytes)
    }

    /// Writes index files that say of the packs that stay what the returned ones say of them.
    async fn replace_indexes(&self, deleted: &BTreeSet<PackId>) -> Result<(BTreeSet<PackId>, u64)> {
        let mut stale = plan::stale_indexes(&self.index_files(deleted)?, &self.options.thresholds);
        let (mut packs, mut objects, mut seen, mut bytes): (Vec<IndexedPack>, _, _, _) =
            (Vec::new(), 0, BTreeSet::new(), 0);
        for id in &stale {
            self.ctx.check()?;
            for pack in self.repo.read_index(&files::index(*id)).await? {
                if deleted.contains(&pack.id) || !seen.insert(pack.id) {
                    continue;
                }
                if objects + pack.objects.len() > limits::INDEX_ENTRIES {
                    bytes += self.write_index(&std::mem::take(&mut packs)).await?;
                    objects = 0;
                }
                objects += pack.objects.len();
                packs.push(pack);
            }
        }
        if !packs.is_empty() && !is_planted(Defect::ReplaceIndexesLate) {
            bytes += self.write_index(&packs).await?;
        }
        // Everything needed was found without them. They are read again first: what came garbled once
        // may be whole, and somebody may have it from there that an object is stored.
        let damaged = self.repo.cache().view().damaged_indexes.clone();
        for name in damaged {
            let Some(id) = name.strip_prefix(files::INDEX).and_then(PackId::parse) else { continue };
            match self.repo.read_index(&name).await {
                Err(error) if error.kind() == Kind::Damaged => {
                    stale.insert(id);
                }
                Err(error) if error.kind() != Kind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok((stale, bytes))
    }

    async fn write_index(&self, packs: &[IndexedPack]) -> Result<u64> {
        let name = files::index(PackId(random(self.repo.entropy())));
        self.repo.create_random(&name, &index::encode(packs)).await
    }

    /// Whoever is first decides: whether this is the verdict that counts.
    async fn publish_verdict(&self, n: u64, verdict: &Verdict) -> Result<bool> {
        let name = files::prune(n, PruneFile::Verdict);
        match self.repo.create_file(&name, &verdict.to_bytes()).await?.0 {
            Created::New => Ok(true),
            // A request that was repeated says so of its first sending.
            Created::Taken => Ok(self.repo.read_verdict(n).await? == *verdict),
        }
    }
}

/// Copies objects of one pack, which is read whole.
async fn copy_from(
    repo: &Repository,
    pack: PackId,
    objects: Vec<(ObjectId, Place)>,
    writer: &Writer,
) -> Result<()> {
    let bytes = match repo.store().read(&files::pack(pack)).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == Kind::NotFound => bytes::Bytes::new(),
        Err(error) => return Err(error),
    };
    for (id, place) in objects {
        let start = place.offset as usize;
        let frame = bytes.get(start..start + place.len as usize).unwrap_or_default();
        let found = match repo.open_frame(&place, id, frame) {
            Ok(_) => Some((place, frame.to_vec())),
            Err(_) => elsewhere(repo, id, pack).await?,
        };
        let Some((place, frame)) = found else {
            tracing::error!(object = %id, pack = %pack, "an object is damaged; its pack stays");
            continue;
        };
        if let Some(object) = writer.claim_sealed(place.kind, id, place.plain_len, frame) {
            writer.add_async(&object).await?;
        }
    }
    Ok(())
}

/// The frame of an object from another pack than this one.
async fn elsewhere(repo: &Repository, id: ObjectId, not: PackId) -> Result<Option<(Place, Vec<u8>)>> {
    for place in repo.cache().places(&id)?.into_iter().filter(|place| place.pack != not) {
        let Ok(frame) = repo.read_frame(&place, id).await else { continue };
        if repo.open_frame(&place, id, &frame).is_ok() {
            return Ok(Some((place, frame.to_vec())));
        }
    }
    Ok(None)
}

/// What to copy, on disk, in the order it is read.
struct Copies(Database);

impl Copies {
    fn new(ctx: &Context) -> Result<Self> {
        let copies = Self(scratch_database(ctx).map_err(failed)?);
        copies.add(Vec::new())?;
        Ok(copies)
    }

    fn add(&self, objects: Vec<(ObjectId, Place)>) -> Result<()> {
        let add = || -> Result<(), redb::Error> {
            let mut write = self.0.begin_write()?;
            write.set_durability(redb::Durability::None)?;
            {
                let mut table = write.open_table(COPIES)?;
                for (id, place) in objects {
                    let mut key = [0; 52];
                    key[..16].copy_from_slice(&place.pack.0);
                    key[16..20].copy_from_slice(&place.offset.to_be_bytes());
                    key[20..].copy_from_slice(&id.0);
                    let mut rest = [0; 9];
                    rest[..4].copy_from_slice(&place.len.to_le_bytes());
                    rest[4..8].copy_from_slice(&place.plain_len.to_le_bytes());
                    rest[8] = place.kind as u8;
                    table.insert(&key, &rest)?;
                }
            }
            write.commit()?;
            Ok(())
        };
        add().map_err(failed)
    }

    /// The objects to copy out of the first pack after the one given.
    fn of_next_pack(&self, after: Option<PackId>) -> Result<Option<PackCopies>> {
        let next = || -> Result<Vec<(ObjectId, Place)>, redb::Error> {
            let table = self.0.begin_read()?.open_table(COPIES)?;
            let mut start = [0; 52];
            if let Some(pack) = after {
                start = [0xff; 52];
                start[..16].copy_from_slice(&pack.0);
            }
            let mut objects: Vec<(ObjectId, Place)> = Vec::new();
            for entry in table.range::<&[u8; 52]>(&start..)? {
                let (key, rest) = entry?;
                let Some((id, place)) = copy_of(key.value(), rest.value()) else { continue };
                if after == Some(place.pack) {
                    continue;
                }
                if objects.first().is_some_and(|(_, first)| first.pack != place.pack) {
                    break;
                }
                objects.push((id, place));
            }
            Ok(objects)
        };
        let objects = next().map_err(failed)?;
        Ok(objects.first().map(|(_, place)| place.pack).map(|pack| (pack, objects)))
    }
}

fn copy_of(key: &[u8; 52], rest: &[u8; 9]) -> Option<(ObjectId, Place)> {
    let word = |bytes: &[u8]| bytes.first_chunk().copied();
    let place = Place {
        pack: PackId(*key.first_chunk()?),
        offset: u32::from_be_bytes(word(&key[16..])?),
        len: u32::from_le_bytes(word(rest)?),
        plain_len: u32::from_le_bytes(word(&rest[4..])?),
        kind: ObjectKind::from_byte(rest[8])?,
    };
    Some((ObjectId(*key[20..].first_chunk()?), place))
}

fn failed(error: redb::Error) -> Error {
    Error::new(Kind::Storage, format!("listing what is to be copied failed: {error}"))
        .with_help("Pruning needs scratch space in the data folder.")
        .with_source(error)
}
