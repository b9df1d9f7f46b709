//! Where objects are, as a local copy of the index.
//!
//! The cache is a hint. It holds what index files said that were listed once; it is brought up to
//! date against the listing before it is relied on, and when it is missing, damaged, or of another
//! repository, it is made anew. Reads prove what they get by hashing it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use repo_format::id::{ObjectId, ObjectKind, PackId, RepositoryId};
use repo_format::index::IndexedPack;

use crate::error::{Error, Kind, Result};

/// Object id to place: pack (16), offset, frame length, plain length (4 each), kind (1).
const OBJECTS: TableDefinition<&[u8; 32], &[u8; PLACE]> = TableDefinition::new("objects");
/// Names of the index files whose content is in `OBJECTS`.
const INDEX_FILES: TableDefinition<&str, ()> = TableDefinition::new("index_files");
/// Packs that objects of `OBJECTS` are in.
const PACKS: TableDefinition<&[u8; 16], ()> = TableDefinition::new("packs");
/// Whose cache this is.
const REPOSITORY: TableDefinition<(), &[u8; 16]> = TableDefinition::new("repository");
const PLACE: usize = 29;

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub pack: PackId,
    pub offset: u32,
    pub len: u32,
    pub plain_len: u32,
    pub kind: ObjectKind,
}

impl Place {
    fn to_bytes(self) -> [u8; PLACE] {
        let mut out = [0; PLACE];
        out[..16].copy_from_slice(&self.pack.0);
        out[16..20].copy_from_slice(&self.offset.to_le_bytes());
        out[20..24].copy_from_slice(&self.len.to_le_bytes());
        out[24..28].copy_from_slice(&self.plain_len.to_le_bytes());
        out[28] = self.kind as u8;
        out
    }

    fn from_bytes(bytes: &[u8; PLACE]) -> Option<Self> {
        let word = |at: usize| bytes[at..].first_chunk().copied().map(u32::from_le_bytes);
        Some(Self {
            pack: PackId(*bytes.first_chunk()?),
            offset: word(16)?,
            len: word(20)?,
            plain_len: word(24)?,
            kind: ObjectKind::from_byte(bytes[28])?,
        })
    }
}

/// What a cache was made from.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub index_files: BTreeSet<String>,
    pub packs: BTreeSet<PackId>,
}

/// The cache of one repository. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cache {
    database: Arc<Database>,
}

impl Cache {
    /// Opens the cache, or makes an empty one when it cannot be used.
    pub fn open(path: &Path, repository: RepositoryId) -> Result<Self> {
        let usable = || -> Result<Database, redb::Error> {
            let database = create(path)?;
            let read = database.begin_read()?;
            let owner = match read.open_table(REPOSITORY) {
                Ok(table) => table.get(())?.map(|owner| *owner.value()),
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.into()),
            };
            if owner == Some(repository.0) {
                Ok(database)
            } else {
                Err(redb::Error::Corrupted("not ours".into()))
            }
        };
        let database = match usable() {
            Ok(database) => database,
            Err(redb::Error::DatabaseAlreadyOpen) => {
                return Err(Error::new(Kind::Storage, "the index cache is in use by another process")
                    .with_help("Give each server a data folder of its own."));
            }
            Err(_) => Self::fresh(path, repository)?,
        };
        Ok(Self { database: Arc::new(database) })
    }

    fn fresh(path: &Path, repository: RepositoryId) -> Result<Database> {
        let make = || -> Result<Database, redb::Error> {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let database = create(path)?;
            let write = database.begin_write()?;
            write.open_table(REPOSITORY)?.insert((), &repository.0)?;
            make_tables(&write)?;
            write.commit()?;
            Ok(database)
        };
        make().map_err(failed)
    }

    /// Forgets everything and takes in these index files instead, in one step.
    pub fn replace(&self, files: &[(Option<String>, Vec<IndexedPack>)]) -> Result<()> {
        let replace = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            write.delete_table(OBJECTS)?;
            write.delete_table(INDEX_FILES)?;
            write.delete_table(PACKS)?;
            make_tables(&write)?;
            for (name, packs) in files {
                insert(&write, name.as_deref(), packs)?;
            }
            write.commit()?;
            Ok(())
        };
        replace().map_err(failed)
    }

    /// Where an object is, as far as the cache knows.
    pub fn place(&self, id: &ObjectId) -> Result<Option<Place>> {
        let place = || -> Result<Option<Place>, redb::Error> {
            let read = self.database.begin_read()?;
            let found = read.open_table(OBJECTS)?.get(&id.0)?;
            Ok(found.and_then(|bytes| Place::from_bytes(bytes.value())))
        };
        place().map_err(failed)
    }

    /// The index files and packs that the cache knows of.
    pub fn known(&self) -> Result<Known> {
        let known = || -> Result<Known, redb::Error> {
            let read = self.database.begin_read()?;
            let mut known = Known::default();
            for entry in read.open_table(INDEX_FILES)?.iter()? {
                known.index_files.insert(entry?.0.value().to_owned());
            }
            for entry in read.open_table(PACKS)?.iter()? {
                known.packs.insert(PackId(*entry?.0.value()));
            }
            Ok(known)
        };
        known().map_err(failed)
    }

    /// Takes in what one index file says, and remembers the file when it is named.
    pub fn add(&self, index_file: Option<&str>, packs: &[IndexedPack]) -> Result<()> {
        let add = || -> Result<(), redb::Error> {
            let mut write = self.database.begin_write()?;
            // Losing the cache costs a listing; waiting for the disk here would cost every backup.
            write.set_durability(Durability::None)?;
            insert(&write, index_file, packs)?;
            write.commit()?;
            Ok(())
        };
        add().map_err(failed)
    }

    /// Every object known, in id order, handed to `each`.
    pub fn for_each(&self, mut each: impl FnMut(ObjectId, Place)) -> Result<()> {
        let mut walk = || -> Result<(), redb::Error> {
            let read = self.database.begin_read()?;
            let table = read.open_table(OBJECTS)?;
            for entry in table.iter()? {
                let (id, place) = entry?;
                if let Some(place) = Place::from_bytes(place.value()) {
                    each(ObjectId(*id.value()), place);
                }
            }
            Ok(())
        };
        walk().map_err(failed)
    }
}

/// The database's own page cache is kept small: one lookup touches a few pages, and the server's
/// memory is stated.
const PAGE_CACHE: usize = 16 << 20;

fn create(path: &Path) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(PAGE_CACHE).create(path)
}

/// Empty tables, where there are none: a table that nobody made cannot be read.
fn make_tables(write: &redb::WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(OBJECTS)?;
    write.open_table(INDEX_FILES)?;
    write.open_table(PACKS)?;
    Ok(())
}

fn insert(
    write: &redb::WriteTransaction,
    index_file: Option<&str>,
    packs: &[IndexedPack],
) -> Result<(), redb::Error> {
    let mut objects = write.open_table(OBJECTS)?;
    let mut known_packs = write.open_table(PACKS)?;
    for pack in packs {
        known_packs.insert(&pack.id.0, ())?;
        for object in &pack.objects {
            let place = Place {
                pack: pack.id,
                offset: object.offset,
                len: object.len,
                plain_len: object.plain_len,
                kind: object.kind,
            };
            objects.insert(&object.id.0, &place.to_bytes())?;
        }
    }
    if let Some(name) = index_file {
        write.open_table(INDEX_FILES)?.insert(name, ())?;
    }
    Ok(())
}

fn failed(error: redb::Error) -> Error {
    Error::new(Kind::Storage, format!("the index cache failed: {error}"))
        .with_help("Delete the cache file: it is made anew from the repository.")
        .with_source(error)
}
