//! Leaves, nodes and lists, and where they end.

use std::collections::BTreeMap;

use repo_format::chunker::{LeafCutter, PieceCutter, node_ends, record_len};
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::keys::{KeySchedule, RootKey, context};
use repo_format::record::{Field, Writer};
use repo_format::tree::node::{encode_leaf, encode_node};
use repo_format::tree::{Builder, Cursor, Entry, Leaf, Lookup, Node, Root, Sink};
use repo_format::value::{self, Piece, ValueWriter, encode_list, parse_list};
use repo_format::{Error, Result};

use crate::document::Section;
use crate::keys::keys;

/// Objects in memory, by id.
#[derive(Default)]
pub struct Objects(pub BTreeMap<ObjectId, (ObjectKind, Vec<u8>)>);

impl Sink for Objects {
    type Error = Error;

    fn store(&mut self, kind: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
        assert_eq!(keys().object_id(kind, &plaintext), id);
        self.0.insert(id, (kind, plaintext));
        Ok(())
    }
}

impl Lookup for Objects {
    type Error = Error;

    fn load(&mut self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        match self.0.get(&id) {
            Some((stored, plaintext)) if *stored == kind => Ok(plaintext.clone()),
            _ => Err(Error::WrongContent),
        }
    }
}

pub fn leaf(section: &mut Section) {
    let count = section.names().iter().filter(|name| name.starts_with("key.")).count();
    let records: Vec<_> = (0..count)
        .map(|at| (section.bytes(&format!("key.{at}")), section.bytes(&format!("value.{at}"))))
        .collect();
    let borrowed = || records.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let plaintext = encode_leaf(records.len(), borrowed());
    section.check("plaintext", &plaintext);
    section.check("id", &keys().object_id(ObjectKind::Leaf, &plaintext).0);
    assert!(Leaf::parse(plaintext).unwrap().records().eq(borrowed()));
}

pub fn refuse_leaf(section: &mut Section) {
    let longest = [&[0, 1, 0, 0x89, 0x08][..], &[b'a'; 1033], &[0]].concat();
    section.seed("key-too-long", &longest);
    // Each key is a little longer than the one before, and only the last too long.
    let grown = [&[0, 2, 0, 0x88, 0x08][..], &[b'a'; 1032], &[0, 0x88, 0x08, 1, b'a', 0]].concat();
    section.seed("key-grown-too-long", &grown);
    section.refuse_all(|plaintext| Leaf::parse(plaintext.to_vec()));
}

pub fn node(section: &mut Section) {
    let level = section.bytes("level")[0];
    let count = section.names().iter().filter(|name| name.starts_with("child.")).count();
    let entries: Vec<_> = (0..count)
        .map(|at| Entry {
            last_key: section.bytes(&format!("last-key.{at}")),
            child: ObjectId(section.array(&format!("child.{at}"))),
            records: section.number(&format!("records.{at}")),
            bytes: section.number(&format!("bytes.{at}")),
        })
        .collect();
    let plaintext = encode_node(level, &entries);
    section.check("plaintext", &plaintext);
    section.check("id", &keys().object_id(ObjectKind::Node, &plaintext).0);
    assert_eq!(Node::parse(&plaintext, level).unwrap(), Node { level, entries });
}

pub fn refuse_node(section: &mut Section) {
    section.refuse_all(|plaintext| Node::parse(plaintext, 1));
}

pub fn piece_list(section: &mut Section) {
    let count = section.names().iter().filter(|name| name.starts_with("id.")).count();
    let pieces: Vec<_> = (0..count)
        .map(|at| Piece {
            len: section.number(&format!("length.{at}")),
            id: ObjectId(section.array(&format!("id.{at}"))),
        })
        .collect();
    let plaintext = encode_list(&pieces);
    section.check("plaintext", &plaintext);
    assert_eq!(parse_list(&plaintext).unwrap(), pieces);
}

pub fn refuse_piece_list(section: &mut Section) {
    section.refuse_all(parse_list);
}

/// Stream A of the document.
fn stream(len: u32) -> impl Iterator<Item = ([u8; 4], Vec<u8>)> {
    (0..len).map(|at| {
        let field_len = if at % 100 == 99 { 6000 } else { (at as usize * 7919) % 400 };
        let mut value = Vec::new();
        let mut writer = Writer::new(&mut value);
        writer.push(Field::Inline(&vec![b'a'; field_len]));
        writer.finish();
        (at.to_be_bytes(), value)
    })
}

fn decimals(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
}

pub fn leaf_cuts(section: &mut Section) {
    let (gear, _) = fastcdc::v2020::get_gear_with_seed(0);
    let table: Vec<u8> = gear.iter().flat_map(|word| word.to_le_bytes()).collect();
    section.check("fastcdc-table", blake3::hash(&table).as_bytes());

    let (key, value) = stream(6).last().unwrap();
    let cut_key = blake3::derive_key(context::CUT, &std::array::from_fn::<u8, 32, _>(|at| at as u8));
    let mut surrogate = vec![0; record_len(key.len(), value.len()).div_ceil(8)];
    blake3::Hasher::new_keyed(&cut_key).update(&key).finalize_xof().fill(&mut surrogate);
    section.check("surrogate", &surrogate);

    let mut cutter = LeafCutter::new(&keys());
    let mut leaves = Vec::new();
    for (key, value) in stream(5000) {
        cutter.push(&key, value.len());
        leaves.extend(std::iter::from_fn(|| cutter.next_leaf()));
    }
    leaves.extend(std::iter::from_fn(|| cutter.last_leaf()));
    section.check_text("leaves", &decimals(&leaves));
}

pub fn node_cuts(section: &mut Section) {
    for level in [1, 2] {
        let (mut lengths, mut len) = (Vec::new(), 0);
        for at in 0u32..3000 {
            len += 1;
            if node_ends(&keys(), level, &at.to_be_bytes(), len) {
                lengths.push(std::mem::take(&mut len));
            }
        }
        lengths.extend((len > 0).then_some(len));
        section.check_text(&format!("level-{level}"), &decimals(&lengths));
    }
}

pub fn piece_cuts(section: &mut Section) {
    let gear_key = blake3::derive_key(context::GEAR, &std::array::from_fn::<u8, 32, _>(|at| at as u8));
    let mut table = vec![0; 2048];
    blake3::Hasher::new_keyed(&gear_key).finalize_xof().fill(&mut table);
    section.check("table", blake3::hash(&table).as_bytes());

    let mut value = vec![0; 1_000_001];
    blake3::Hasher::new_keyed(&[7; 32]).finalize_xof().fill(&mut value);
    let cutter = PieceCutter::new(&keys());
    let (mut lengths, mut rest) = (Vec::new(), &value[..]);
    while !rest.is_empty() {
        lengths.push(cutter.piece(rest));
        rest = &rest[lengths[lengths.len() - 1]..];
    }
    section.check_text("lengths", &decimals(&lengths));

    let mut objects = Objects::default();
    let place = ValueWriter::new(&keys()).write(&value, &mut objects).unwrap();
    section.check("root", &place.root.0);
    section.check_text("depth", &place.depth.to_string());
    assert_eq!(value::read(&place, u64::MAX, &mut objects).unwrap(), value);
    let empty = ValueWriter::new(&keys()).write(b"", &mut objects).unwrap();
    section.check("root-of-nothing", &empty.root.0);
}

/// A tree of stream A, as stored and read back.
fn tree(keys: &KeySchedule, len: u32) -> Root {
    let mut objects = Objects::default();
    let mut builder = Builder::new(keys);
    for (key, value) in stream(len) {
        builder.push(&key, &value, &mut objects).unwrap();
    }
    let root = builder.finish(&mut objects).unwrap();
    let mut cursor = Cursor::new(&root, None);
    for (key, value) in stream(len) {
        assert_eq!(cursor.next(&mut objects).unwrap(), Some((key.to_vec(), value)));
    }
    assert_eq!(cursor.next(&mut objects).unwrap(), None);
    root
}

pub fn tree_root(section: &mut Section) {
    for len in [0, 1, 100, 100_000] {
        let Root { id, level, records, bytes } = tree(&keys(), len);
        section.check(&format!("root.{len}"), &id.0);
        section.check_text(&format!("level.{len}"), &level.to_string());
        section.check_text(&format!("records.{len}"), &records.to_string());
        section.check_text(&format!("bytes.{len}"), &bytes.to_string());
    }
    // Another repository's trees are unrelated.
    let (mut objects, other) = (Nowhere, KeySchedule::new(RootKey::new([9; 32])));
    let root = Builder::new(&other).finish(&mut objects).unwrap();
    section.check("root-under-another-key", &root.id.0);
}

struct Nowhere;

impl Sink for Nowhere {
    type Error = Error;

    fn store(&mut self, _: ObjectKind, _: ObjectId, _: Vec<u8>) -> Result<()> {
        Ok(())
    }
}
