//! A repository and a database, for the tests of whole operations.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use engine::repo::{Repository, Snapshot, UnlockKey};
use engine::source::Consistency;
use engine::store::Storage;
use engine::{Context, backup};
use engine_testutils::postgres::Cluster;
use repo_format::manifest::Trigger;
use tempfile::TempDir;

/// A repository in a folder of its own.
pub struct TestRepo {
    pub folder: TempDir,
    pub repo: Repository,
    pub ctx: Context,
}

pub fn key() -> UnlockKey {
    UnlockKey::new([7; 32])
}

impl TestRepo {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let ctx = Context::new(scratch);
        let store = Self::storage(&folder).store("project").unwrap();
        let cache = folder.path().join("cache.redb");
        let repo = Repository::create(store, &key(), &cache, &ctx).await.unwrap();
        Self { folder, repo, ctx }
    }

    fn storage(folder: &TempDir) -> Storage {
        Storage::parse(&format!("fs://{}/storage", folder.path().display())).unwrap()
    }

    /// The repository's files.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("storage/project")
    }

    /// Closes and opens it, with the cache where it was or in a new place.
    pub async fn reopen(self, fresh_cache: bool) -> Self {
        let Self { folder, repo, ctx } = self;
        drop(repo);
        let cache = folder.path().join("cache.redb");
        if fresh_cache {
            std::fs::remove_file(&cache).unwrap();
        }
        let store = Self::storage(&folder).store("project").unwrap();
        let repo = Repository::open(store, &key(), &cache, &ctx).await.unwrap();
        Self { folder, repo, ctx }
    }

    pub async fn backup(&self, url: &str) -> Snapshot {
        self.try_backup(url).await.unwrap()
    }

    pub async fn try_backup(&self, url: &str) -> engine::Result<Snapshot> {
        let request = backup::Request {
            source_id: "db1".to_owned(),
            source_name: "test".to_owned(),
            url: url.to_owned(),
            consistency: Consistency::PointInTime,
            trigger: Trigger::Manual,
            note: None,
        };
        backup::run(&self.repo, &request, &self.ctx).await
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
