//! The open database file, and its opening anew after it failed.
//!
//! redb takes nothing more once a read or a write of its file failed, a full disk being the common
//! reason: what is in memory may differ from what is on the disk. Opened anew, it is as after a crash:
//! every transaction is there whole or not at all. So whoever comes next after a failure opens it anew,
//! and it is written again only once there is room on the disk and a commit has reached it. Until then it
//! is read, with what opening it would write kept in memory.

mod overlay;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use engine::clock::{Clock, System};
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, TableError, TransactionError,
};

use self::overlay::Overlay;
use super::{Error, Result, SCHEMA_VERSION, rows, settings, upgrade};
use crate::private::{self, folder_of};

/// A file that cannot be opened anew is left alone for so long: each attempt reads much of it.
const PAUSE_MS: u64 = 1000;

/// So much has to fit on the disk before the file is opened anew: a commit alone may find room in pages
/// that the file has already, and the next one none.
const ROOM_BYTES: usize = 1 << 20;

/// What the names of files begin with that are being made.
const TEMPORARY: &str = ".meta-";

/// Makes a file with nothing in it. It gets its name once it is whole: whoever is killed before, or finds no
/// room, leaves none that cannot be opened.
pub(super) fn make(path: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::from(StorageError::from(error));
    let folder = folder_of(path);
    let made = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder).map_err(failed)?;
    drop(Database::create(made.path())?);
    made.as_file().sync_all().map_err(failed)?;
    match made.persist_noclobber(path) {
        Ok(_) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        // Another process was faster.
        Err(_) if path.exists() => Ok(()),
        Err(error) => Err(failed(error.error)),
    }
}

/// Removes what programs that were killed while they made the file left beside it.
pub(super) fn sweep(path: &Path) {
    private::sweep(folder_of(path), |name| name.starts_with(TEMPORARY));
}

/// Where a database's file is: how it is opened once it was made. Nothing here makes one.
pub(super) trait Place: Send + Sync {
    fn prove_room(&self) -> io::Result<()>;

    fn open(&self) -> Result<Database, DatabaseError>;

    /// As [`open`](Self::open), and whatever is written stays in memory.
    fn open_to_read(&self) -> Result<Database, DatabaseError>;
}

impl Place for PathBuf {
    fn prove_room(&self) -> io::Result<()> {
        prove_room(self)
    }

    fn open(&self) -> Result<Database, DatabaseError> {
        Database::open(self)
    }

    fn open_to_read(&self) -> Result<Database, DatabaseError> {
        // For writing, too: else it could not be locked.
        let file = File::options().read(true).write(true).open(self).map_err(StorageError::from)?;
        over(FileBackend::new(file)?)
    }
}

/// A file that stays as it is, whatever becomes of it.
pub(super) struct ReadOnly(pub PathBuf);

impl Place for ReadOnly {
    fn prove_room(&self) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "it was opened to be read"))
    }

    fn open(&self) -> Result<Database, DatabaseError> {
        self.open_to_read()
    }

    fn open_to_read(&self) -> Result<Database, DatabaseError> {
        self.0.open_to_read()
    }
}

/// A database that leaves the file as it is.
fn over(file: impl redb::StorageBackend) -> Result<Database, DatabaseError> {
    Database::builder().create_with_backend(Overlay::new(file).map_err(StorageError::from)?)
}

pub(super) struct Store {
    /// Held for reading by every transaction, so that none is open when the file is closed.
    state: RwLock<State>,
    /// Whether a read or a write of the file has failed since it was opened to be written.
    has_failed: AtomicBool,
    /// Whether one has failed since it was opened.
    is_spent: AtomicBool,
    place: Box<dyn Place>,
    pause_ms: u64,
}

struct State {
    open: Open,
    /// When opening it to be written failed last, by the clock that never jumps, and why.
    failure: Option<(u64, String)>,
}

enum Open {
    ToWrite(Database),
    ToRead(Database),
    Not,
}

impl Store {
    /// Takes a database that was just opened or made, and brings it up to date.
    pub fn new(database: Database, place: impl Place + 'static) -> Result<Self> {
        let tx = database.begin_write()?;
        rows::create_tables(&tx)?;
        upgrade::bring_up_to_date(&tx)?;
        tx.commit()?;
        Ok(Self::with_open(Open::ToWrite(database), place))
    }

    /// Opens a file that stays as it is. Of an older layout, too: the tables that it lacks are empty, and its
    /// rows are as that version wrote them.
    pub fn to_read(place: ReadOnly) -> Result<Self> {
        let database = place.open_to_read()?;
        // In memory alone.
        let tx = database.begin_write()?;
        upgrade::refuse_newer(&tx)?;
        rows::create_tables(&tx)?;
        tx.commit()?;
        Ok(Self::with_open(Open::ToRead(database), place))
    }

    fn with_open(open: Open, place: impl Place + 'static) -> Self {
        Self {
            state: RwLock::new(State { open, failure: None }),
            has_failed: AtomicBool::new(false),
            is_spent: AtomicBool::new(false),
            place: Box::new(place),
            pause_ms: PAUSE_MS,
        }
    }

    /// Lets `work` read. After a failure that is what was committed before, until writes work again.
    pub fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.with(false, |database| work(&database.begin_read()?))
    }

    /// Lets `work` write. After a failure the file is opened anew first; `work` itself is never repeated,
    /// because a commit that failed may have reached the disk all the same.
    pub fn write<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        self.with(true, work)
    }

    fn with<T>(&self, writes: bool, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        if self.has_failed.load(Ordering::Acquire) {
            self.open_anew();
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let database = match &state.open {
            Open::ToWrite(database) => database,
            Open::ToRead(database) if !writes => database,
            Open::ToRead(_) | Open::Not => return Err(state.closed()),
        };
        let done = work(database);
        // While the lock is held: whoever opens it anew has seen all failures of the one before.
        if let Err(error) = &done
            && error.is_io()
        {
            self.is_spent.store(true, Ordering::Release);
            if !self.has_failed.swap(true, Ordering::AcqRel) {
                tracing::error!(%error, "the metadata file failed, and is opened anew; is its disk full?");
            }
        }
        done
    }

    /// Whether the database would take a write now. Writes nothing.
    pub fn check(&self) -> Result<()> {
        self.write(|database| {
            match database.try_begin_write() {
                Ok(tx) => tx.abort()?,
                // Somebody is writing.
                Err(TransactionError::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
            rows::get::<u32>(&database.begin_read()?.open_table(rows::SETTINGS)?, settings::VERSION).map(drop)
        })
    }

    /// Opens the file to be written if it is time to try that, else to be read.
    fn open_anew(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !self.has_failed.load(Ordering::Acquire) {
            // Somebody else did.
            return;
        }
        let is_spent = self.is_spent.swap(false, Ordering::AcqRel);
        let now_ms = System.elapsed_ms();
        let is_due = state.failure.as_ref().is_none_or(|(at_ms, _)| now_ms - at_ms >= self.pause_ms);
        if is_due {
            match self.open_proven(&mut state.open) {
                Ok(database) => {
                    *state = State { open: Open::ToWrite(database), failure: None };
                    self.has_failed.store(false, Ordering::Release);
                    tracing::warn!("the metadata file works again");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the metadata file takes no writes, and that is tried again");
                    state.failure = Some((now_ms, error.to_string()));
                }
            }
        }
        if is_spent || (is_due && matches!(state.open, Open::Not)) {
            // First its lock has to go.
            state.open = Open::Not;
            match self.open_to_read() {
                Ok(database) => state.open = Open::ToRead(database),
                Err(error) => tracing::warn!(%error, "the metadata file cannot be read either"),
            }
        }
    }

    /// Opens it anew, and proves by a commit that it takes writes. It is closed for that once there is
    /// room: until then it can be read.
    fn open_proven(&self, open: &mut Open) -> Result<Database> {
        self.place.prove_room().map_err(StorageError::from)?;
        // First its lock has to go.
        *open = Open::Not;
        let database = self.place.open()?;
        let tx = database.begin_write()?;
        // Where the file was swapped for another, an empty one least of all, going on would mix the two.
        if settings::version(&tx)? != Some(SCHEMA_VERSION) {
            return Err(Error::Swapped);
        }
        settings::set_version(&tx, SCHEMA_VERSION)?;
        tx.commit()?;
        Ok(database)
    }

    fn open_to_read(&self) -> Result<Database> {
        let database = self.place.open_to_read()?;
        let version = match database.begin_read()?.open_table(rows::SETTINGS) {
            Ok(settings) => rows::get(&settings, settings::VERSION)?,
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if version != Some(SCHEMA_VERSION) {
            return Err(Error::Swapped);
        }
        Ok(database)
    }
}

/// Fails where there is too little room beside the file for what one request writes: the change, and its entry
/// in the audit log. On a full disk the first may still fit in pages that the file has, and the second not.
pub(super) fn check_room(path: &Path) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder_of(path))?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES as u64 {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
    }
    Ok(())
}

/// Writes a file beside `path` and removes it again.
pub(super) fn prove_room(path: &Path) -> io::Result<()> {
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
