//! Walking a snapshot to whom damage hurts: its collections, and the keys in them.

use std::collections::BTreeMap;

use repo_format::catalog::parse_key;
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::record::{Field, Fields, OutOfLine};
use repo_format::tree::{Leaf, Lookup, Node};
use repo_format::value;

use crate::catalog::{Cataloged, catalog_root};
use crate::error::{Kind, Result};
use crate::repo::{ObjectReader, Snapshot};
use crate::rows;
use crate::source::Engine;
use crate::verify::ABSENT;

/// Takes a record, as (key, value).
type Each<'a> = dyn FnMut(&[u8], &[u8], &mut ObjectReader) -> Result<()> + 'a;

/// Where a damaged schema text or descriptor is, in words.
const DESCRIPTION: &str = "the collection's description";

/// An object that was met, the collection, and the keys in words.
pub(super) type Found = (ObjectId, String, String);

/// A walk over one snapshot that looks for bad objects without reading what is good.
pub(super) struct Walk {
    pub bad: BTreeMap<ObjectId, String>,
    pub found: Vec<Found>,
    /// Objects that could not be read here, and that nobody had looked at before.
    pub unreadable: Vec<(ObjectKind, ObjectId)>,
    /// Bad pieces can only be found from the records they belong to.
    look_into_leaves: bool,
}

impl Walk {
    /// A walk that looks for `bad` objects.
    pub fn new(bad: BTreeMap<ObjectId, String>, reader: &mut ObjectReader) -> Self {
        let mut walk = Self { bad, found: Vec::new(), unreadable: Vec::new(), look_into_leaves: false };
        walk.look_into_leaves = walk.bad_pieces(reader);
        walk
    }

    /// Whether anything bad may be a piece, a list, or an object of no known kind.
    fn bad_pieces(&self, reader: &mut ObjectReader) -> bool {
        self.bad.keys().any(|id| {
            !matches!(reader.place(id), Some(place) if matches!(place.kind, ObjectKind::Leaf | ObjectKind::Node))
        })
    }

    /// Whether an object was found bad, or is missing: roots are named by manifests and catalogs
    /// only, and no object that was read refers to them.
    fn is_bad(&mut self, id: ObjectId, reader: &ObjectReader) -> bool {
        if reader.place(&id).is_none() {
            self.bad.entry(id).or_insert_with(|| ABSENT.to_owned());
        }
        self.bad.contains_key(&id)
    }

    pub fn snapshot(&mut self, snapshot: &Snapshot, reader: &mut ObjectReader) -> Result<()> {
        if let Some(schema) = &snapshot.manifest.schema {
            let place = OutOfLine { len: schema.len, depth: schema.depth, root: schema.root };
            self.value(&place, "", "the schema archive", reader)?;
        }
        let engine = Engine::parse(&snapshot.manifest.source.engine);
        let root = catalog_root(snapshot);
        let mut catalogs = Vec::new();
        self.tree(root.level, root.id, &mut Range::catalog(), reader, &mut |key, record, reader| {
            catalogs.push((key.to_vec(), record.to_vec(), Cataloged::parse(key, record, reader)));
            Ok(())
        })?;
        for (key, record, parsed) in catalogs {
            let cataloged = match parsed {
                Ok(cataloged) => cataloged,
                // A long schema text that is damaged hides its collection: say which.
                Err(error) if error.kind() == Kind::Damaged => {
                    self.catalog_record(engine, &key, &record, reader)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let root = cataloged.root();
            if let Some(order) = cataloged.descriptor.natural_order {
                self.value(&order.into(), &cataloged.display_name(), "the order of its records", reader)?;
            }
            let mut range = Range::of(cataloged);
            let look_into_leaves = self.look_into_leaves;
            let mut places = Vec::new();
            self.tree(root.level, root.id, &mut range, reader, &mut |key, record, _| {
                for field in Fields::new(record) {
                    if let Field::Out(place) = field? {
                        places.push((key.to_vec(), place));
                    }
                }
                Ok(())
            })?;
            if look_into_leaves {
                for (key, place) in places {
                    let keys = range.words(&key, reader);
                    self.value(&place, &range.name, &keys, reader)?;
                }
            }
        }
        Ok(())
    }

    /// Looks into the description of a collection, of which no more than the name may be readable.
    fn catalog_record(
        &mut self,
        engine: Option<Engine>,
        key: &[u8],
        record: &[u8],
        reader: &mut ObjectReader,
    ) -> Result<()> {
        let (namespace, name) = parse_key(key)?;
        let name = engine
            .map_or_else(|| format!("{namespace}.{name}"), |engine| engine.display_name(&namespace, &name));
        for field in Fields::new(record) {
            if let Field::Out(place) = field? {
                self.value(&place, &name, DESCRIPTION, reader)?;
            }
        }
        Ok(())
    }

    /// An object that the walk needs. `None` when it is damaged, which is then a finding.
    fn load(
        &mut self,
        kind: ObjectKind,
        id: ObjectId,
        found: (&str, &str),
        reader: &mut ObjectReader,
    ) -> Result<Option<Vec<u8>>> {
        match reader.load(kind, id) {
            Ok(plaintext) => Ok(Some(plaintext)),
            Err(error) if error.kind() == Kind::Damaged => {
                self.bad.entry(id).or_insert_with(|| error.to_string());
                self.unreadable.push((kind, id));
                self.found.push((id, found.0.to_owned(), found.1.to_owned()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Walks one tree; hands the records of leaves to `each` where leaves are looked into.
    fn tree(
        &mut self,
        level: u8,
        id: ObjectId,
        range: &mut Range,
        reader: &mut ObjectReader,
        each: &mut Each<'_>,
    ) -> Result<()> {
        if self.is_bad(id, reader) {
            self.found.push((id, range.name.clone(), range.shown(reader)));
            return Ok(());
        }
        if level > 0 {
            let shown = range.shown(reader);
            let name = range.name.clone();
            let Some(plaintext) = self.load(ObjectKind::Node, id, (&name, &shown), reader)? else {
                return Ok(());
            };
            let node = Node::parse(&plaintext, level)?;
            let upper = range.upper.take();
            let last = node.entries.len() - 1;
            for (at, entry) in node.entries.into_iter().enumerate() {
                range.upper = if at == last {
                    upper.clone().or(Some(entry.last_key.clone()))
                } else {
                    Some(entry.last_key.clone())
                };
                self.tree(level - 1, entry.child, range, reader, each)?;
                range.lower = Some(entry.last_key);
            }
            range.upper = upper;
        } else if self.look_into_leaves || range.is_catalog() {
            let shown = range.shown(reader);
            let name = range.name.clone();
            let Some(plaintext) = self.load(ObjectKind::Leaf, id, (&name, &shown), reader)? else {
                return Ok(());
            };
            let leaf = Leaf::parse(plaintext)?;
            for (key, record) in leaf.records() {
                each(key, record, reader)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, place: &OutOfLine, name: &str, keys: &str, reader: &mut ObjectReader) -> Result<()> {
        let mut waiting = vec![(place.depth, place.root)];
        while let Some((depth, id)) = waiting.pop() {
            if self.is_bad(id, reader) {
                self.found.push((id, name.to_owned(), keys.to_owned()));
            } else if depth == 0 && keys == DESCRIPTION {
                // Known to be unreadable, so each of its pieces is looked at.
                self.load(ObjectKind::Piece, id, (name, keys), reader)?;
            } else if depth > 0
                && let Some(list) = self.load(ObjectKind::PieceList, id, (name, keys), reader)?
            {
                waiting
                    .extend(value::children(depth, &list)?.into_iter().map(|(_, child)| (depth - 1, child)));
            }
        }
        Ok(())
    }
}

/// The keys below a subtree: after `lower`, up to `upper`.
struct Range {
    name: String,
    cataloged: Option<Cataloged>,
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
}

impl Range {
    fn catalog() -> Self {
        Self { name: String::new(), cataloged: None, lower: None, upper: None }
    }

    fn of(cataloged: Cataloged) -> Self {
        Self { name: cataloged.display_name(), cataloged: Some(cataloged), lower: None, upper: None }
    }

    fn is_catalog(&self) -> bool {
        self.cataloged.is_none()
    }

    fn shown(&self, reader: &mut ObjectReader) -> String {
        if self.is_catalog() {
            return "the list of collections".to_owned();
        }
        match (&self.lower, &self.upper) {
            (None, None) => "all keys".to_owned(),
            (Some(lower), None) => format!("after {}", self.words(lower, reader)),
            (None, Some(upper)) => format!("up to {}", self.words(upper, reader)),
            (Some(lower), Some(upper)) => {
                format!("after {} up to {}", self.words(lower, reader), self.words(upper, reader))
            }
        }
    }

    /// A key in words, where its record can be read.
    fn words(&self, key: &[u8], reader: &mut ObjectReader) -> String {
        let Some(cataloged) = &self.cataloged else { return rows::encode_id(key) };
        let found = repo_format::tree::get(&cataloged.root(), key, reader).ok().flatten();
        let layout = &cataloged.descriptor.layout;
        match found.and_then(|record| rows::shown(layout, key, &record, reader).ok()) {
            Some(shown) => shown.key,
            None => rows::encode_id(key),
        }
    }
}
