//! Where objects are, as a local copy of the index.
//!
//! The cache is a hint. It holds what index files said that were listed once; what of that may be
//! believed now is the [`View`]'s to say, which is made anew from every listing. When the cache is
//! missing, damaged, or of another repository, it is made anew. Reads prove what they get by
//! hashing it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use repo_format::files;
use repo_format::id::{ObjectId, ObjectKind, PackId, RepositoryId};
use repo_format::index::IndexedPack;

use crate::clock::Clock;
use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::repo::view::{Standing, View};

/// Object id (32) and pack (16) to place: offset, frame length, plain length (4 each), kind (1).
const PLACES: TableDefinition<&[u8; 48], &[u8; PLACE]> = TableDefinition::new("places");
/// Names of the index files whose content is in `PLACES`.
const INDEX_FILES: TableDefinition<&str, ()> = TableDefinition::new("index_files");
/// Which index file names which packs, and how many objects each has.
const INDEXED_PACKS: TableDefinition<(&str, &[u8; 16]), u64> = TableDefinition::new("indexed_packs");
/// Verdicts that were read, whole: they never change and are never deleted.
const VERDICTS: TableDefinition<u64, &[u8]> = TableDefinition::new("verdicts");
/// Whose cache this is.
const REPOSITORY: TableDefinition<(), &[u8; 16]> = TableDefinition::new("places_of_repository");
const PLACE: usize = 13;

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
        out[..4].copy_from_slice(&self.offset.to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..12].copy_from_slice(&self.plain_len.to_le_bytes());
        out[12] = self.kind as u8;
        out
    }

    fn from_bytes(pack: PackId, bytes: &[u8; PLACE]) -> Option<Self> {
        let word = |at: usize| bytes[at..].first_chunk().copied().map(u32::from_le_bytes);
        Some(Self {
            pack,
            offset: word(0)?,
            len: word(4)?,
            plain_len: word(8)?,
            kind: ObjectKind::from_byte(bytes[12])?,
        })
    }
}

fn row(id: &ObjectId, pack: PackId) -> [u8; 48] {
    let mut row = [0; 48];
    row[..32].copy_from_slice(&id.0);
    row[32..].copy_from_slice(&pack.0);
    row
}

fn parse_row(row: &[u8; 48], place: &[u8; PLACE]) -> Option<(ObjectId, Place)> {
    let (id, pack) = row.split_first_chunk::<32>()?;
    Some((ObjectId(*id), Place::from_bytes(PackId(*pack.first_chunk()?), place)?))
}

/// What one index file says.
pub(crate) struct IndexFile {
    pub name: String,
    pub packs: Vec<IndexedPack>,
}

/// The cache of one repository. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cache {
    database: Arc<Database>,
    view: Arc<RwLock<View>>,
}

impl Cache {
    /// Opens the cache, or makes an empty one when it cannot be used. Whoever has its file open may be about to
    /// let it go: what was read ahead, or a program that was started from here and has yet to begin.
    pub async fn open(path: &Path, repository: RepositoryId, clock: &dyn Clock) -> Result<Self> {
        #[cfg(test)]
        if path.as_os_str().is_empty() {
            return Self::in_memory(repository);
        }
        for _ in 0..20 {
            if let Some(cache) = Self::open_now(path, repository)? {
                return Ok(cache);
            }
            clock.sleep(50).await;
        }
        Err(Error::new(Kind::Storage, "the index cache is in use by another process")
            .with_help("Give each server a data folder of its own."))
    }

    /// `None` while somebody else has it open.
    fn open_now(path: &Path, repository: RepositoryId) -> Result<Option<Self>> {
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
            Err(redb::Error::DatabaseAlreadyOpen) => return Ok(None),
            Err(_) => Self::fresh(path, repository)?,
        };
        Ok(Some(Self { database: Arc::new(database), view: Arc::default() }))
    }

    /// A cache without a file, for simulations of many processes.
    #[cfg(test)]
    fn in_memory(repository: RepositoryId) -> Result<Self> {
        let make = || -> Result<Database, redb::Error> {
            let backend = redb::backends::InMemoryBackend::new();
            let database = Database::builder().create_with_backend(backend)?;
            made_ours(&database, repository)?;
            Ok(database)
        };
        Ok(Self { database: Arc::new(make().map_err(failed)?), view: Arc::default() })
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
            made_ours(&database, repository)?;
            Ok(database)
        };
        make().map_err(failed)
    }

    pub fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was listed: forgets index files that are gone, takes in new ones, and believes
    /// from now on what `view` says. With `anew`, forgets everything first, in the same step.
    pub fn update(&self, gone: &BTreeSet<String>, new: &[IndexFile], anew: bool) -> Result<()> {
        if gone.is_empty() && new.is_empty() && !anew {
            return Ok(());
        }
        let update = || -> Result<(), redb::Error> {
            let mut write = self.database.begin_write()?;
            // Losing the cache costs a listing; waiting for the disk here would cost every backup.
            write.set_durability(Durability::None)?;
            if anew {
                write.delete_table(PLACES)?;
                write.delete_table(INDEX_FILES)?;
                write.delete_table(INDEXED_PACKS)?;
                make_tables(&write)?;
            } else {
                for name in gone {
                    write.open_table(INDEX_FILES)?.remove(name.as_str())?;
                    let mut packs = write.open_table(INDEXED_PACKS)?;
                    let range = (name.as_str(), &[0; 16])..=(name.as_str(), &[0xff; 16]);
                    packs.retain_in(range, |_, _| false)?;
                }
            }
            for file in new {
                insert(&write, file)?;
            }
            write.commit()?;
            Ok(())
        };
        update().map_err(failed)
    }

    /// Takes in an index file that this process has just written.
    pub fn add(&self, file: &IndexFile) -> Result<()> {
        self.update(&BTreeSet::new(), std::slice::from_ref(file), false)?;
        self.view_mut().add(file.packs.iter().map(|pack| pack.id));
        Ok(())
    }

    /// Forgets an index file whose content was read before it was damaged: whatever only it names has to be
    /// found without it.
    pub fn forget(&self, name: &str) -> Result<()> {
        self.update(&BTreeSet::from([name.to_owned()]), &[], false)
    }

    /// Believes `view` from now on, together with what was added since `begin_view`.
    pub fn set_view(&self, view: View) {
        let mut current = self.view_mut();
        let added = std::mem::take(&mut current.added);
        *current = view;
        current.add(added);
        current.added.clear();
    }

    /// Remembers from here on what is added, because a listing that begins now may not show it.
    pub fn begin_view(&self) {
        self.view_mut().added.clear();
    }

    /// Where an object is best read; `None` when it is in no pack that may be believed.
    pub fn place(&self, id: &ObjectId) -> Result<Option<Place>> {
        Ok(self.places(id)?.into_iter().next())
    }

    /// Whether a writer may rely on an object that is there: in a pack that is not condemned and not
    /// known to be damaged.
    pub fn may_rely_on(&self, id: &ObjectId) -> Result<bool> {
        let places = self.places(id)?;
        let view = self.view();
        if is_planted(Defect::RelyOnCondemned) {
            return Ok(!places.is_empty());
        }
        Ok(places.iter().any(|place| view.standing(place.pack) == Some(Standing::Sound)))
    }

    /// All places of an object that may be believed, the best first.
    pub fn places(&self, id: &ObjectId) -> Result<Vec<Place>> {
        let places = || -> Result<Vec<Place>, redb::Error> {
            let read = self.database.begin_read()?;
            let table = read.open_table(PLACES)?;
            let mut found = Vec::new();
            for entry in table.range::<&[u8; 48]>(&row(id, PackId([0; 16]))..=&row(id, PackId([0xff; 16])))? {
                let (key, place) = entry?;
                found.extend(parse_row(key.value(), place.value()).map(|(_, place)| place));
            }
            Ok(found)
        };
        let mut places = places().map_err(failed)?;
        self.view().rank(&mut places);
        Ok(places)
    }

    /// The index files whose content is known.
    pub fn index_files(&self) -> Result<BTreeSet<String>> {
        let known = || -> Result<BTreeSet<String>, redb::Error> {
            let read = self.database.begin_read()?;
            let mut known = BTreeSet::new();
            for entry in read.open_table(INDEX_FILES)?.iter()? {
                known.insert(entry?.0.value().to_owned());
            }
            Ok(known)
        };
        known().map_err(failed)
    }

    /// The packs that known index files name, with the number of their objects.
    pub fn indexed_packs(&self) -> Result<BTreeMap<PackId, u64>> {
        let packs = || -> Result<BTreeMap<PackId, u64>, redb::Error> {
            let read = self.database.begin_read()?;
            let mut packs = BTreeMap::new();
            for entry in read.open_table(INDEXED_PACKS)?.iter()? {
                let (key, objects) = entry?;
                packs.insert(PackId(*key.value().1), objects.value());
            }
            Ok(packs)
        };
        packs().map_err(failed)
    }

    /// Known index files: how many objects each names, and whether any of them is in one of these
    /// packs.
    pub fn index_sizes(&self, going: &BTreeSet<PackId>) -> Result<Vec<(PackId, usize, bool)>> {
        let sizes = || -> Result<BTreeMap<String, (u64, bool)>, redb::Error> {
            let read = self.database.begin_read()?;
            let mut sizes: BTreeMap<String, (u64, bool)> = BTreeMap::new();
            for entry in read.open_table(INDEXED_PACKS)?.iter()? {
                let (key, objects) = entry?;
                let (name, pack) = key.value();
                let (sum, names_going) = sizes.entry(name.to_owned()).or_default();
                *sum += objects.value();
                *names_going |= going.contains(&PackId(*pack));
            }
            Ok(sizes)
        };
        let id = |name: &str| PackId::parse(name.strip_prefix(files::INDEX)?);
        let sizes = sizes().map_err(failed)?.into_iter();
        Ok(sizes.filter_map(|(name, (sum, going))| Some((id(&name)?, sum as usize, going))).collect())
    }

    /// Rows in all, those of packs that no index file names any more included.
    pub fn rows(&self) -> Result<u64> {
        let rows =
            || -> Result<u64, redb::Error> { Ok(self.database.begin_read()?.open_table(PLACES)?.len()?) };
        rows().map_err(failed)
    }

    /// The verdicts that were read before, by number.
    pub fn verdicts(&self) -> Result<BTreeMap<u64, Vec<u8>>> {
        let verdicts = || -> Result<BTreeMap<u64, Vec<u8>>, redb::Error> {
            let read = self.database.begin_read()?;
            let mut verdicts = BTreeMap::new();
            for entry in read.open_table(VERDICTS)?.iter()? {
                let (n, plain) = entry?;
                verdicts.insert(n.value(), plain.value().to_owned());
            }
            Ok(verdicts)
        };
        verdicts().map_err(failed)
    }

    /// Remembers a verdict.
    pub fn add_verdict(&self, n: u64, plain: &[u8]) -> Result<()> {
        let add = || -> Result<(), redb::Error> {
            let mut write = self.database.begin_write()?;
            write.set_durability(Durability::None)?;
            write.open_table(VERDICTS)?.insert(n, plain)?;
            write.commit()?;
            Ok(())
        };
        add().map_err(failed)
    }

    /// Every object that is known, in id order, with all its places that may be believed, the best
    /// first; objects without such a place are left out. Stops at the first error of `each`.
    pub fn for_each(&self, mut each: impl FnMut(ObjectId, &[Place]) -> Result<()>) -> Result<()> {
        let read = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = read.open_table(PLACES).map_err(|error| failed(error.into()))?;
        let mut current: Option<(ObjectId, Vec<Place>)> = None;
        let mut give = |found: Option<(ObjectId, Vec<Place>)>| -> Result<()> {
            let Some((id, mut places)) = found else { return Ok(()) };
            self.view().rank(&mut places);
            if places.is_empty() { Ok(()) } else { each(id, &places) }
        };
        for entry in table.iter().map_err(|error| failed(error.into()))? {
            let (key, place) = entry.map_err(|error| failed(error.into()))?;
            let Some((id, place)) = parse_row(key.value(), place.value()) else { continue };
            match &mut current {
                Some((of, places)) if *of == id => places.push(place),
                _ => give(current.replace((id, vec![place])))?,
            }
        }
        give(current)
    }
}

/// The database's own page cache is kept small: one lookup touches a few pages, and the server's
/// memory is stated.
const PAGE_CACHE: usize = 16 << 20;

fn create(path: &Path) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(PAGE_CACHE).create(path)
}

fn made_ours(database: &Database, repository: RepositoryId) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(REPOSITORY)?.insert((), &repository.0)?;
    make_tables(&write)?;
    write.commit()?;
    Ok(())
}

/// Empty tables, where there are none: a table that nobody made cannot be read.
fn make_tables(write: &redb::WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(PLACES)?;
    write.open_table(INDEX_FILES)?;
    write.open_table(INDEXED_PACKS)?;
    write.open_table(VERDICTS)?;
    Ok(())
}

fn insert(write: &redb::WriteTransaction, file: &IndexFile) -> Result<(), redb::Error> {
    let mut places = write.open_table(PLACES)?;
    let mut packs = write.open_table(INDEXED_PACKS)?;
    for pack in &file.packs {
        packs.insert((file.name.as_str(), &pack.id.0), pack.objects.len() as u64)?;
        for object in &pack.objects {
            let place = Place {
                pack: pack.id,
                offset: object.offset,
                len: object.len,
                plain_len: object.plain_len,
                kind: object.kind,
            };
            places.insert(&row(&object.id, pack.id), &place.to_bytes())?;
        }
    }
    write.open_table(INDEX_FILES)?.insert(file.name.as_str(), ())?;
    Ok(())
}

fn failed(error: redb::Error) -> Error {
    Error::new(Kind::Storage, format!("the index cache failed: {error}"))
        .with_help("Delete the cache file: it is made anew from the repository.")
        .with_source(error)
}
