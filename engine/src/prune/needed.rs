//! Which objects are needed, counted on disk: a repository may have more than memory holds.

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use repo_format::id::{ObjectId, ObjectKind};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::repo::{Place, Repository, Standing};

/// The objects that are needed, and what each is: its kind, and whether it was met in a catalog.
const NEEDED: TableDefinition<&[u8; 32], u8> = TableDefinition::new("needed");
/// The database's own page cache.
const PAGE_CACHE: usize = 32 << 20;

/// Added to the kind of what was met in a catalog. The same bytes could be records, too, and then
/// would not lead to what the catalog leads to.
const IN_CATALOG: u8 = 0x80;

/// An object that is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub kind: ObjectKind,
    pub id: ObjectId,
    pub is_catalog: bool,
}

impl Met {
    fn mark(&self) -> u8 {
        if self.is_catalog { IN_CATALOG } else { 0 }
    }

    /// Whether it was met as part of a catalog and, by what is known of it, not before.
    fn is_more_than(&self, known: u8) -> bool {
        known & self.mark() != self.mark()
    }
}

/// What adding an object to the set changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It was not in the set.
    First,
    /// It was, but not as part of a catalog: so what it leads to may be new.
    AsCatalog,
    /// Nothing.
    Known,
}

/// A set of objects in a file of its own, which goes with it.
pub(crate) struct Needed {
    database: Database,
    pieces: u64,
}

/// An object of the repository: whether it is needed, and where it is. Without a place it is needed
/// and lost.
pub(crate) struct Joined<'a> {
    pub id: ObjectId,
    pub is_needed: bool,
    pub places: &'a [Place],
}

impl Needed {
    /// An empty set, with its file in the context's scratch folder.
    pub fn new(ctx: &Context) -> Result<Self> {
        let database = scratch_database(ctx).map_err(failed)?;
        let set = Self { database, pieces: 0 };
        set.insert(&[])?;
        Ok(set)
    }

    /// Pieces and lists in the set.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// What is known of each object: `None` where it is not in the set.
    fn marks(&self, ids: impl IntoIterator<Item = ObjectId>) -> Result<Vec<Option<u8>>> {
        let marks = || -> Result<Vec<Option<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(NEEDED)?;
            let mut marks = Vec::new();
            for id in ids {
                marks.push(table.get(&id.0)?.map(|known| known.value()));
            }
            Ok(marks)
        };
        marks().map_err(failed)
    }

    /// Which of these objects are in the set.
    pub fn contains(&self, ids: &[ObjectId]) -> Result<Vec<bool>> {
        Ok(self.marks(ids.iter().copied())?.iter().map(Option::is_some).collect())
    }

    /// Of each object whether adding it would change something.
    pub fn lacks(&self, objects: &[Met]) -> Result<Vec<bool>> {
        let marks = self.marks(objects.iter().map(|met| met.id))?;
        let lacks = |(met, mark): (&Met, Option<u8>)| mark.is_none_or(|known| met.is_more_than(known));
        Ok(objects.iter().zip(marks).map(lacks).collect())
    }

    /// Adds objects, and says what that changed.
    pub fn add(&mut self, objects: &[Met]) -> Result<Vec<Added>> {
        let added = self.insert(objects)?;
        let is_piece = |met: &Met| matches!(met.kind, ObjectKind::Piece | ObjectKind::PieceList);
        let pieces =
            objects.iter().zip(&added).filter(|(met, added)| **added == Added::First && is_piece(met));
        self.pieces += pieces.count() as u64;
        Ok(added)
    }

    fn insert(&self, objects: &[Met]) -> Result<Vec<Added>> {
        let insert = || -> Result<Vec<Added>, redb::Error> {
            let mut write = self.database.begin_write()?;
            // The file goes with the process: nothing is lost that would be looked for.
            write.set_durability(Durability::None)?;
            let mut added = Vec::with_capacity(objects.len());
            {
                let mut needed = write.open_table(NEEDED)?;
                for met in objects {
                    let before = needed.get(&met.id.0)?.map(|known| known.value());
                    let change = match before {
                        None => Added::First,
                        Some(known) if met.is_more_than(known) => Added::AsCatalog,
                        Some(_) => Added::Known,
                    };
                    if change != Added::Known {
                        needed.insert(&met.id.0, before.unwrap_or(0) | met.kind as u8 | met.mark())?;
                    }
                    added.push(change);
                }
            }
            write.commit()?;
            Ok(added)
        };
        insert().map_err(failed)
    }

    /// The leaves after `last`, in id order: at most `most` of them.
    pub fn leaves_after(&self, last: Option<ObjectId>, most: usize) -> Result<Vec<ObjectId>> {
        let leaves = || -> Result<Vec<ObjectId>, redb::Error> {
            let table = self.database.begin_read()?.open_table(NEEDED)?;
            let start = last.map_or([0; 32], |id| id.0);
            let mut leaves = Vec::new();
            for entry in table.range::<&[u8; 32]>(&start..)? {
                let (id, kind) = entry?;
                let id = ObjectId(*id.value());
                if kind.value() & !IN_CATALOG == ObjectKind::Leaf as u8 && last.is_none_or(|last| id > last) {
                    leaves.push(id);
                    if leaves.len() == most {
                        break;
                    }
                }
            }
            Ok(leaves)
        };
        leaves().map_err(failed)
    }

    /// Every object of the repository and every one that is needed, in id order. A place in a pack
    /// that was found damaged is told only where there is no other.
    pub fn join(&self, repo: &Repository, mut each: impl FnMut(Joined<'_>) -> Result<()>) -> Result<()> {
        let table = (self.database.begin_read().map_err(|error| failed(error.into()))?)
            .open_table(NEEDED)
            .map_err(|error| failed(error.into()))?;
        let mut needed = table.iter().map_err(|error| failed(error.into()))?;
        let mut next = || match needed.next() {
            None => Ok(None),
            Some(Ok((id, _))) => Ok(Some(ObjectId(*id.value()))),
            Some(Err(error)) => Err(failed(error.into())),
        };
        let mut head = next()?;
        repo.cache().for_each(|id, places| {
            while let Some(lost) = head.filter(|head| *head < id) {
                each(Joined { id: lost, is_needed: true, places: &[] })?;
                head = next()?;
            }
            let is_needed = head == Some(id);
            if is_needed {
                head = next()?;
            }
            let view = repo.cache().view();
            let is_sound = |place: &Place| view.standing(place.pack) < Some(Standing::Suspect);
            let sound = places.iter().take_while(|place| is_sound(place)).count();
            drop(view);
            each(Joined { id, is_needed, places: if sound > 0 { &places[..sound] } else { places } })
        })?;
        while let Some(lost) = head {
            each(Joined { id: lost, is_needed: true, places: &[] })?;
            head = next()?;
        }
        Ok(())
    }
}

/// A database in the context's scratch folder that goes with its last user.
pub(super) fn scratch_database(ctx: &Context) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    let builder = builder.set_cache_size(PAGE_CACHE);
    #[cfg(test)]
    if ctx.scratch.as_os_str().is_empty() {
        return Ok(builder.create_with_backend(redb::backends::InMemoryBackend::new())?);
    }
    let file = tempfile::tempfile_in(&ctx.scratch)?;
    Ok(builder.create_with_backend(redb::backends::FileBackend::new(file)?)?)
}

fn failed(error: redb::Error) -> Error {
    Error::new(Kind::Storage, format!("counting what is needed failed: {error}"))
        .with_help("Pruning needs about 100 bytes of scratch space in the data folder for each object.")
        .with_source(error)
}
