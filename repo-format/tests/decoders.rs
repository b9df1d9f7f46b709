//! Every decoder survives any bytes: it reads them or refuses them, and where a structure has one
//! spelling, what it read spells the same bytes again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use repo_format::catalog::{
    self, CollectionKind, Column, Descriptor, Key, KeyColumn, KeySource, Layout, NaturalOrder,
};
use repo_format::codec::{Cursor, put_varint};
use repo_format::config::{self, Settings};
use repo_format::frame::{Opener, Sealer, Subject};
use repo_format::id::{ObjectId, ObjectKind, PackId, RepositoryId, SlotId, SnapshotId};
use repo_format::index::{self, IndexedPack};
use repo_format::keys::{KeySchedule, RootKey};
use repo_format::manifest::{
    Evidence, Extension, Grade, Manifest, Missing, SchemaArchive, SequenceState, Source, Trigger, ViewName,
};
use repo_format::mark::Mark;
use repo_format::order::postgres::push_key;
use repo_format::order::{KeyEncoding, push_escaped, take_escaped};
use repo_format::pack::{PackWriter, PackedObject, read_directory};
use repo_format::record::{self, Field, Fields, OutOfLine, Writer};
use repo_format::slot::{self, SlotKind, UnlockKey};
use repo_format::tree::node::{encode_leaf, encode_node};
use repo_format::tree::{Entry, Leaf, Node};
use repo_format::value::{self, Piece, encode_list, parse_list};

const REPOSITORY: RepositoryId = RepositoryId([2; 16]);

fn keys() -> KeySchedule {
    KeySchedule::new(RootKey::new([1; 32]))
}

fn sealer() -> Sealer {
    Sealer::new(REPOSITORY, 0, &keys().seal(0))
}

fn opener() -> Opener {
    Opener::new(REPOSITORY, keys())
}

/// One change to a string of bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    CutFront(Index),
    CutBack(Index),
    Repeat(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // The ends of varints, the tags of records and small counts are where decisions are made.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 2, 0x7f, 0x80, 0x81, 0xff])];
    prop_oneof![
        4 => (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        2 => (any::<Index>(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        2 => any::<Index>().prop_map(Mutation::Remove),
        1 => any::<Index>().prop_map(Mutation::CutFront),
        1 => any::<Index>().prop_map(Mutation::CutBack),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutated(good: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut out = good.to_vec();
    for mutation in mutations {
        let len = out.len();
        match mutation {
            Mutation::Insert(at, byte) => out.insert(at.index(len + 1), *byte),
            _ if len == 0 => {}
            Mutation::Replace(at, byte) => out[at.index(len)] = *byte,
            Mutation::Remove(at) => {
                out.remove(at.index(len));
            }
            Mutation::CutFront(at) => {
                out.drain(..at.index(len));
            }
            Mutation::CutBack(at) => out.truncate(at.index(len)),
            Mutation::Repeat(from, to) => {
                let (from, to) = (from.index(len), to.index(len));
                out.extend_from_within(from.min(to)..from.max(to));
            }
        }
    }
    out
}

/// Bytes that a decoder may meet: good ones, good ones with some changes, and any at all.
fn near(good: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changed = (good, vec(mutation(), 0..4)).prop_map(|(good, mutations)| mutated(&good, &mutations));
    prop_oneof![5 => changed, 1 => vec(any::<u8>(), 0..200)]
}

fn id() -> impl Strategy<Value = ObjectId> {
    any::<u8>().prop_map(|byte| ObjectId([byte; 32]))
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(0u8..4, 0..5), 1 => vec(any::<u8>(), 0..20), 1 => Just(vec![b'k'; 1032])]
}

fn leaf() -> impl Strategy<Value = Vec<u8>> {
    btree_map(key(), vec(any::<u8>(), 0..20), 0..8).prop_map(|records| {
        encode_leaf(records.len(), records.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))
    })
}

fn node() -> impl Strategy<Value = Vec<u8>> {
    btree_map(key(), (id(), any::<u64>(), any::<u64>()), 1..6).prop_map(|entries| {
        let entry = |(last_key, (child, records, bytes))| Entry { last_key, child, records, bytes };
        encode_node(1, &entries.into_iter().map(entry).collect::<Vec<_>>())
    })
}

/// Fields that own their bytes.
#[derive(Clone, Debug)]
enum Owned {
    Null,
    Inline(Vec<u8>),
    Out(OutOfLine),
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let place = (any::<u64>(), 0u8..=4, id()).prop_map(|(len, depth, root)| OutOfLine { len, depth, root });
    let field = prop_oneof![
        Just(Owned::Null),
        vec(any::<u8>(), 0..200).prop_map(Owned::Inline),
        place.prop_map(Owned::Out),
    ];
    vec(field, 0..6).prop_map(|fields| {
        let borrowed = fields.iter().map(|field| match field {
            Owned::Null => Field::Null,
            Owned::Inline(bytes) => Field::Inline(bytes),
            Owned::Out(place) => Field::Out(*place),
        });
        write(borrowed)
    })
}

fn write<'a>(fields: impl IntoIterator<Item = Field<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    fields.into_iter().for_each(|field| writer.push(field));
    writer.finish();
    out
}

fn list() -> impl Strategy<Value = Vec<u8>> {
    let piece = (id(), any::<u64>()).prop_map(|(id, len)| Piece { id, len });
    vec(piece, 1..6).prop_map(|pieces| encode_list(&pieces))
}

fn kind() -> impl Strategy<Value = ObjectKind> {
    prop::sample::select(vec![ObjectKind::Leaf, ObjectKind::Node, ObjectKind::Piece, ObjectKind::PieceList])
}

fn index_file() -> impl Strategy<Value = Vec<u8>> {
    let object = (id(), kind(), 0u32..1 << 24, 0u32..1 << 24)
        .prop_map(|(id, kind, len, plain_len)| PackedObject { id, kind, offset: 0, len, plain_len });
    let pack = (any::<[u8; 16]>(), any::<u64>(), vec(object, 0..5))
        .prop_map(|(id, len, objects)| IndexedPack { id: PackId(id), len, objects });
    vec(pack, 0..4).prop_map(|packs| index::encode(&packs))
}

fn descriptor() -> impl Strategy<Value = Vec<u8>> {
    let column = ("[a-zé]{0,8}", "[a-z ]{0,12}").prop_map(|(name, type_name)| Column { name, type_name });
    let encoding = prop::sample::select(vec![KeyEncoding::Integer, KeyEncoding::Bson]);
    let part = (0u32..4, encoding).prop_map(|(column, encoding)| KeyColumn { column, encoding });
    let source = prop::sample::select(vec![KeySource::Primary, KeySource::Unique, KeySource::Multiset]);
    let key = (source, prop::option::of("[a-z_]{0,9}"), vec(part, 0..3));
    let kind =
        prop::sample::select(vec![CollectionKind::Table, CollectionKind::Collection, CollectionKind::View]);
    let numbers = (any::<u8>(), any::<u64>(), any::<u64>(), any::<u32>());
    let order = (id(), any::<u8>(), any::<u64>());
    let order = prop::option::of(order.prop_map(|(root, depth, len)| NaturalOrder { root, depth, len }));
    (vec(column, 0..5), key, id(), (kind, numbers), order).prop_map(
        |(columns, (source, name, parts), data_root, (kind, numbers), natural_order)| {
            let key = Key { source, name, columns: parts };
            let layout = Layout { kind, columns, key };
            let (level, records, logical_bytes, schema_version) = numbers;
            Descriptor { layout, data_root, level, records, logical_bytes, schema_version, natural_order }
                .to_bytes()
        },
    )
}

fn mark() -> impl Strategy<Value = Vec<u8>> {
    let time = || prop::option::of(any::<i64>());
    let note = prop::option::of("[a-z0-9é ]{0,9}");
    (any::<i64>(), note, any::<bool>(), time(), time(), time(), time()).prop_map(
        |(at_ms, note, pinned, structure_ms, sample_ms, full_ms, deleting_ms)| {
            Mark { at_ms, note, pinned, structure_ms, sample_ms, full_ms, deleting_ms }.to_bytes()
        },
    )
}

fn manifest() -> impl Strategy<Value = Vec<u8>> {
    let text = || "[a-z0-9é ]{0,9}";
    let texts = (text(), text(), prop::option::of(text()), prop::option::of(text()));
    let numbers = (any::<i64>(), any::<u64>(), any::<bool>());
    (texts, numbers, 0usize..3).prop_map(|((a, b, c, d), (signed, unsigned, flag), times)| {
        let source = Source {
            id: a.clone(),
            name: b.clone(),
            engine: "postgresql".to_owned(),
            version: a.clone(),
            database: b.clone(),
            encoding: "UTF8".to_owned(),
            collation: "C".to_owned(),
            extensions: vec![Extension { name: a.clone(), version: b.clone() }; times],
            system_identifier: c.clone(),
        };
        let archive = SchemaArchive {
            root: ObjectId([3; 32]),
            depth: 1,
            len: unsigned,
            tool: a.clone(),
            text_hash: ObjectId([4; 32]),
        };
        let sequence =
            SequenceState { namespace: a.clone(), name: b.clone(), last_value: signed, is_called: flag };
        let evidence = Evidence {
            method: a.clone(),
            snapshot: b.clone(),
            log_position: d.clone(),
            server_time: a.clone(),
            standby: flag,
            grade: if flag { Grade::NotPointInTime } else { Grade::PointInTime },
        };
        Manifest {
            source,
            trigger: if flag { Trigger::Manual } else { Trigger::Safety },
            note: d,
            started_ms: signed,
            finished_ms: signed,
            evidence,
            parent: flag.then_some(SnapshotId([5; 16])),
            catalog_root: ObjectId([6; 32]),
            catalog_level: 1,
            schema: (!flag).then_some(archive),
            sequences: vec![sequence; times],
            collections: unsigned,
            records: unsigned,
            logical_bytes: unsigned,
            new_bytes: unsigned,
            missing: vec![Missing { name: a.clone(), reason: b.clone() }; times],
            notes: vec![a.clone(); times],
            unfilled_views: vec![ViewName { namespace: a, name: b }; times],
        }
        .to_bytes()
    })
}

/// A text that PostgreSQL prints, and the encoding of its type.
fn key_text() -> impl Strategy<Value = (KeyEncoding, Vec<u8>)> {
    prop::sample::select(vec![
        (KeyEncoding::Integer, "-9223372036854775808"),
        (KeyEncoding::Boolean, "t"),
        (KeyEncoding::Uuid, "00112233-4455-6677-8899-aabbccddeeff"),
        (KeyEncoding::Date, "0044-03-15 BC"),
        (KeyEncoding::Timestamp, "2026-11-23 22:28:07.123456+00"),
        (KeyEncoding::Timestamp, "-infinity"),
        (KeyEncoding::Bytes, "\\x00ff01"),
        (KeyEncoding::Text, "text"),
        (KeyEncoding::Numeric, "-1234567.00089"),
        (KeyEncoding::Float, "-1.7976931348623157e+308"),
    ])
    .prop_map(|(encoding, text)| (encoding, text.as_bytes().to_vec()))
}

fn sealed_file(name: &str, plain: &[u8], raw: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let seal = if raw { Sealer::seal_raw } else { Sealer::seal };
    seal(&mut sealer(), Subject::File(name), plain, [7; 12], &mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn varints(bytes in vec(any::<u8>(), 0..12)) {
        let mut cursor = Cursor::new(&bytes, "test");
        if let Ok(value) = cursor.varint() {
            let mut again = Vec::new();
            put_varint(&mut again, value);
            prop_assert_eq!(&again[..], &bytes[..bytes.len() - cursor.remaining()]);
        }
    }

    #[test]
    fn leaves(bytes in near(leaf())) {
        if let Ok(leaf) = Leaf::parse(bytes.clone()) {
            prop_assert_eq!(encode_leaf(leaf.len(), leaf.records()), bytes);
            let keys: Vec<_> = leaf.records().map(|(key, _)| key).collect();
            prop_assert!(keys.is_sorted_by(|a, b| a < b));
            prop_assert!(keys.iter().all(|key| key.len() <= 1032));
        }
    }

    #[test]
    fn nodes(bytes in near(node()), level in 0u8..4) {
        prop_assert!(level == 1 || Node::parse(&bytes, level).is_err() || bytes[0] == level);
        if let Ok(node) = Node::parse(&bytes, 1) {
            prop_assert_eq!(encode_node(1, &node.entries), bytes);
            prop_assert!(node.entries.is_sorted_by(|a, b| a.last_key < b.last_key));
        }
    }

    #[test]
    fn records(bytes in near(value())) {
        let fields: Result<Vec<_>, _> = Fields::new(&bytes).collect();
        prop_assert_eq!(record::logical_len(&bytes).is_ok(), fields.is_ok());
        let shrunk = record::shrink(&bytes, |long| -> repo_format::Result<OutOfLine> {
            Ok(OutOfLine { len: long.len() as u64, depth: 0, root: ObjectId([0; 32]) })
        });
        prop_assert_eq!(shrunk, Ok(None), "short records stay as they are");
        if let Ok(fields) = fields {
            let again = write(fields);
            let (same, nulls) = bytes.split_at(again.len());
            prop_assert_eq!(same, &again[..]);
            prop_assert!(nulls.iter().all(|&byte| byte == 0), "only NULLs at the end are left out");
        }
    }

    #[test]
    fn long_records(bytes in near(value()), len in 8192usize..20_000) {
        let mut long = write([Field::Inline(&vec![b'x'; len])]);
        long.extend_from_slice(&bytes);
        let shrunk = record::shrink(&long, |moved| -> repo_format::Result<OutOfLine> {
            Ok(OutOfLine { len: moved.len() as u64, depth: 0, root: ObjectId([0; 32]) })
        });
        prop_assert_eq!(shrunk.is_ok(), record::logical_len(&bytes).is_ok());
        if let Ok(Some(shrunk)) = shrunk {
            prop_assert!(shrunk.len() <= 8192);
        }
    }

    #[test]
    fn lists(bytes in near(list()), depth in 0u8..3) {
        let children = value::children(depth, &bytes);
        match parse_list(&bytes) {
            Ok(pieces) => {
                prop_assert_eq!(children.unwrap().len(), if depth == 0 { 0 } else { pieces.len() });
                prop_assert_eq!(encode_list(&pieces), bytes);
            }
            Err(_) => prop_assert_eq!(children.is_ok(), depth == 0),
        }
    }

    #[test]
    fn indexes(bytes in near(index_file())) {
        if let Ok(packs) = index::parse(&bytes) {
            prop_assert_eq!(index::encode(&packs), bytes);
        }
    }

    #[test]
    fn descriptors(bytes in near(descriptor())) {
        if let Ok(descriptor) = Descriptor::from_bytes(&bytes) {
            prop_assert_eq!(descriptor.to_bytes(), bytes);
        }
    }

    #[test]
    fn manifests(bytes in near(manifest())) {
        if let Ok(manifest) = Manifest::from_bytes(&bytes) {
            prop_assert_eq!(manifest.to_bytes(), bytes);
        }
    }

    #[test]
    fn marks(bytes in near(mark())) {
        if let Ok(mark) = Mark::from_bytes(&bytes) {
            prop_assert_eq!(mark.to_bytes(), bytes);
        }
    }

    #[test]
    fn catalog_keys(bytes in near(("[a-c\u{0}]{0,4}", "[a-cé\u{0}]{0,4}").prop_map(|(a, b)| catalog::key(&a, &b)))) {
        if let Ok((namespace, name)) = catalog::parse_key(&bytes) {
            prop_assert_eq!(catalog::key(&namespace, &name), bytes);
        }
    }

    #[test]
    fn catalog_values(bytes in near(value())) {
        if let Ok((descriptor, _)) = catalog::parse_value(&bytes) {
            prop_assert_ne!(descriptor, Field::Null);
            prop_assert!(Fields::new(&bytes).count() <= 2);
        }
    }

    #[test]
    fn escaped(bytes in vec(prop::sample::select(vec![0u8, 1, 2, 0xff]), 0..8)) {
        if let Some((text, rest)) = take_escaped(&bytes) {
            let mut again = Vec::new();
            push_escaped(&mut again, &text);
            again.extend_from_slice(rest);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn key_texts(
        (encoding, text) in key_text(),
        mutations in vec(mutation(), 0..3),
        (at, letter) in (any::<Index>(), prop::sample::select(b"-+.:e 0ax".to_vec())),
    ) {
        let mut text = mutated(&text, &mutations);
        if !text.is_empty() {
            let at = at.index(text.len());
            text[at] = letter;
        }
        let mut out = vec![7];
        prop_assert!(push_key(&mut out, encoding, &text).is_ok() || out == [7]);
        prop_assert!(out.len() <= 9 + 2 * text.len() + 16);
    }

    #[test]
    fn recovery_keys(
        key: [u8; 32],
        mutations in vec(mutation(), 0..3),
        any_text in any::<String>(),
    ) {
        let written = UnlockKey::new(key).to_recovery_text();
        let typed = mutated(written.as_bytes(), &mutations);
        for text in [&*String::from_utf8_lossy(&typed), &any_text] {
            if let Ok(read) = UnlockKey::from_recovery_text(text) {
                let letters = |text: &str| -> String {
                    let text = text.to_ascii_uppercase().replace('O', "0").replace(['I', 'L'], "1");
                    text.chars().filter(|c| c.is_ascii_alphanumeric()).collect()
                };
                prop_assert_eq!(letters(&read.to_recovery_text()), letters(text));
            }
        }
    }

    #[test]
    fn frames(plain in vec(0u8..3, 0..300), mutations in vec(mutation(), 0..3), raw: bool, any_bytes in vec(any::<u8>(), 0..100)) {
        let frame = sealed_file("name", &plain, raw);
        let changed = mutated(&frame, &mutations);
        let opened = opener().open(Subject::File("name"), &changed);
        if changed == frame {
            prop_assert_eq!(opened, Ok(plain));
        } else {
            prop_assert!(opened.is_err());
        }
        prop_assert!(opener().open(Subject::File("name"), &any_bytes).is_err());
        let any_object = ObjectId([9; 32]);
        prop_assert!(opener().open_object(ObjectKind::Leaf, any_object, &any_bytes).is_err());
    }

    #[test]
    fn slots(mutations in vec(mutation(), 0..3), any_bytes in vec(any::<u8>(), 0..200)) {
        let (id, key) = (SlotId([3; 16]), UnlockKey::new([4; 32]));
        let slot = slot::wrap(&SlotKind::Recovery.into(), REPOSITORY, id, keys().root(), &key, [5; 12]).unwrap();
        let changed = mutated(&slot, &mutations);
        prop_assert_eq!(slot::unwrap(REPOSITORY, id, &changed, &key).is_ok(), changed == slot);
        prop_assert!(slot::unwrap(REPOSITORY, id, &any_bytes, &key).is_err());
    }

    #[test]
    fn configs(mutations in vec(mutation(), 0..3), any_bytes in vec(any::<u8>(), 0..100)) {
        let settings = Settings {
            repository: REPOSITORY,
            commitment: ObjectId(keys().root().commitment()),
            created_ms: 1,
            reader_features: Vec::new(),
            writer_features: vec!["w".to_owned()],
            deleter_features: vec!["d".to_owned()],
            exclusive: true,
        };
        let file = config::encode(&settings, &mut sealer(), [6; 12]).unwrap();
        let read = |bytes: &[u8]| {
            let (preamble, sealed) = config::parse_preamble(bytes)?;
            config::open_settings(&preamble, sealed, &mut opener())
        };
        let changed = mutated(&file, &mutations);
        match read(&changed) {
            Ok(found) => prop_assert!(changed == file && found == settings),
            Err(_) => prop_assert!(changed != file),
        }
        prop_assert!(read(&any_bytes).is_err());
        // What the holder of the root key wrote is still not believed.
        let sealed = sealed_file("config", &any_bytes, false);
        prop_assert!(read(&[&file[..57], &sealed].concat()).is_err());
    }

    #[test]
    fn packs(directory in near(index_file()), mutations in vec(mutation(), 0..3), objects in vec(vec(0u8..3, 0..80), 0..4)) {
        let id = PackId([8; 16]);
        let mut pack = PackWriter::new(id);
        for plain in &objects {
            let object = keys().object_id(ObjectKind::Piece, plain);
            let mut frame = Vec::new();
            let subject = Subject::Object(ObjectKind::Piece, object);
            sealer().seal(subject, plain, [1; 12], &mut frame).unwrap();
            pack.push(ObjectKind::Piece, object, plain.len() as u32, &frame);
        }
        let (bytes, listed) = pack.finish(&mut sealer(), [[2; 12], [3; 12]]).unwrap();
        prop_assert_eq!(read_directory(id, &bytes, &mut opener()), Ok(listed));
        let _ = read_directory(id, &mutated(&bytes, &mutations), &mut opener());

        // A footer that opens and holds anything.
        let footer = sealed_file(&format!("packs/{id}#footer"), directory.get(17..).unwrap_or(&[]), true);
        let mut file = bytes[..8].to_vec();
        file.extend_from_slice(&footer);
        file.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        if let Ok(objects) = read_directory(id, &file, &mut opener()) {
            prop_assert!(objects.iter().all(|object| object.offset as usize + object.len as usize <= 8));
        }
    }
}
