//! The opened repositories, one per project.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use engine::repo::{Keyring, Repository};
use engine::store::Storage;
use engine::{Context, Error, Kind};
use repo_format::id::SnapshotId;
use tokio::sync::OnceCell;

use crate::error::{Problem, Result};
use crate::ids::ProjectId;
use crate::private;

/// Opens each project's repository once and keeps it open: its index cache is a file that only
/// one opening may hold.
pub struct Repositories {
    storage: Storage,
    keyring: Keyring,
    cache_dir: PathBuf,
    opened: Mutex<HashMap<ProjectId, Arc<OnceCell<Repository>>>>,
    /// Where snapshots were seen; a hint that saves asking every repository.
    seen: Mutex<HashMap<SnapshotId, ProjectId>>,
}

impl Repositories {
    pub fn new(storage: Storage, keyring: Keyring, cache_dir: PathBuf) -> Self {
        Self { storage, keyring, cache_dir, opened: Mutex::default(), seen: Mutex::default() }
    }

    /// The keys that this server has.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// A project's repository.
    pub async fn get(&self, project: ProjectId) -> Result<Repository> {
        self.get_with(project, async |store, cache, ctx| {
            Repository::open(store, &self.keyring, &cache, &ctx).await.map_err(gone)
        })
        .await
    }

    /// As [`get`](Self::get), with other keys than this server's if it is not open yet.
    pub async fn open_with(&self, project: ProjectId, keys: &Keyring) -> Result<Repository> {
        self.get_with(project, async |store, cache, ctx| Repository::open(store, keys, &cache, &ctx).await)
            .await
    }

    /// Closes a repository that was opened and is not to be used.
    pub fn forget(&self, project: ProjectId) {
        self.lock().remove(&project);
    }

    /// Makes a project's repository.
    pub async fn create(&self, project: ProjectId) -> Result<Repository> {
        self.get_with(project, async |store, cache, ctx| {
            Repository::create(store, &self.keyring, &cache, &ctx).await
        })
        .await
    }

    async fn get_with(
        &self,
        project: ProjectId,
        open: impl AsyncFnOnce(engine::store::Store, PathBuf, Context) -> engine::Result<Repository>,
    ) -> Result<Repository> {
        let cell = Arc::clone(self.lock().entry(project).or_default());
        let opened = cell.get_or_try_init(async || {
            private::create_folder(&self.cache_dir).map_err(Problem::internal)?;
            let store = self.storage.store(&project.to_string())?;
            let cache = self.cache_file(project);
            let opened = open(store, cache.clone(), Context::new(&self.cache_dir)).await?;
            private::close_file(&cache).map_err(Problem::internal)?;
            Ok::<_, Problem>(opened)
        });
        opened.await.cloned()
    }

    /// Removes a project's repository: the keys first, then the data. The project has no jobs.
    pub async fn remove(&self, project: ProjectId) -> Result<()> {
        self.lock().remove(&project);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, other| *other != project);
        self.storage.store(&project.to_string())?.delete_all().await?;
        match tokio::fs::remove_file(self.cache_file(project)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Problem::internal(error)),
            _ => Ok(()),
        }
    }

    /// Fails if the storage answers, and is not the one that holds the repositories of these projects: of some,
    /// at least one is there. An empty folder where a volume was mounted answers, too.
    pub async fn check_known(&self, projects: &[ProjectId]) -> engine::Result<()> {
        for project in projects {
            if self.storage.holds_repository(&project.to_string()).await? {
                return Ok(());
            }
        }
        if projects.is_empty() {
            return Ok(());
        }
        let message = "the storage holds none of the repositories that this server knows";
        Err(Error::new(Kind::Storage, message).with_help(BRING_BACK))
    }

    /// Remembers which project's repository holds a snapshot.
    pub fn saw(&self, snapshot: SnapshotId, project: ProjectId) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(snapshot, project);
    }

    /// Where a snapshot was seen.
    pub fn project_of(&self, snapshot: SnapshotId) -> Option<ProjectId> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&snapshot).copied()
    }

    fn cache_file(&self, project: ProjectId) -> PathBuf {
        self.cache_dir.join(format!("{project}.redb"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProjectId, Arc<OnceCell<Repository>>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BRING_BACK: &str = "Bring the storage back: mount the folder again, for example, or set DBSNAP_STORAGE to \
                          where the repositories are. Where a repository is there and its files config and \
                          config.copy are not, bring one of these back from a copy.";

/// A project has a repository that opened once, so it is somewhere else, or its slot is gone.
fn gone(error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => {
            Error::new(Kind::Storage, "the project's repository is not in the storage").with_help(BRING_BACK)
        }
        Kind::Locked => error.with_help(
            "Start the server with the key file or the KMS key that the repository was made with, or type its recovery \
             key on the page \"Open existing storage\" (/storage): then it opens with this server's key again.",
        ),
        _ => error,
    }
}
