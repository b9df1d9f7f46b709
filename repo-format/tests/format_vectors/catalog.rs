//! The catalog, descriptors and manifests.

use repo_format::catalog::{self, CollectionKind, Column, Descriptor, Key, KeyColumn, KeySource, Layout};
use repo_format::id::{ObjectId, SnapshotId};
use repo_format::manifest::{
    Evidence, Extension, Grade, Manifest, Missing, SchemaArchive, SequenceState, Source, Trigger, ViewName,
};
use repo_format::mark::Mark;
use repo_format::order::KeyEncoding;

use crate::document::Section;

pub fn catalog_key(section: &mut Section) {
    for name in section.names() {
        let (namespace, table) = name.split_once(' ').unwrap();
        let key = catalog::key(namespace, table);
        section.check(&name, &key);
        assert_eq!(catalog::parse_key(&key).unwrap(), (namespace.to_owned(), table.to_owned()));
    }
}

pub fn refuse_catalog_key(section: &mut Section) {
    section.refuse_all(catalog::parse_key);
}

fn column(name: &str, type_name: &str) -> Column {
    Column { name: name.to_owned(), type_name: type_name.to_owned() }
}

/// The table of the worked example.
pub fn fruit(data_root: ObjectId) -> Descriptor {
    let columns = [("id", "integer"), ("name", "text"), ("note", "text")];
    Descriptor {
        layout: Layout {
            kind: CollectionKind::Table,
            columns: columns.map(|(name, type_name)| column(name, type_name)).into(),
            key: Key {
                source: KeySource::Primary,
                name: Some("fruit_pkey".to_owned()),
                columns: vec![KeyColumn { column: 0, encoding: KeyEncoding::Integer }],
            },
        },
        data_root,
        level: 0,
        records: 3,
        logical_bytes: 52,
        schema_version: 1,
        natural_order: None,
    }
}

fn multiset() -> Descriptor {
    Descriptor {
        layout: Layout {
            kind: CollectionKind::PartitionedTable,
            columns: vec![column("happened", "timestamp with time zone"), column("größe", "numeric(10,2)")],
            key: Key { source: KeySource::Multiset, name: None, columns: Vec::new() },
        },
        data_root: ObjectId([0x33; 32]),
        level: 3,
        records: 10_000_000_000,
        logical_bytes: u64::MAX,
        schema_version: 1,
        natural_order: None,
    }
}

pub fn descriptor(section: &mut Section) {
    for (name, descriptor) in [("fruit", fruit(ObjectId([0x22; 32]))), ("multiset", multiset())] {
        let bytes = descriptor.to_bytes();
        section.check(name, &bytes);
        assert_eq!(Descriptor::from_bytes(&bytes).unwrap(), descriptor);
    }
}

/// Other spellings of a map that begins with `first`: each begins like canonical bytes and differs
/// in one place.
fn other_spellings(good: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    [
        ("bytes-after-the-end", [good, &[0]].concat()),
        ("cut-short", good[..good.len() - 1].to_vec()),
        ("map-length-not-shortest", [&[0xb8, good[0] & 0x1f], &good[1..]].concat()),
        ("map-of-no-stated-length", [&[0xbf], &good[1..], &[0xff]].concat()),
    ]
}

pub fn refuse_descriptor(section: &mut Section) {
    let good = fruit(ObjectId([0x22; 32]));
    let bytes = good.to_bytes();
    Descriptor::from_bytes(&bytes).unwrap();
    for (name, bytes) in other_spellings(&bytes) {
        section.seed(name, &bytes);
    }
    let mut outside = good;
    outside.layout.key.columns[0].column = 3;
    section.seed("key-column-outside", &outside.to_bytes());
    section.seed("key-unknown", &[&[bytes[0] + 1], &bytes[1..], &[0x17, 0]].concat());
    section.refuse_all(Descriptor::from_bytes);
}

/// The manifest of the worked example: nothing that may be absent is there.
pub fn least(catalog_root: ObjectId) -> Manifest {
    let text = str::to_owned;
    Manifest {
        source: Source {
            id: text("src-1"),
            name: text("Shop"),
            engine: text("postgresql"),
            version: text("17.2"),
            database: text("shop"),
            encoding: text("UTF8"),
            collation: text("C"),
            extensions: Vec::new(),
            system_identifier: None,
        },
        trigger: Trigger::Manual,
        note: None,
        started_ms: 1_793_404_800_000,
        finished_ms: 1_793_404_801_500,
        evidence: Evidence {
            method: text("one exported snapshot, read by every worker"),
            snapshot: text("00000003-0000001B-1"),
            log_position: None,
            server_time: text("2026-10-31T00:00:00Z"),
            standby: false,
            grade: Grade::PointInTime,
        },
        parent: None,
        catalog_root,
        catalog_level: 0,
        schema: None,
        sequences: Vec::new(),
        collections: 1,
        records: 3,
        logical_bytes: 52,
        new_bytes: 0,
        missing: Vec::new(),
        notes: Vec::new(),
        unfilled_views: Vec::new(),
    }
}

fn most() -> Manifest {
    let text = str::to_owned;
    let mut manifest = least(ObjectId([0x22; 32]));
    manifest.source.extensions = vec![Extension { name: text("hstore"), version: text("1.8") }];
    manifest.source.system_identifier = Some(text("7300000000000000000"));
    manifest.trigger = Trigger::Safety;
    manifest.note = Some(text("before the migration"));
    manifest.evidence.log_position = Some(text("0/1A2B3C4D"));
    manifest.parent = Some(SnapshotId([0x81; 16]));
    manifest.schema = Some(SchemaArchive {
        root: ObjectId([0x44; 32]),
        depth: 1,
        len: 300_000,
        tool: text("pg_dump 17.2"),
        text_hash: ObjectId([0x55; 32]),
    });
    let sequence = |last_value, is_called| SequenceState {
        namespace: text("public"),
        name: text("fruit_id_seq"),
        last_value,
        is_called,
    };
    manifest.sequences = vec![sequence(3, true), sequence(-1, false)];
    manifest.missing = vec![Missing { name: text("public.secret"), reason: text("no privilege to read it") }];
    manifest.notes = vec![text("passwords of roles")];
    manifest.unfilled_views = vec![ViewName { namespace: text("public"), name: text("totals") }];
    manifest
}

pub fn manifest(section: &mut Section) {
    for (name, manifest) in [("least", least(ObjectId([0x22; 32]))), ("most", most())] {
        let bytes = manifest.to_bytes();
        section.check(name, &bytes);
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
    }
}

pub fn refuse_manifest(section: &mut Section) {
    let bytes = least(ObjectId([0x22; 32])).to_bytes();
    for (name, bytes) in other_spellings(&bytes) {
        section.seed(name, &bytes);
    }
    section.refuse_all(Manifest::from_bytes);
}

pub fn mark(section: &mut Section) {
    let at_ms = section.number("at") as i64;
    let least = Mark { at_ms, ..Mark::default() };
    let most = Mark {
        note: Some("before the migration".to_owned()),
        pinned: true,
        structure_ms: Some(at_ms + 1),
        sample_ms: Some(at_ms + 2),
        full_ms: Some(at_ms + 3),
        deleting_ms: Some(at_ms + 4),
        ..least.clone()
    };
    for (name, mark) in [("least", least), ("most", most)] {
        section.check(name, &mark.to_bytes());
        assert_eq!(Mark::from_bytes(&mark.to_bytes()).unwrap(), mark);
    }
}

pub fn refuse_mark(section: &mut Section) {
    section.refuse_all(Mark::from_bytes);
}
