//! What simulated snapshots hold: a few collections, each in one of a few versions.

use std::cell::RefCell;
use std::collections::BTreeMap;

use repo_format::catalog::{self, CollectionKind, Column, Descriptor, Key, KeySource, Layout};
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::keys::KeySchedule;
use repo_format::manifest::{Evidence, Grade, Manifest, Source, Trigger};
use repo_format::record::{Field, Fields, Writer};
use repo_format::tree::{Builder, Leaf, Node, Root, Sink, kind_of_level};
use repo_format::value::ValueWriter;

use crate::error::{Error, Result};
use crate::prune::reach::load_value;
use crate::repo::{Repository, Snapshot};
use crate::simulation::world::Chance;

pub(crate) const COLLECTIONS: usize = 5;
const VERSIONS: u64 = 4;

/// Which version each collection has.
pub(crate) type Versions = [u8; COLLECTIONS];

/// Objects as they are made, children first.
type Objects = Vec<(ObjectKind, ObjectId, Vec<u8>)>;

/// Keys and values, moved-out values in full.
pub(crate) type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// Records by collection name.
pub(crate) type Content = BTreeMap<String, Records>;

#[derive(Default)]
struct Made(Objects);

impl Sink for Made {
    type Error = Error;
    fn store(&mut self, kind: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
        self.0.push((kind, id, plaintext));
        Ok(())
    }
}

pub(super) fn any_versions(chance: &mut Chance) -> Versions {
    std::array::from_fn(|_| chance.below(VERSIONS) as u8)
}

/// The fields of the records of a collection. The first one is long enough for several leaves, and
/// its versions share most of them; the second one has a moved-out value.
fn records(collection: usize, version: u8) -> Records {
    let count = if collection == 0 { 60u8 } else { 3 };
    let value = |n: u8| match collection {
        0 if n == version * 7 => format!("changed by {version}").into_bytes(),
        0 => [n.wrapping_mul(37), n ^ 0x55, n].repeat(150),
        1 if n == 0 => [version, 7].repeat(5000),
        _ => format!("{collection} {version} {n}").into_bytes(),
    };
    (0..count).map(|n| (vec![n], value(n))).collect()
}

/// What a snapshot of these versions holds.
pub(crate) fn content(versions: &Versions) -> Content {
    let of = |(at, version): (usize, &u8)| (format!("c{at}"), records(at, *version));
    versions.iter().enumerate().map(of).collect()
}

/// The commitment of a root key, which decides ids; a collection and its version.
type TreeKey = ([u8; 32], usize, u8);

thread_local! {
    /// All worlds of a thread have the same keys, so trees are made once.
    static TREES: RefCell<BTreeMap<TreeKey, (Root, Objects)>> = const { RefCell::new(BTreeMap::new()) };
}

fn tree(keys: &KeySchedule, collection: usize, version: u8) -> Result<(Root, Objects)> {
    let tree_key = (keys.root().commitment(), collection, version);
    if let Some(made) = TREES.with_borrow(|trees| trees.get(&tree_key).cloned()) {
        return Ok(made);
    }
    let (mut made, mut builder) = (Made::default(), Builder::new(keys));
    for (key, value) in records(collection, version) {
        let mut record = Vec::new();
        let mut writer = Writer::new(&mut record);
        if value.len() > 8000 {
            let place = ValueWriter::new(keys).write(&value, &mut made)?;
            writer.push(Field::Out(place));
        } else {
            writer.push(Field::Inline(&value));
        }
        writer.finish();
        builder.push(&key, &record, &mut made)?;
    }
    let root = builder.finish(&mut made)?;
    TREES.with_borrow_mut(|trees| trees.insert(tree_key, (root, made.0.clone())));
    Ok((root, made.0))
}

/// All objects of a snapshot, and its manifest.
pub(crate) fn snapshot(keys: &KeySchedule, versions: &Versions) -> Result<(Objects, Manifest)> {
    let layout = Layout {
        kind: CollectionKind::Table,
        columns: vec![Column { name: "a".to_owned(), type_name: "text".to_owned() }],
        key: Key { source: KeySource::Multiset, name: None, columns: Vec::new() },
    };
    let mut objects = Objects::new();
    let (mut catalog, mut builder) = (Made::default(), Builder::new(keys));
    for (collection, version) in versions.iter().enumerate() {
        let (root, made) = tree(keys, collection, *version)?;
        objects.extend(made);
        let descriptor = Descriptor {
            layout: layout.clone(),
            data_root: root.id,
            level: root.level,
            records: root.records,
            logical_bytes: root.bytes,
            schema_version: 1,
            natural_order: None,
        };
        let key = catalog::key("", &format!("c{collection}"));
        builder.push(&key, &catalog::encode_value(&descriptor, ""), &mut catalog)?;
    }
    let root = builder.finish(&mut catalog)?;
    objects.extend(catalog.0);
    Ok((objects, manifest(&root)))
}

/// A manifest that says nothing but where the catalog is.
pub(crate) fn manifest(catalog: &Root) -> Manifest {
    Manifest {
        source: Source {
            id: "simulated".to_owned(),
            name: "simulated".to_owned(),
            engine: "postgresql".to_owned(),
            version: String::new(),
            database: String::new(),
            encoding: String::new(),
            collation: String::new(),
            extensions: Vec::new(),
            system_identifier: None,
        },
        trigger: Trigger::Manual,
        note: None,
        started_ms: 0,
        finished_ms: 0,
        evidence: Evidence {
            method: String::new(),
            snapshot: String::new(),
            log_position: None,
            server_time: String::new(),
            standby: false,
            grade: Grade::PointInTime,
        },
        parent: None,
        catalog_root: catalog.id,
        catalog_level: catalog.level,
        schema: None,
        sequences: Vec::new(),
        unfilled_views: Vec::new(),
        collections: COLLECTIONS as u64,
        records: 0,
        logical_bytes: 0,
        new_bytes: 0,
        missing: Vec::new(),
        notes: Vec::new(),
    }
}

/// Reads everything that a snapshot holds, object by object.
pub(crate) async fn read(repo: &Repository, snapshot: &Snapshot) -> Result<Content> {
    let mut content = Content::new();
    for (name, records) in read_each(repo, snapshot).await? {
        content.insert(name, records?);
    }
    Ok(content)
}

/// Reads every collection that a snapshot holds, or what is wrong with it.
pub(crate) async fn read_each(
    repo: &Repository,
    snapshot: &Snapshot,
) -> Result<Vec<(String, Result<Records>)>> {
    let manifest = &snapshot.manifest;
    let mut collections = Vec::new();
    for (key, record) in leaves(repo, manifest.catalog_root, manifest.catalog_level).await? {
        let (_, name) = catalog::parse_key(&key)?;
        let Field::Inline(descriptor) = catalog::parse_value(&record)?.0 else {
            return Err(Error::damaged("a simulated description is never moved out"));
        };
        let descriptor = Descriptor::from_bytes(descriptor)?;
        collections.push((name, collection(repo, &descriptor).await));
    }
    Ok(collections)
}

async fn collection(repo: &Repository, descriptor: &Descriptor) -> Result<Records> {
    let mut records = Vec::new();
    for (key, record) in leaves(repo, descriptor.data_root, descriptor.level).await? {
        let value = match Fields::new(&record).next().transpose()? {
            Some(Field::Inline(value)) => value.to_vec(),
            Some(Field::Out(place)) => load_value(repo, &place).await?,
            _ => Vec::new(),
        };
        records.push((key, value));
    }
    Ok(records)
}

/// The records of a tree, in order.
async fn leaves(repo: &Repository, root: ObjectId, level: u8) -> Result<Records> {
    let (mut ids, mut at) = (vec![root], level);
    while at > 0 {
        let mut below = Vec::new();
        for id in ids {
            let node = Node::parse(&repo.load(kind_of_level(at), id).await?, at)?;
            below.extend(node.entries.into_iter().map(|entry| entry.child));
        }
        (ids, at) = (below, at - 1);
    }
    let mut records = Vec::new();
    for id in ids {
        let leaf = Leaf::parse(repo.load(ObjectKind::Leaf, id).await?)?;
        records.extend(leaf.records().map(|(key, record)| (key.to_vec(), record.to_vec())));
    }
    Ok(records)
}
