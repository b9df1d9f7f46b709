//! A file whose reads and writes fail when told to.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend, WriteTransaction};

use super::super::Meta;
use super::rows::{SETTINGS, USERS};
use super::*;

/// What every opening of the file shares.
#[derive(Debug)]
struct Disk {
    /// So many writes are taken until none is.
    room: AtomicI64,
    /// Writes and syncs that were asked for.
    asked: AtomicU64,
}

impl Disk {
    fn new() -> Arc<Self> {
        Arc::new(Self { room: AtomicI64::new(i64::MAX), asked: AtomicU64::new(0) })
    }

    fn set_room(&self, writes: i64) {
        self.room.store(writes, Ordering::SeqCst);
    }

    fn write(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.room.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        work()
    }
}

#[derive(Debug)]
struct Backend {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.write(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.write(|| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(|| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// A file on a disk.
struct At(PathBuf, Arc<Disk>);

impl At {
    fn backend(&self) -> Result<Backend, DatabaseError> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&self.0);
        let file = file.map_err(redb::StorageError::from)?;
        Ok(Backend { file: FileBackend::new(file)?, disk: Arc::clone(&self.1) })
    }
}

impl Place for At {
    fn prove_room(&self) -> io::Result<()> {
        if self.1.room.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn open(&self) -> Result<Database, DatabaseError> {
        Database::builder().create_with_backend(self.backend()?)
    }

    fn open_to_read(&self) -> Result<Database, DatabaseError> {
        over(self.backend()?)
    }
}

fn opened_at(path: &Path, then: &Path, disk: &Arc<Disk>) -> Meta {
    let database = At(path.to_owned(), Arc::clone(disk)).open().unwrap();
    let store = Store::new(database, At(then.to_owned(), Arc::clone(disk))).unwrap();
    Meta { store: Arc::new(Store { pause_ms: 0, ..store }), seal: Arc::default(), room: None }
}

fn on(path: PathBuf, disk: &Arc<Disk>) -> Meta {
    opened_at(&path, &path, disk)
}

/// Two rows that belong together.
fn put_both(tx: &WriteTransaction, n: u64) -> Result<()> {
    rows::put(tx, SETTINGS, "one", &n)?;
    rows::put(tx, USERS, "other", &(n, "x".repeat(10_000)))
}

async fn both(meta: &Meta) -> Result<(Option<u64>, Option<u64>)> {
    let read = meta.read(|tx| {
        let other: Option<(u64, String)> = rows::get(&tx.open_table(USERS)?, "other")?;
        Ok((rows::get(&tx.open_table(SETTINGS)?, "one")?, other.map(|(n, _)| n)))
    });
    read.await
}

#[tokio::test]
async fn a_full_disk_is_told_and_forgotten_once_there_is_room() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let meta = on(folder.path().join("meta.redb"), &disk);
    meta.write(|tx| put_both(tx, 1)).await.unwrap();
    meta.check().await.unwrap();
    disk.set_room(0);
    for n in 2..5 {
        let error = meta.write(move |tx| put_both(tx, n)).await.unwrap_err();
        assert!(error.is_io(), "{error}");
        assert!(meta.check().await.unwrap_err().is_io());
        // What was committed is read all the while, and that writes nothing.
        let before = disk.asked.load(Ordering::SeqCst);
        assert_eq!(both(&meta).await.unwrap(), (Some(1), Some(1)));
        assert_eq!(disk.asked.load(Ordering::SeqCst), before);
    }
    disk.set_room(i64::MAX);
    meta.check().await.unwrap();
    assert_eq!(both(&meta).await.unwrap(), (Some(1), Some(1)));
    meta.write(|tx| put_both(tx, 6)).await.unwrap();
    assert_eq!(both(&meta).await.unwrap(), (Some(6), Some(6)));
}

#[tokio::test]
async fn a_check_writes_nothing() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let meta = on(folder.path().join("meta.redb"), &disk);
    let before = disk.asked.load(Ordering::SeqCst);
    for _ in 0..20 {
        meta.check().await.unwrap();
    }
    assert_eq!(disk.asked.load(Ordering::SeqCst), before);
}

/// Whichever write is the first that fails: what was committed before is there, what failed is there
/// whole or not at all, and what comes after works.
#[tokio::test]
async fn whichever_write_fails_transactions_are_whole() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let meta = on(folder.path().join("meta.redb"), &disk);
    let mut n = 0;
    for room in 0.. {
        n += 1;
        meta.write(move |tx| put_both(tx, n)).await.unwrap();
        n += 1;
        disk.set_room(room);
        let failing = meta.write(move |tx| put_both(tx, n)).await;
        disk.set_room(i64::MAX);
        let (one, other) = both(&meta).await.unwrap();
        assert_eq!(one, other, "room for {room} writes");
        match failing {
            Ok(()) => {
                assert_eq!(one, Some(n));
                assert!(room > 2, "some have failed");
                return;
            }
            Err(error) => {
                assert!(error.is_io() && (one == Some(n - 1) || one == Some(n)), "{error}: {one:?}")
            }
        }
    }
}

#[tokio::test]
async fn another_file_in_its_place_is_refused() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Disk::new());
    let (path, other) = (folder.path().join("meta.redb"), folder.path().join("other.redb"));
    let meta = opened_at(&path, &other, &disk);
    disk.set_room(0);
    meta.write(|tx| put_both(tx, 1)).await.unwrap_err();
    // It is not read either.
    both(&meta).await.unwrap_err();
    disk.set_room(i64::MAX);
    let error = meta.check().await.unwrap_err();
    assert!(error.is_io() && error.to_string().contains("not the one"), "{error}");
}
