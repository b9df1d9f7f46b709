//! What of the index may be believed now.
//!
//! Every session lists what there is after it has said that it begins, and from that decides which
//! packs exist, which it must not rely on for what it writes, and which are gone for good although
//! some index file may still name them.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::files::{self, PruneFile};
use repo_format::id::{PackId, SnapshotId};
use repo_format::index;
use repo_format::prune::{Run, Verdict};

use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::repo::Repository;
use crate::repo::cache::{IndexFile, Place};

/// Listings that contradict each other are repeated so often. Two in a row differ only when a prune
/// ended in between.
const ATTEMPTS: usize = 10;

/// How far a pack may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// For everything.
    Sound,
    /// For reading: a prune may be about to delete it.
    Condemned,
    /// For reading, where nothing better is there: it was found damaged.
    Suspect,
}

/// Which packs exist, as listed last.
#[derive(Debug, Default)]
pub(crate) struct View {
    packs: BTreeMap<PackId, Standing>,
    /// Packs that verdicts deleted, whether they are gone already or not.
    dead: BTreeSet<PackId>,
    /// Snapshots that verdicts removed.
    pub removed: BTreeSet<SnapshotId>,
    /// Packs that an open prune condemned.
    condemned: BTreeSet<PackId>,
    /// Whether what an open prune condemned cannot be read, so that it may be anything.
    all_condemned: bool,
    /// Index files that could not be read.
    pub damaged_indexes: BTreeSet<String>,
    /// Packs that no index file names, none that a prune is about to delete, and their lengths.
    pub unindexed: BTreeMap<PackId, u64>,
    /// Packs added by this process since the listing began that is being made into the next view.
    pub added: BTreeSet<PackId>,
}

impl View {
    /// How far a pack may be relied on; `None` when it does not exist.
    pub fn standing(&self, pack: PackId) -> Option<Standing> {
        self.packs.get(&pack).copied()
    }

    /// Whether a pack was found damaged.
    pub fn is_suspect(&self, pack: PackId) -> bool {
        self.standing(pack) == Some(Standing::Suspect)
    }

    /// A pack that was deleted, if any was: its name must not be used again.
    pub fn dead_pack(&self) -> Option<PackId> {
        self.dead.first().copied()
    }

    /// Adds packs that this process has stored and indexed. One that a verdict deleted meanwhile,
    /// because this process was thought dead, stays deleted.
    pub fn add(&mut self, packs: impl IntoIterator<Item = PackId>) {
        for pack in packs {
            self.added.insert(pack);
            if !self.dead.contains(&pack) {
                let is_condemned = self.all_condemned || self.condemned.contains(&pack);
                let standing = if is_condemned { Standing::Condemned } else { Standing::Sound };
                self.packs.entry(pack).or_insert(standing);
            }
        }
    }

    /// Drops places that do not exist, and puts the best first.
    pub fn rank(&self, places: &mut Vec<Place>) {
        places.retain(|place| self.packs.contains_key(&place.pack));
        if places.len() > 1 {
            places.sort_by_key(|place| (self.standing(place.pack), place.pack));
        }
    }
}

/// The files of prunes, as listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prunes(pub BTreeMap<u64, BTreeSet<PruneFile>>);

impl Prunes {
    /// The last prune, and which of its files are there.
    pub fn last(&self) -> Option<(u64, &BTreeSet<PruneFile>)> {
        self.0.last_key_value().map(|(n, files)| (*n, files))
    }

    fn verdicts(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|(_, files)| files.contains(&PruneFile::Verdict)).map(|(n, _)| *n)
    }
}

impl Repository {
    /// Lists the files of prunes.
    pub(crate) async fn prunes(&self) -> Result<Prunes> {
        let mut prunes = Prunes::default();
        for file in self.store().list(files::GC).await? {
            if let Some((n, kind)) = files::parse_prune(&file.name) {
                prunes.0.entry(n).or_default().insert(kind);
            }
        }
        Ok(prunes)
    }

    /// What the n-th prune condemned.
    pub(crate) async fn read_run(&self, n: u64) -> Result<Run> {
        let name = files::prune(n, PruneFile::Run);
        Ok(Run::parse(&self.open_file(&name, &self.store().read(&name).await?)?)?)
    }

    /// What the n-th prune deletes.
    pub(crate) async fn read_verdict(&self, n: u64) -> Result<Verdict> {
        let name = files::prune(n, PruneFile::Verdict);
        let plain = self.open_file(&name, &self.store().read(&name).await?)?;
        let verdict = Verdict::parse(&plain)?;
        self.cache().add_verdict(n, &plain)?;
        Ok(verdict)
    }

    /// The name of a verdict that is missing or cannot be read, and what is wrong: what it removed nobody can
    /// tell.
    pub(crate) async fn lost_verdict(&self) -> Result<Option<(String, Error)>> {
        let prunes = self.prunes().await?;
        let last = prunes.last().map(|(n, _)| n);
        for (n, files) in prunes.0 {
            // The last one may have none yet.
            if Some(n) == last && files.is_subset(&BTreeSet::from([PruneFile::Run])) {
                continue;
            }
            match self.read_verdict(n).await {
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
                    return Ok(Some((files::prune(n, PruneFile::Verdict), error)));
                }
                read => drop(read?),
            }
        }
        Ok(None)
    }

    /// Brings the index up to date with what is listed now.
    ///
    /// A listing is not of one moment. Index files go only when a verdict says so, and by then others
    /// say the same; so listings are good when no verdict came in between.
    pub(crate) async fn refresh_index(&self) -> Result<()> {
        let _one_at_a_time = self.refreshing().lock().await;
        let mut prunes = self.prunes().await?;
        for _ in 0..ATTEMPTS {
            self.cache().begin_view();
            let view = self.look(&prunes).await?;
            let after = self.prunes().await?;
            if after.verdicts().eq(prunes.verdicts()) {
                self.cache().set_view(view);
                return Ok(());
            }
            prunes = after;
        }
        Err(Error::new(Kind::Storage, "the storage's listings contradict each other")
            .with_help("The storage must list what was created as soon as it was created. Try again."))
    }

    async fn look(&self, prunes: &Prunes) -> Result<View> {
        let mut view = View::default();
        self.look_at_prunes(prunes, &mut view).await?;
        let suspects: BTreeSet<PackId> = self.list_ids(files::SUSPECTS).await?;
        // Index files before packs, which are written in the other order: an index never names a
        // pack that was listed too early.
        let known = self.cache().index_files()?;
        let listed = self.list_names(files::INDEX).await?;
        let packs = self.list_packs().await?;
        let gone: BTreeSet<String> = known.difference(&listed).cloned().collect();
        let anew = !gone.is_empty() && self.is_mostly_stale()?;
        let mut new = Vec::new();
        for name in listed.into_iter().filter(|name| anew || !known.contains(name)) {
            match self.read_index(&name).await {
                Ok(packs) => new.push(IndexFile { name, packs }),
                // What only it names is absent. It is not remembered, so it is looked at again.
                Err(error) if error.kind() == Kind::Damaged => {
                    tracing::error!(%error, "an index file is damaged; verify says what it hurts");
                    view.damaged_indexes.insert(name);
                }
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.cache().update(&gone, &new, anew)?;
        // What is in a pack that is gone is absent, so that the next backup stores it anew.
        let is_there = |pack: &PackId| packs.contains_key(pack) && !view.dead.contains(pack);
        let standing = |pack: &PackId| match () {
            () if suspects.contains(pack) => Standing::Suspect,
            () if view.all_condemned || view.condemned.contains(pack) => Standing::Condemned,
            () => Standing::Sound,
        };
        let indexed = self.cache().indexed_packs()?;
        let is_unindexed = |pack: &PackId| {
            !indexed.contains_key(pack) && is_there(pack) && standing(pack) != Standing::Condemned
        };
        let unindexed = packs.iter().filter(|(pack, _)| is_unindexed(pack));
        view.unindexed = unindexed.map(|(pack, len)| (*pack, *len)).collect();
        view.packs = indexed.into_keys().filter(is_there).map(|pack| (pack, standing(&pack))).collect();
        Ok(view)
    }

    async fn look_at_prunes(&self, prunes: &Prunes, view: &mut View) -> Result<()> {
        let mut known = self.cache().verdicts()?;
        for (&n, files) in &prunes.0 {
            let verdict = match known.remove(&n) {
                Some(plain) => Some(Verdict::parse(&plain)?),
                None if files.contains(&PruneFile::Verdict) => intact(self.read_verdict(n).await)?,
                None => None,
            };
            if let Some(verdict) = verdict {
                if is_planted(Defect::ForgetVerdicts) {
                    continue;
                }
                view.dead.extend(verdict.deleted);
                view.removed.extend(verdict.snapshots);
            } else if !files.contains(&PruneFile::Done) {
                let run = match self.read_run(n).await {
                    // What follows upon it is there, so it was there, and could be about anything.
                    Err(error) if error.kind() == Kind::NotFound => None,
                    run => intact(run)?,
                };
                match run {
                    Some(run) => view.condemned.extend(run.condemned),
                    None => view.all_condemned = true,
                }
            }
        }
        Ok(())
    }

    /// Whether most of the cache is about packs that no index file names any more.
    fn is_mostly_stale(&self) -> Result<bool> {
        let named: u64 = self.cache().indexed_packs()?.values().sum();
        Ok(self.cache().rows()? > 2 * named + 100_000)
    }

    /// Lengths of the packs that are there.
    pub(crate) async fn list_packs(&self) -> Result<BTreeMap<PackId, u64>> {
        let listed = self.store().list(files::PACKS).await?.into_iter();
        let pack = |name: &str| PackId::parse(name.strip_prefix(files::PACKS)?);
        Ok(listed.filter_map(|file| Some((pack(&file.name)?, file.size_bytes))).collect())
    }

    pub(crate) async fn list_names(&self, folder: &str) -> Result<BTreeSet<String>> {
        Ok(self.store().list(folder).await?.into_iter().map(|file| file.name).collect())
    }

    /// The ids that files of a folder are named by.
    async fn list_ids(&self, folder: &str) -> Result<BTreeSet<PackId>> {
        let names = self.list_names(folder).await?;
        Ok(names.iter().filter_map(|name| PackId::parse(name.strip_prefix(folder)?)).collect())
    }

    pub(crate) async fn read_index(&self, name: &str) -> Result<Vec<index::IndexedPack>> {
        let plain = self.open_file(name, &self.store().read(name).await?)?;
        Ok(index::parse(&plain)?)
    }
}

/// `None` for a file that is damaged: what it says must then not be needed to be safe.
fn intact<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == Kind::Damaged => {
            tracing::error!(%error, "a file of a prune is damaged");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
