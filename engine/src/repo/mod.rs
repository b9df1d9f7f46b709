//! The repository: objects in packs, found through an index, and the named files around them.
//!
//! What is written: packs, then the index that names them, then the manifest that needs them. What
//! is read is hashed before it is believed. Nothing is ever overwritten.

mod cache;
mod read;
mod session;
mod write;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use repo_format::config::{self, Settings};
use repo_format::files;
use repo_format::frame::Subject;
use repo_format::id::{ObjectId, RepositoryId, SlotId, SnapshotId};
use repo_format::keys::{KeySchedule, RootKey};
use repo_format::manifest::Manifest;
use repo_format::slot::{self, SlotKind};

use crate::clock::{Entropy, random};
use crate::context::Context;
use crate::cpu;
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Store};
use cache::Cache;

pub use read::{ObjectReader, ReadStats};
pub use repo_format::slot::UnlockKey;
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

/// The epoch that new frames are sealed under. Rotation will raise it.
pub(crate) const EPOCH: u32 = 0;

impl Repository {
    /// Makes a new repository in an empty store, with one slot that `key` opens. The slot is
    /// written before the config: a crash between leaves no repository rather than one that
    /// nothing opens.
    pub async fn create(store: Store, key: &UnlockKey, cache: &Path, ctx: &Context) -> Result<Self> {
        match store.read(files::CONFIG).await {
            Ok(_) => return Err(taken()),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        let entropy = ctx.entropy.as_ref();
        let root = RootKey::new(random(entropy));
        let id = RepositoryId(random(entropy));
        let keys = KeySchedule::new(root);
        let slot = write_slot(&store, SlotKind::Server, id, &keys, key, entropy).await?;
        let commitment = ObjectId(keys.root().commitment());
        let settings = Settings {
            repository: id,
            commitment,
            created_ms: ctx.clock.now_ms(),
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            deleter_features: Vec::new(),
            exclusive: false,
        };
        let nonce = random(entropy);
        let bytes = cpu::with_sealer(id, EPOCH, &keys, |sealer| config::encode(&settings, sealer, nonce))?;
        match store.create(files::CONFIG, bytes.into()).await? {
            Created::New => Self::with_keys(store, id, keys, cache, ctx),
            Created::Taken => {
                store.delete(&files::slot(slot)).await?;
                Err(taken())
            }
        }
    }

    /// Opens a repository with a key that one of its slots is for.
    pub async fn open(store: Store, key: &UnlockKey, cache: &Path, ctx: &Context) -> Result<Self> {
        let bytes = store.read(files::CONFIG).await.map_err(|error| match error.kind() {
            Kind::NotFound => Error::new(Kind::NotFound, "there is no repository at this place"),
            _ => error,
        })?;
        let (preamble, sealed) = config::parse_preamble(&bytes)?;
        let keys = KeySchedule::new(unlock(&store, preamble.repository, key).await?);
        if keys.root().commitment() != preamble.commitment {
            return Err(Error::damaged("the repository's config is of another repository than its slots"));
        }
        cpu::with_opener(preamble.repository, &keys, |opener| {
            config::open_settings(&preamble, sealed, opener)
        })?;
        let repository = Self::with_keys(store, preamble.repository, keys, cache, ctx)?;
        // What the cache kept may be older than the last kill.
        repository.refresh_index().await?;
        Ok(repository)
    }

    fn with_keys(
        store: Store,
        id: RepositoryId,
        keys: KeySchedule,
        cache: &Path,
        ctx: &Context,
    ) -> Result<Self> {
        let cache = Cache::open(cache, id)?;
        let refreshing = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner { store, id, keys, cache, entropy: ctx.entropy.clone(), refreshing })))
    }

    /// Adds a slot with a new recovery key and returns the key's text. It cannot be shown again.
    pub async fn export_recovery_key(&self) -> Result<String> {
        let key = UnlockKey::new(random(self.entropy()));
        write_slot(&self.0.store, SlotKind::Recovery, self.0.id, &self.0.keys, &key, self.entropy()).await?;
        Ok(key.to_recovery_text().to_string())
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

    /// Seals and creates a named file.
    pub(crate) async fn create_file(&self, name: &str, plain: &[u8]) -> Result<(Created, u64)> {
        let nonce = random(self.entropy());
        let mut sealed = Vec::new();
        cpu::with_sealer(self.0.id, EPOCH, &self.0.keys, |sealer| {
            sealer.seal(Subject::File(name), plain, nonce, &mut sealed)
        })?;
        let len = sealed.len() as u64;
        Ok((self.0.store.create(name, Bytes::from(sealed)).await?, len))
    }
}

fn taken() -> Error {
    Error::new(Kind::Conflict, "there is a repository at this place already")
        .with_help("Open it, or choose another place.")
}

async fn write_slot(
    store: &Store,
    kind: SlotKind,
    repository: RepositoryId,
    keys: &KeySchedule,
    key: &UnlockKey,
    entropy: &dyn Entropy,
) -> Result<SlotId> {
    let id = SlotId(random(entropy));
    let bytes = slot::wrap(kind, repository, id, keys.root(), key, random(entropy))?;
    match store.create(&files::slot(id), bytes.into()).await? {
        Created::New => Ok(id),
        Created::Taken => Err(Error::new(Kind::Internal, "two random slot ids were equal")),
    }
}

/// Tries every slot. Damage of one is told only when no other opens.
async fn unlock(store: &Store, repository: RepositoryId, key: &UnlockKey) -> Result<RootKey> {
    let mut damage = None;
    for file in store.list(files::SLOTS).await? {
        let Some(id) = file.name.strip_prefix(files::SLOTS).and_then(SlotId::parse) else { continue };
        match slot::unwrap(repository, id, &store.read(&file.name).await?, key) {
            Ok(root) => return Ok(root),
            Err(repo_format::Error::WrongKey) => {}
            Err(error) => damage = Some(Error::damaged(format!("the key slot {id} is damaged: {error}"))),
        }
    }
    Err(damage.unwrap_or_else(|| {
        Error::new(Kind::Denied, "no key slot of the repository opens with this key")
            .with_help("Use the server key file it was made with, or its recovery key.")
    }))
}
