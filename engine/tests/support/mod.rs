//! A repository and a database, for the tests of whole operations.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use engine::repo::{Repository, Snapshot, UnlockKey};
use engine::source::Consistency;
use engine::store::{Access, Credentials, Storage};
use engine::{Context, backup};
use engine_testutils::postgres::Cluster;
use engine_testutils::store;
use repo_format::manifest::Trigger;
use tempfile::TempDir;

/// The storage at a URL, with the key that every object store of the tests takes. It gives up soon.
pub fn storage(url: &str) -> Storage {
    let credentials = Credentials {
        access_key_id: store::ACCESS_KEY_ID.to_owned(),
        secret_access_key: store::SECRET_ACCESS_KEY.to_owned(),
    };
    let (retries, pause) = (3, std::time::Duration::from_millis(10));
    let access = Access { credentials: Some(credentials), retries, pause, ..Access::default() };
    Storage::parse_with(url, &access).unwrap()
}

/// A repository of its own.
pub struct TestRepo {
    pub folder: TempDir,
    storage: Storage,
    pub repo: Repository,
    pub ctx: Context,
}

pub fn key() -> UnlockKey {
    UnlockKey::new([7; 32])
}

impl TestRepo {
    /// In a folder; with `DBSNAP_TEST_STORAGE=seaweedfs`, in SeaweedFS.
    pub async fn new() -> Self {
        match std::env::var("DBSNAP_TEST_STORAGE").as_deref() {
            Ok("seaweedfs") => {
                Self::in_storage(storage(&store::seaweedfs::Server::shared().fresh_url())).await
            }
            Ok(other) => panic!("DBSNAP_TEST_STORAGE={other:?} is no storage: use seaweedfs"),
            Err(_) => Self::in_folder().await,
        }
    }

    /// In a folder in any case: for tests that change its files.
    pub async fn in_folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::parse(&format!("fs://{}/storage", folder.path().display())).unwrap();
        Self::made(folder, storage).await
    }

    pub async fn in_storage(storage: Storage) -> Self {
        Self::made(tempfile::tempdir().unwrap(), storage).await
    }

    async fn made(folder: TempDir, storage: Storage) -> Self {
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let ctx = Context::new(scratch);
        let cache = folder.path().join("cache.redb");
        let store = storage.store("project").unwrap();
        let repo = Repository::create(store, &key(), &cache, &ctx).await.unwrap();
        Self { folder, storage, repo, ctx }
    }

    /// Where the repository is.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The repository's files, of one that was made in a folder.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("storage/project")
    }

    /// Closes and opens it, with the cache where it was or in a new place.
    pub async fn reopen(self, fresh_cache: bool) -> Self {
        let Self { folder, storage, repo, ctx } = self;
        drop(repo);
        let cache = folder.path().join("cache.redb");
        if fresh_cache {
            std::fs::remove_file(&cache).unwrap();
        }
        let store = storage.store("project").unwrap();
        let repo = Repository::open(store, &key(), &cache, &ctx).await.unwrap();
        Self { folder, storage, repo, ctx }
    }

    pub async fn backup(&self, url: &str) -> Snapshot {
        self.try_backup(url).await.unwrap()
    }

    pub async fn try_backup(&self, url: &str) -> engine::Result<Snapshot> {
        backup::run(&self.repo, &request(url), &self.ctx).await
    }
}

/// A backup of what a URL leads to.
pub fn request(url: &str) -> backup::Request {
    backup::Request {
        source_id: "db1".to_owned(),
        source_name: "test".to_owned(),
        url: url.to_owned(),
        consistency: Consistency::PointInTime,
        trigger: Trigger::Manual,
        note: None,
    }
}

/// A database with some content, and the URL of a role that may only read it.
pub async fn database(sql: &str) -> (&'static Cluster, String, String) {
    let cluster = Cluster::shared();
    let name = cluster.fresh_database("job").await;
    cluster.execute(&name, sql).await;
    let url = cluster.create_read_only_role(&name, &format!("{name}_reader")).await;
    (cluster, name, url)
}
