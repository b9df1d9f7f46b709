//! The worked example: a whole repository, written as the document describes and read back from
//! the document's bytes alone.

use std::collections::BTreeMap;

use repo_format::catalog::{self, Descriptor};
use repo_format::config::{self, Settings};
use repo_format::frame::{Opener, Sealer, Subject};
use repo_format::id::{ObjectId, ObjectKind, PackId, RepositoryId, SlotId, SnapshotId};
use repo_format::index::{self, IndexedPack};
use repo_format::keys::{KeySchedule, RootKey};
use repo_format::manifest::Manifest;
use repo_format::order::KeyEncoding;
use repo_format::order::postgres::push_key;
use repo_format::pack::{PackWriter, read_directory};
use repo_format::record::{Field, Fields, Writer};
use repo_format::slot::{self, SlotKind, UnlockKey};
use repo_format::tree::{Builder, Cursor, Lookup, Root};
use repo_format::{Error, Result, files};

use crate::catalog::{fruit, least};
use crate::document::Section;
use crate::trees::Objects;

const ROWS: [[Option<&str>; 3]; 3] = [
    [Some("1"), Some("apple"), None],
    [Some("2"), Some("pear"), Some("ripe")],
    [Some("3"), Some("plum"), Some("")],
];
const SCHEMA: &str = "{\"columns\":[\"id integer\",\"name text\",\"note text\"]}";

struct Ids {
    repository: RepositoryId,
    slot: SlotId,
    pack: PackId,
    index: PackId,
    snapshot: SnapshotId,
}

fn build(keys: &KeySchedule, records: Vec<(Vec<u8>, Vec<u8>)>) -> (Root, Vec<u8>) {
    let mut objects = Objects::default();
    let mut builder = Builder::new(keys);
    for (key, value) in records {
        builder.push(&key, &value, &mut objects).unwrap();
    }
    let root = builder.finish(&mut objects).unwrap();
    assert_eq!(objects.0.len(), 1, "every tree of the example is one leaf");
    (root, objects.0.remove(&root.id).unwrap().1)
}

fn row(columns: &[Option<&str>; 3]) -> (Vec<u8>, Vec<u8>) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    push_key(&mut key, KeyEncoding::Integer, columns[0].unwrap().as_bytes()).unwrap();
    let mut writer = Writer::new(&mut value);
    for column in columns {
        writer.push(column.map_or(Field::Null, |text| Field::Inline(text.as_bytes())));
    }
    writer.finish();
    (key, value)
}

fn sealed(sealer: &mut Sealer, subject: Subject<'_>, plain: &[u8], nonce: u8) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(subject, plain, [nonce; 12], &mut out).unwrap();
    out
}

pub fn example(section: &mut Section) {
    let keys = KeySchedule::new(RootKey::new(section.array("root")));
    let unlock = UnlockKey::new(section.array("unlocking-key"));
    let ids = Ids {
        repository: RepositoryId(section.array("repository-id")),
        slot: SlotId(section.array("slot-id")),
        pack: PackId(section.array("pack-id")),
        index: PackId(section.array("index-id")),
        snapshot: SnapshotId(section.array("snapshot-id")),
    };
    write(section, &keys, &unlock, &ids);
    read(section, &unlock, &ids);
}

fn write(section: &mut Section, keys: &KeySchedule, unlock: &UnlockKey, ids: &Ids) {
    let mut sealer = Sealer::new(ids.repository, 0, &keys.seal(0));
    let slot =
        slot::wrap(&SlotKind::Server.into(), ids.repository, ids.slot, keys.root(), unlock, [1; 12]).unwrap();
    let settings = Settings {
        repository: ids.repository,
        commitment: ObjectId(keys.root().commitment()),
        created_ms: 1_793_404_800_000,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        deleter_features: Vec::new(),
        exclusive: false,
    };

    let (data, leaf) = build(keys, ROWS.iter().map(row).collect());
    section.check("leaf", &leaf);
    section.check("leaf-id", &data.id.0);
    assert_eq!((data.level, data.records, data.bytes), (0, 3, 52));
    let descriptor = fruit(data.id);
    section.check("descriptor", &descriptor.to_bytes());
    let record = (catalog::key("public", "fruit"), catalog::encode_value(&descriptor, SCHEMA));
    let (root, catalog_leaf) = build(keys, vec![record]);
    section.check("catalog-leaf", &catalog_leaf);
    section.check("catalog-root", &root.id.0);

    let mut pack = PackWriter::new(ids.pack);
    for (id, plain, nonce) in [(data.id, &leaf, 3), (root.id, &catalog_leaf, 4)] {
        let frame = sealed(&mut sealer, Subject::Object(ObjectKind::Leaf, id), plain, nonce);
        pack.push(ObjectKind::Leaf, id, plain.len() as u32, &frame);
    }
    let (bytes, objects) = pack.finish(&mut sealer, [[5; 12], [6; 12]]).unwrap();
    let packs = [IndexedPack { id: ids.pack, len: bytes.len() as u64, objects }];
    let (index_file, snapshot_file) = (files::index(ids.index), files::snapshot(ids.snapshot));
    let index = index::encode(&packs);
    // How well a frame compresses may differ from one release of zstd to the next, and with it the
    // lengths in the index. The document's own bytes are read below.
    section.seed("index", &index);
    section.check("manifest", &least(root.id).to_bytes());

    section.seed(&files::slot(ids.slot), &slot);
    section.seed(files::CONFIG, &config::encode(&settings, &mut sealer, [2; 12]).unwrap());
    section.seed(&files::pack(ids.pack), &bytes);
    section.seed(&index_file, &sealed(&mut sealer, Subject::File(&index_file), &index, 7));
    let manifest = least(root.id).to_bytes();
    section.seed(&snapshot_file, &sealed(&mut sealer, Subject::File(&snapshot_file), &manifest, 8));
}

/// A pack's bytes and where its objects are, as a store would hold them.
struct Packs {
    opener: Opener,
    bytes: Vec<u8>,
    places: BTreeMap<ObjectId, (usize, usize)>,
}

impl Lookup for Packs {
    type Error = Error;

    fn load(&mut self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        let (offset, len) = self.places[&id];
        self.opener.open_object(kind, id, &self.bytes[offset..offset + len])
    }
}

/// From the unlocking key and the files to the rows.
fn read(section: &mut Section, unlock: &UnlockKey, ids: &Ids) {
    let config = section.bytes(files::CONFIG);
    let (preamble, rest) = config::parse_preamble(&config).unwrap();
    let slot = section.bytes(&files::slot(ids.slot));
    let keys = KeySchedule::new(slot::unwrap(preamble.repository, ids.slot, &slot, unlock).unwrap());
    assert_eq!(keys.root().commitment(), preamble.commitment);
    let mut opener = Opener::new(preamble.repository, keys);
    config::open_settings(&preamble, rest, &mut opener).unwrap();

    let bytes = section.bytes(&files::pack(ids.pack));
    let name = files::index(ids.index);
    let index = opener.open(Subject::File(&name), &section.bytes(&name)).unwrap();
    assert_eq!(index, section.bytes("index"));
    let packs = index::parse(&index).unwrap();
    assert_eq!((packs.len(), packs[0].id, packs[0].len), (1, ids.pack, bytes.len() as u64));
    assert_eq!(read_directory(ids.pack, &bytes, &mut opener).unwrap(), packs[0].objects);

    let name = files::snapshot(ids.snapshot);
    let manifest = opener.open(Subject::File(&name), &section.bytes(&name)).unwrap();
    let manifest = Manifest::from_bytes(&manifest).unwrap();
    let places = packs[0].objects.iter().map(|at| (at.id, (at.offset as usize, at.len as usize))).collect();
    let mut packs = Packs { opener, bytes, places };
    let root = Root { id: manifest.catalog_root, level: 0, records: 1, bytes: 0 };
    let (key, value) = Cursor::new(&root, None).next(&mut packs).unwrap().unwrap();
    assert_eq!(catalog::parse_key(&key).unwrap(), ("public".to_owned(), "fruit".to_owned()));
    let (Field::Inline(descriptor), schema) = catalog::parse_value(&value).unwrap() else {
        panic!("a short descriptor is inline");
    };
    assert_eq!(schema, Field::Inline(SCHEMA.as_bytes()));
    let descriptor = Descriptor::from_bytes(descriptor).unwrap();

    let root = Root { id: descriptor.data_root, level: 0, records: 3, bytes: 52 };
    let mut cursor = Cursor::new(&root, None);
    for expected in ROWS {
        let (_, value) = cursor.next(&mut packs).unwrap().unwrap();
        let mut fields: Vec<_> = Fields::new(&value).map(Result::unwrap).collect();
        fields.resize(3, Field::Null);
        let expected = expected.map(|text| text.map_or(Field::Null, |text| Field::Inline(text.as_bytes())));
        assert_eq!(fields, expected);
    }
    assert!(cursor.next(&mut packs).unwrap().is_none());
}
