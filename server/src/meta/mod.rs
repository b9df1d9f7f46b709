//! What the server remembers beside the repositories: accounts, projects, databases, jobs.
//!
//! Kept in one redb file. Callers see functions in domain terms, one file per aggregate, and no
//! tables, so that another store can take redb's place. Every call runs off the async threads.

mod audit;
mod damage;
mod databases;
mod diffs;
mod identities;
mod jobs;
mod projects;
mod reseal;
mod restores;
mod rows;
mod schedules;
mod sessions;
mod settings;
mod store;
mod upgrade;
mod users;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use engine::clock::{Clock, System};
use redb::{Database, ReadTransaction, WriteTransaction};
use serde::{Deserialize, Serialize};

pub use audit::Verified;
pub use damage::{Damage, Finding, Findings};
pub use databases::{ConnectedDatabase, Endpoint, Environment, Protection};
pub use diffs::{ComparedWith, Diff};
pub use identities::{Identity, LinkOutcome, Provider, UnlinkOutcome};
pub use jobs::{Finish, JobRecord, JobState, RETRY_PAUSES, Subject, VerifyMode, Work};
pub use projects::Project;
pub use restores::{Restore, RestoreMode, Scope};
pub use schedules::{DueRun, Reason, Schedule};
pub use sessions::{Rotation, Session, TokenHash};
pub use settings::RetiredSlot;
use store::{ReadOnly, Store};
pub use users::{PasswordOutcome, Registration, User};

use crate::audit::Seal;

/// The layout of the tables. A file of an older one is brought up to date when it is opened, one of a
/// newer one is refused.
const SCHEMA_VERSION: u32 = 4;

/// A failure of the store itself; there is nothing a user could do differently.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the metadata store failed: {0}")]
    Store(Box<redb::Error>),
    #[error("a metadata row cannot be read: {0}")]
    Row(#[from] serde_json::Error),
    #[error(
        "the metadata has layout {found}, and this version reads layouts up to {SCHEMA_VERSION}: use the version that \
         wrote it, or a newer one"
    )]
    Version { found: u32 },
    #[error("the metadata file cannot be used: {0}")]
    Closed(String),
    #[error("the metadata file is not the one that was open before: stop the server, and put that one back")]
    Swapped,
    #[error("a metadata task did not finish")]
    Task,
    #[error(transparent)]
    Sealed(#[from] crate::server_key::SealBroken),
}

impl Error {
    /// Whether the file could not be read or written, for want of space for example.
    pub fn is_io(&self) -> bool {
        match self {
            Self::Store(error) => matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo),
            Self::Closed(_) => true,
            _ => false,
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Error {
            fn from(error: redb::$error) -> Self {
                Self::Store(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(CommitError, DatabaseError, StorageError, TableError, TransactionError);

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The id the page begins behind.
    pub after: Option<String>,
    pub limit: usize,
}

impl PageRequest {
    /// Everything, for lists that are short by nature.
    pub fn all() -> Self {
        Self { after: None, limit: usize::MAX }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

/// The metadata store.
#[derive(Clone)]
pub struct Meta {
    store: Arc<Store>,
    /// What seals entries of the audit log, once the server key is there.
    seal: Arc<OnceLock<Seal>>,
    /// The file, and when there was last seen to be room beside it, by the clock that never jumps. None
    /// where the store is in no file.
    room: Option<Arc<(PathBuf, AtomicU64)>>,
}

/// A transaction that writes, and what seals the entries that it adds to the audit log.
struct Writing {
    tx: WriteTransaction,
    seal: Arc<OnceLock<Seal>>,
}

impl Writing {
    fn seal(&self) -> Option<&Seal> {
        self.seal.get()
    }
}

impl Deref for Writing {
    type Target = WriteTransaction;

    fn deref(&self) -> &WriteTransaction {
        &self.tx
    }
}

/// Whoever asks whether the disk is full does not write to it each time.
const ROOM_BELIEVED_MS: u64 = 10_000;

impl Meta {
    /// Opens the store in `path`, making it on the first start. One process at a time.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.try_exists().map_err(redb::StorageError::from)? {
            store::make(path)?;
        }
        let store = Store::new(Database::create(path)?, path.to_owned())?;
        store::sweep(path);
        let room = Some(Arc::new((path.to_owned(), AtomicU64::new(0))));
        Ok(Self { store: Arc::new(store), seal: Arc::default(), room })
    }

    /// Opens the store in `path` without changing the file. One process at a time.
    pub fn open_to_read(path: &Path) -> Result<Self> {
        let store = Store::to_read(ReadOnly(path.to_owned()))?;
        Ok(Self { store: Arc::new(store), seal: Arc::default(), room: None })
    }

    /// Whether the store answers and would take a write, and the disk has room for one.
    pub async fn check(&self) -> Result<()> {
        let room = self.room.clone();
        self.run(move |store| {
            store.check()?;
            let Some((path, proven_ms)) = room.as_deref() else { return Ok(()) };
            let now_ms = System.elapsed_ms() + ROOM_BELIEVED_MS;
            if now_ms - proven_ms.load(Ordering::Relaxed) >= ROOM_BELIEVED_MS {
                store::prove_room(path).map_err(redb::StorageError::from)?;
                proven_ms.store(now_ms, Ordering::Relaxed);
            }
            Ok(())
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(move |store| store.read(work)).await
    }

    /// Runs `work` in one durable transaction; an error leaves nothing behind.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Writing) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let seal = Arc::clone(&self.seal);
        let room = self.room.clone();
        let write = move |database: &Database| {
            if let Some(room) = &room {
                store::check_room(&room.0).map_err(redb::StorageError::from)?;
            }
            let tx = Writing { tx: database.begin_write()?, seal };
            let done = work(&tx)?;
            tx.tx.commit()?;
            Ok(done)
        };
        self.run(move |store| store.write(write)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| Error::Task)?
    }
}
