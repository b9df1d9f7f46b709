//! What a snapshot holds: its collections, read from the catalog tree.

use repo_format::catalog::{self, Descriptor};
use repo_format::record::Field;
use repo_format::tree::{self, Root};
use repo_format::{limits, value};

use crate::diff::Side;
use crate::error::{Error, Kind, Result};
use crate::repo::{ObjectReader, Repository, Snapshot};
use crate::source::Engine;

/// Longest descriptor or schema text read; far above what a table with 1,600 columns needs.
const LONGEST: u64 = limits::FRAME as u64;

/// One collection of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cataloged {
    /// The schema it is in, unquoted.
    pub namespace: String,
    /// Its name, unquoted.
    pub name: String,
    /// How it was read and where its tree begins.
    pub descriptor: Descriptor,
    /// Its normalised schema text.
    pub schema: String,
}

impl Cataloged {
    /// The name outsiders use; see [`Engine::display_name`].
    pub fn display_name(&self) -> String {
        Engine::of(&self.descriptor.layout).display_name(&self.namespace, &self.name)
    }

    /// Its records' tree.
    pub fn root(&self) -> Root {
        Root {
            id: self.descriptor.data_root,
            level: self.descriptor.level,
            records: self.descriptor.records,
            bytes: self.descriptor.logical_bytes,
        }
    }

    /// Reads a catalog record.
    pub(crate) fn parse(key: &[u8], record: &[u8], reader: &mut ObjectReader) -> Result<Self> {
        let (namespace, name) = catalog::parse_key(key)?;
        let (descriptor, schema) = catalog::parse_value(record)?;
        let descriptor = Descriptor::from_bytes(&resolve(descriptor, reader)?)?;
        let schema = String::from_utf8(resolve(schema, reader)?)
            .map_err(|error| Error::damaged("a schema text is not UTF-8").with_source(error))?;
        Ok(Self { namespace, name, descriptor, schema })
    }
}

fn resolve(field: Field<'_>, reader: &mut ObjectReader) -> Result<Vec<u8>> {
    match field {
        Field::Null => Ok(Vec::new()),
        Field::Inline(bytes) => Ok(bytes.to_vec()),
        Field::Out(place) => value::read(&place, LONGEST, reader),
    }
}

/// The root of a snapshot's catalog tree. Its counts are those of the catalog, not of the data.
pub(crate) fn catalog_root(snapshot: &Snapshot) -> Root {
    let manifest = &snapshot.manifest;
    Root { id: manifest.catalog_root, level: manifest.catalog_level, records: manifest.collections, bytes: 0 }
}

/// The collections of a snapshot, by namespace and name.
pub async fn collections(repo: &Repository, snapshot: impl Into<Side<'_>>) -> Result<Vec<Cataloged>> {
    let Side { snapshot, overlay } = snapshot.into();
    let root = catalog_root(snapshot);
    repo.with_reader_over(overlay, move |reader| {
        let mut cursor = tree::Cursor::new(&root, None);
        let mut collections = Vec::new();
        while let Some((key, record)) = cursor.next(reader)? {
            collections.push(Cataloged::parse(&key, &record, reader)?);
        }
        Ok(collections)
    })
    .await
}

/// One collection by its display name. [`Kind::NotFound`] when the snapshot has none of that name.
pub async fn collection(repo: &Repository, snapshot: &Snapshot, name: &str) -> Result<Cataloged> {
    find(repo, snapshot, name).await?.ok_or_else(|| not_found(name))
}

/// As [`collection`], with `None` where there is none.
pub(crate) async fn find(
    repo: &Repository,
    snapshot: impl Into<Side<'_>>,
    name: &str,
) -> Result<Option<Cataloged>> {
    let Side { snapshot, overlay } = snapshot.into();
    let engine = Engine::parse(&snapshot.manifest.source.engine).ok_or_else(|| not_found(name))?;
    let (namespace, table) = engine.parse_display_name(name).ok_or_else(|| not_found(name))?;
    let (root, key) = (catalog_root(snapshot), catalog::key(&namespace, &table));
    repo.with_reader_over(overlay, move |reader| {
        let record = tree::get(&root, &key, reader)?;
        record.map(|record| Cataloged::parse(&key, &record, reader)).transpose()
    })
    .await
}

pub(crate) fn not_found(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("the snapshot has no collection {name}"))
}
