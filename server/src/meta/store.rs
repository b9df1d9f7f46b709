//! The open database file, and its opening anew after it failed.
//!
//! redb takes nothing more once a read or a write of its file failed, a full disk being the common
//! reason: what is in memory may differ from what is on the disk. Opened anew, it is as after a crash:
//! every transaction is there whole or not at all. So whoever comes next after a failure opens it anew,
//! and it is used again only once there is room on the disk and a commit has reached it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use engine::clock::{Clock, System};
use redb::{Database, DatabaseError, ReadableDatabase, TransactionError};

use super::{Error, Result, SCHEMA_VERSION, rows, settings, upgrade};
use crate::private;

/// A file that cannot be opened anew is left alone for so long: each attempt reads much of it.
const PAUSE_MS: u64 = 1000;

/// So much has to fit on the disk before the file is opened anew: a commit alone may find room in pages
/// that the file has already, and the next one none.
const ROOM_BYTES: usize = 1 << 20;

type Reopen = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

pub(super) struct Store {
    /// Held for reading by every transaction, so that none is open when the file is closed.
    state: RwLock<State>,
    /// Whether a read or a write of the file has failed since it was opened.
    has_failed: AtomicBool,
    /// Opens the file that was open before, and makes none.
    reopen: Reopen,
    pause_ms: u64,
}

struct State {
    /// None while it cannot be opened.
    database: Option<Database>,
    /// When opening it failed last, by the clock that never jumps, and why.
    failure: Option<(u64, String)>,
}

impl Store {
    /// Takes a database that was just opened or made, and brings it up to date.
    pub fn new(
        database: Database,
        reopen: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self> {
        let tx = database.begin_write()?;
        rows::create_tables(&tx)?;
        upgrade::bring_up_to_date(&tx)?;
        tx.commit()?;
        Ok(Self {
            state: RwLock::new(State { database: Some(database), failure: None }),
            has_failed: AtomicBool::new(false),
            reopen: Box::new(reopen),
            pause_ms: PAUSE_MS,
        })
    }

    /// Lets `work` use the database. After a failure it is opened anew first; `work` itself is never
    /// repeated, because a commit that failed may have reached the disk all the same.
    pub fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        if self.has_failed.load(Ordering::Acquire) {
            self.open_anew()?;
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let database = state.database.as_ref().ok_or_else(|| state.closed())?;
        let done = work(database);
        if let Err(error) = &done
            && error.is_io()
            && !self.has_failed.swap(true, Ordering::AcqRel)
        {
            tracing::error!(%error, "the metadata file failed, and is opened anew; is its disk full?");
        }
        done
    }

    /// Whether the database would take a write now. Writes nothing.
    pub fn check(&self) -> Result<()> {
        self.with(|database| {
            match database.try_begin_write() {
                Ok(tx) => tx.abort()?,
                // Somebody is writing.
                Err(TransactionError::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
            rows::get::<u32>(&database.begin_read()?.open_table(rows::SETTINGS)?, settings::VERSION).map(drop)
        })
    }

    fn open_anew(&self) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !self.has_failed.load(Ordering::Acquire) {
            // Somebody else did.
            return Ok(());
        }
        let now_ms = System.elapsed_ms();
        if state.failure.as_ref().is_some_and(|(at_ms, _)| now_ms - at_ms < self.pause_ms) {
            return Err(state.closed());
        }
        // First its lock has to go.
        drop(state.database.take());
        match self.open_proven() {
            Ok(database) => {
                *state = State { database: Some(database), failure: None };
                self.has_failed.store(false, Ordering::Release);
                tracing::warn!("the metadata file works again");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the metadata file cannot be opened anew, and that is tried again");
                state.failure = Some((now_ms, error.to_string()));
                Err(state.closed())
            }
        }
    }

    /// Opens it anew, and proves by a commit that it takes writes.
    fn open_proven(&self) -> Result<Database> {
        let database = (self.reopen)()?;
        let tx = database.begin_write()?;
        // Where the file was swapped for another, an empty one least of all, going on would mix the two.
        if settings::version(&tx)? != Some(SCHEMA_VERSION) {
            return Err(Error::Swapped);
        }
        settings::set_version(&tx, SCHEMA_VERSION)?;
        tx.commit()?;
        Ok(database)
    }
}

/// Writes a file beside `path` and removes it again.
pub(super) fn prove_room(path: &Path) -> std::io::Result<()> {
    let probe = path.with_extension("room");
    let written = private::create_file(&probe).and_then(|()| {
        let mut file = OpenOptions::new().write(true).truncate(true).open(&probe)?;
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync_all()
    });
    // It takes room where there is none.
    let removed = std::fs::remove_file(&probe);
    written.and(removed)
}

impl State {
    fn closed(&self) -> Error {
        let reason = self.failure.as_ref().map(|(_, reason)| reason.clone());
        Error::Closed(reason.unwrap_or_else(|| "it failed before".to_owned()))
    }
}

#[cfg(test)]
mod tests;
