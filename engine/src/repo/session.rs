//! Sessions: how everybody who relies on objects says so.
//!
//! A session file is created first, and only then are the index files listed. Whoever deletes
//! objects publishes what it will delete and then waits for every session it finds: so either it
//! sees this session and waits, or this session sees what is condemned and does not rely on it.

use std::collections::BTreeSet;

use repo_format::files;
use repo_format::id::{PackId, SnapshotId};
use repo_format::index::{self, IndexedPack};

use crate::clock::random;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::repo::{Repository, Snapshot};
use crate::store::Created;
use repo_format::manifest::Manifest;

/// A session, open until [`close`](Session::close). A process that dies leaves its file behind.
#[derive(Debug)]
pub struct Session {
    repository: Repository,
    id: SnapshotId,
}

impl Session {
    /// Begins a session and brings the key epoch and the index up to date.
    pub async fn begin(repository: &Repository, ctx: &Context) -> Result<Self> {
        let id = SnapshotId(random(ctx.entropy.as_ref()));
        let began_ms = ctx.clock.now_ms().to_le_bytes();
        match repository.create_file(&files::session(id), &began_ms).await?.0 {
            Created::New => {}
            Created::Taken => return Err(Error::new(Kind::Internal, "two random session ids were equal")),
        }
        let session = Self { repository: repository.clone(), id };
        let refreshed = async {
            repository.refresh_epoch().await?;
            repository.refresh_index().await
        };
        match refreshed.await {
            Ok(()) => Ok(session),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    /// The id of the snapshot that this session may commit.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Creates the manifest: the one point at which a snapshot comes into being. When the outcome
    /// of the creation is not known, what is there decides.
    pub async fn commit(&self, manifest: Manifest) -> Result<Snapshot> {
        let name = files::snapshot(self.id);
        let plain = manifest.to_bytes();
        let mut created = self.repository.create_file(&name, &plain).await;
        if created.is_err() {
            // The failure may have come after the file was there. Trying again tells, and makes
            // sure that what is there is durable.
            created = self.repository.create_file(&name, &plain).await;
        }
        if !matches!(created, Ok((Created::New, _))) {
            let found = match self.repository.store().read(&name).await {
                Ok(sealed) => self.repository.open_file(&name, &sealed).ok(),
                Err(_) => None,
            };
            if found.as_deref() != Some(plain.as_slice()) {
                created?;
                return Err(Error::new(Kind::Conflict, "this backup was ended by another process")
                    .with_help("Start it again; what it stored is used again."));
            }
        }
        Ok(Snapshot { id: self.id, manifest })
    }

    /// Ends the session. A file that cannot be removed only delays deletion of old objects.
    pub async fn close(self) {
        if let Err(error) = self.repository.store().delete(&files::session(self.id)).await {
            tracing::warn!(session = %self.id, %error, "a session file could not be removed");
        }
    }
}

impl Repository {
    /// Brings the index cache up to date with the index files listed now.
    pub(crate) async fn refresh_index(&self) -> Result<()> {
        let _one_at_a_time = self.refreshing().lock().await;
        // What is known is asked for before what is listed, and indexes before packs, which are
        // written in the other order: what is written in between is listed and not known, and an
        // index never names a pack that was listed too early.
        let known = self.cache().known()?;
        let listed_files = self.list_names(files::INDEX).await?;
        let packs: BTreeSet<PackId> =
            self.list_names(files::PACKS).await?.iter().filter_map(|name| pack_of(name)).collect();
        let is_growth = known.index_files.is_subset(&listed_files) && known.packs.is_subset(&packs);
        let mut read = Vec::new();
        for name in &listed_files {
            if is_growth && known.index_files.contains(name) {
                continue;
            }
            match self.read_index(name).await {
                // What is in a pack that is gone is absent, so that the next backup stores it anew.
                Ok(mut indexed) => {
                    let all = indexed.len();
                    indexed.retain(|pack| packs.contains(&pack.id));
                    // Remembered only when whole: a pack may come back from a copy.
                    let remembered = (indexed.len() == all).then(|| name.clone());
                    read.push((remembered, indexed));
                }
                // Its objects are absent too. It is not remembered, so that it is looked at again.
                Err(error) if error.kind() == Kind::Damaged => {
                    tracing::error!(%error, "an index file is damaged; verify says what it hurts");
                }
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if is_growth {
            return read.iter().try_for_each(|(name, packs)| self.cache().add(name.as_deref(), packs));
        }
        // Something is gone, and what was known of it must not be believed. Others read the cache
        // meanwhile, so the new content comes in one step.
        self.cache().replace(&read)
    }

    async fn list_names(&self, folder: &str) -> Result<BTreeSet<String>> {
        Ok(self.store().list(folder).await?.into_iter().map(|file| file.name).collect())
    }

    pub(crate) async fn read_index(&self, name: &str) -> Result<Vec<IndexedPack>> {
        let plain = self.open_file(name, &self.store().read(name).await?)?;
        Ok(index::parse(&plain)?)
    }
}

fn pack_of(name: &str) -> Option<PackId> {
    PackId::parse(name.strip_prefix(files::PACKS)?)
}
