//! The repository: objects in packs, found through an index, and the named files around them.
//!
//! What is written: packs, then the index that names them, then the manifest that needs them. What
//! is read is hashed before it is believed. Nothing is ever overwritten.

mod cache;
mod keys;
mod marks;
mod missing;
mod open;
mod read;
mod reindex;
mod removal;
mod session;
mod view;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use repo_format::files;
use repo_format::frame::{self, Subject};
use repo_format::id::{RepositoryId, SnapshotId};
use repo_format::keys::KeySchedule;
use repo_format::manifest::Manifest;

use crate::clock::{Entropy, random};
use crate::context::Context;
use crate::cpu;
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Store};
use cache::Cache;

pub use keys::{Keyring, NewSlot, Slot};
pub use read::{ObjectReader, ReadStats};
pub use repo_format::mark::Mark;
pub use repo_format::slot::{SlotKind, UnlockKey};
pub use session::Session;
pub use write::{SealedObject, WriteStats, Writer};

pub(crate) use cache::{IndexFile, Place};
pub(crate) use marks::Marks;
#[cfg(test)]
pub(crate) use session::BEAT_MS;
pub(crate) use session::DEAD_MS;
pub(crate) use view::Standing;

/// A repository, opened. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    store: Store,
    id: RepositoryId,
    keys: KeySchedule,
    cache: Cache,
    entropy: Arc<dyn Entropy>,
    /// The newest key epoch that is known of.
    epoch: AtomicU32,
    /// Held while the index cache is brought up to date.
    refreshing: tokio::sync::Mutex<()>,
    /// Held while a slot is taken away.
    removing_slot: tokio::sync::Mutex<()>,
    marks: marks::Known,
}

/// A committed snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id, drawn when its session began.
    pub id: SnapshotId,
    /// What it is of.
    pub manifest: Manifest,
    /// What was said of it later.
    pub mark: Mark,
}

impl Snapshot {
    /// The note beside it: the one that was given later, or the one that it was taken with.
    pub fn note(&self) -> Option<&str> {
        self.mark.note.as_deref().or(self.manifest.note.as_deref()).filter(|note| !note.is_empty())
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("id", &self.0.id).finish_non_exhaustive()
    }
}

/// The epoch that a repository begins in.
const FIRST_EPOCH: u32 = 0;

impl Repository {
    async fn with_keys(
        store: Store,
        id: RepositoryId,
        keys: KeySchedule,
        cache: &Path,
        ctx: &Context,
    ) -> Result<Self> {
        let cache = Cache::open(cache, id, ctx.clock.as_ref()).await?;
        let (refreshing, removing_slot) = <(tokio::sync::Mutex<()>, tokio::sync::Mutex<()>)>::default();
        let (entropy, epoch) = (ctx.entropy.clone(), AtomicU32::new(FIRST_EPOCH));
        let marks = marks::Known::default();
        let inner = Inner { store, id, keys, cache, entropy, epoch, refreshing, removing_slot, marks };
        Ok(Self(Arc::new(inner)))
    }

    /// The committed snapshots, newest first. A manifest that is damaged hides its snapshot and no
    /// other; verify names it.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        let (ids, marks) = self.listed().await?;
        for id in ids {
            match self.manifest(id).await {
                Ok(Some(snapshot)) => {
                    snapshots.push(Snapshot { mark: self.mark_of(id, &marks).await?, ..snapshot });
                }
                // Listed and then deleted is as if it had not been listed.
                Ok(None) => {}
                Err(error) if error.kind() == Kind::Damaged => {
                    tracing::error!(snapshot = %id, %error, "a manifest is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_by_key(|snapshot| (std::cmp::Reverse(snapshot.manifest.finished_ms), snapshot.id));
        Ok(snapshots)
    }

    /// The snapshots there are, deleted ones left out.
    pub(crate) async fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        Ok(self.listed().await?.0)
    }

    /// The snapshots there are, deleted ones left out, and the marks there are.
    pub(crate) async fn listed(&self) -> Result<(Vec<SnapshotId>, Marks)> {
        let ids = self.manifest_ids().await?;
        let marks = self.list_marks().await?;
        Ok((ids.into_iter().filter(|id| !marks.deleted.contains(id)).collect(), marks))
    }

    /// Everything that has the name of a manifest, tombstones and deleted snapshots included, unless
    /// a prune removed it: then it is gone for ever, even if a late request brings the file back.
    pub(crate) async fn manifest_ids(&self) -> Result<Vec<SnapshotId>> {
        let listed = self.0.store.list(files::SNAPSHOTS).await?;
        let id = |name: &str| SnapshotId::parse(name.strip_prefix(files::SNAPSHOTS)?);
        let ids = listed.iter().filter_map(|file| id(&file.name));
        let view = self.cache().view();
        Ok(ids.filter(|id| !view.removed.contains(id)).collect())
    }

    /// One snapshot. [`Kind::NotFound`] when there is none of that id, or it is deleted.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let marks = self.list_marks().await?;
        let found = if marks.deleted.contains(&id) { None } else { self.manifest(id).await? };
        let found = found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no snapshot {id}")))?;
        Ok(Snapshot { mark: self.mark_of(id, &marks).await?, ..found })
    }

    /// What has the name of a manifest, whether marked as deleted or not, without what was said of it
    /// later. `None` when there is nothing, or a tombstone.
    pub(crate) async fn manifest(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        if self.cache().view().removed.contains(&id) {
            return Ok(None);
        }
        let name = files::snapshot(id);
        let sealed = match self.0.store.read(&name).await {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let plain = self.open_file(&name, &sealed)?;
        if repo_format::session::parse_tombstone(&plain)?.is_some() {
            return Ok(None);
        }
        Ok(Some(Snapshot { id, manifest: Manifest::from_bytes(&plain)?, mark: Mark::default() }))
    }

    /// Bytes of what is stored now: packs, index files and manifests.
    pub async fn stored_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for folder in [files::PACKS, files::INDEX, files::SNAPSHOTS] {
            bytes += self.0.store.list(folder).await?.iter().map(|file| file.size_bytes).sum::<u64>();
        }
        Ok(bytes)
    }

    /// The repository's id.
    pub fn id(&self) -> RepositoryId {
        self.0.id
    }

    pub(crate) fn keys(&self) -> &KeySchedule {
        &self.0.keys
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    fn known_marks(&self) -> &marks::Known {
        &self.0.marks
    }

    fn refreshing(&self) -> &tokio::sync::Mutex<()> {
        &self.0.refreshing
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.0.entropy.as_ref()
    }

    /// Opens a sealed named file.
    pub(crate) fn open_file(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let opened =
            cpu::with_opener(self.0.id, &self.0.keys, |opener| opener.open(Subject::File(name), sealed));
        let plain =
            opened.map_err(|error| Error::damaged(format!("the stored file {name} is damaged: {error}")))?;
        // The file that began its epoch may be lost: an older one is not gone back to.
        self.0.epoch.fetch_max(frame::epoch_of(sealed).unwrap_or(FIRST_EPOCH), Ordering::AcqRel);
        Ok(plain)
    }

    /// Creates a named file under a name drawn at random, and returns its length. Who finds such a
    /// name taken has taken it: a request that was repeated says so of its first sending.
    pub(crate) async fn create_random(&self, name: &str, plain: &[u8]) -> Result<u64> {
        let (created, len) = self.create_file(name, plain).await?;
        match created {
            Created::New => Ok(len),
            Created::Taken if self.open_file(name, &self.0.store.read(name).await?)? == plain => Ok(len),
            Created::Taken => Err(Error::new(Kind::Internal, format!("the random name {name} was taken"))),
        }
    }

    /// Seals a named file under an epoch.
    fn seal_file(&self, name: &str, epoch: u32, plain: &[u8]) -> Result<Vec<u8>> {
        let nonce = random(self.entropy());
        let mut sealed = Vec::new();
        cpu::with_sealer(self.0.id, epoch, &self.0.keys, |sealer| {
            sealer.seal(Subject::File(name), plain, nonce, &mut sealed)
        })?;
        Ok(sealed)
    }

    /// Seals and creates a named file.
    pub(crate) async fn create_file(&self, name: &str, plain: &[u8]) -> Result<(Created, u64)> {
        let sealed = self.seal_file(name, self.epoch(), plain)?;
        let len = sealed.len() as u64;
        Ok((self.0.store.create(name, Bytes::from(sealed)).await?, len))
    }
}
