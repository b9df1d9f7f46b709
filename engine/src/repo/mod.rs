//! The repository: objects in packs, found through an index, and the named files around them.
//!
//! What is written: packs, then the index that names them, then the manifest that needs them. What
//! is read is hashed before it is believed. Nothing is ever overwritten.

mod cache;
mod keys;
mod open;
mod read;
mod session;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use repo_format::files;
use repo_format::frame::Subject;
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
pub use repo_format::slot::{SlotKind, UnlockKey};
pub use session::Session;
pub use write::{SealedObject, WriteStats, Writer};

pub(crate) use cache::Place;

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
}

/// A committed snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id, drawn when its session began.
    pub id: SnapshotId,
    /// What it is of.
    pub manifest: Manifest,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("id", &self.0.id).finish_non_exhaustive()
    }
}

/// The epoch that a repository begins in.
const FIRST_EPOCH: u32 = 0;

impl Repository {
    fn with_keys(
        store: Store,
        id: RepositoryId,
        keys: KeySchedule,
        cache: &Path,
        ctx: &Context,
    ) -> Result<Self> {
        let cache = Cache::open(cache, id)?;
        let refreshing = tokio::sync::Mutex::default();
        let (entropy, epoch) = (ctx.entropy.clone(), AtomicU32::new(FIRST_EPOCH));
        Ok(Self(Arc::new(Inner { store, id, keys, cache, entropy, epoch, refreshing })))
    }

    /// The committed snapshots, newest first. A manifest that is damaged hides its snapshot and no
    /// other; verify names it.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        for id in self.snapshot_ids().await? {
            match self.snapshot(id).await {
                Ok(snapshot) => snapshots.push(snapshot),
                // Listed and then deleted is as if it had not been listed.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) if error.kind() == Kind::Damaged => {
                    tracing::error!(snapshot = %id, %error, "a manifest is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_by_key(|snapshot| (std::cmp::Reverse(snapshot.manifest.finished_ms), snapshot.id));
        Ok(snapshots)
    }

    pub(crate) async fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let listed = self.0.store.list(files::SNAPSHOTS).await?;
        Ok(listed
            .iter()
            .filter_map(|file| SnapshotId::parse(file.name.strip_prefix(files::SNAPSHOTS)?))
            .collect())
    }

    /// One snapshot. [`Kind::NotFound`] when there is none of that id.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let name = files::snapshot(id);
        let sealed = self.0.store.read(&name).await.map_err(|error| match error.kind() {
            Kind::NotFound => Error::new(Kind::NotFound, format!("there is no snapshot {id}")),
            _ => error,
        })?;
        let plain = self.open_file(&name, &sealed)?;
        Ok(Snapshot { id, manifest: Manifest::from_bytes(&plain)? })
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
        opened.map_err(|error| Error::damaged(format!("the stored file {name} is damaged: {error}")))
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
