//! Varints, the key schedule, and ids.

use repo_format::codec::{Cursor, put_varint};
use repo_format::id::ObjectKind;
use repo_format::keys::{KeySchedule, RootKey, context};

use crate::document::Section;

/// The keys of every block that does not say otherwise.
pub fn keys() -> KeySchedule {
    KeySchedule::new(RootKey::new(std::array::from_fn(|at| at as u8)))
}

pub const KINDS: [(&str, ObjectKind); 4] = [
    ("leaf", ObjectKind::Leaf),
    ("node", ObjectKind::Node),
    ("piece", ObjectKind::Piece),
    ("piece-list", ObjectKind::PieceList),
];

pub fn varint(section: &mut Section) {
    for name in section.names() {
        let value: u64 = name.parse().unwrap();
        let mut out = Vec::new();
        put_varint(&mut out, value);
        section.check(&name, &out);
        assert_eq!(Cursor::new(&out, "vector").varint(), Ok(value));
    }
}

pub fn refuse_varint(section: &mut Section) {
    section.refuse_all(|bytes| Cursor::new(bytes, "vector").varint());
}

pub fn key_schedule(section: &mut Section) {
    let root: [u8; 32] = section.array("root");
    let schedule = KeySchedule::new(RootKey::new(root));
    let derive = |context| blake3::derive_key(context, &root);
    let (id, row) = (derive(context::ID), derive(context::ROW));
    section.check("id", &id);
    section.check("cut", &derive(context::CUT));
    section.check("node-cut", &derive(context::NODE_CUT));
    section.check("gear", &derive(context::GEAR));
    section.check("row", &row);
    section.check("commitment", &schedule.root().commitment());
    for epoch in [0u32, 1] {
        let material = [&root[..], &epoch.to_le_bytes()].concat();
        section.check(&format!("seal.{epoch}"), &blake3::derive_key(context::SEAL, &material));
    }
    // Cut keys show in the blocks of cuts, sealing keys in that of frames.
    assert_eq!(schedule.row().hash(b"row"), *blake3::keyed_hash(&row, b"row").as_bytes());
    let leaf = [&[ObjectKind::Leaf as u8][..], b"leaf"].concat();
    assert_eq!(schedule.object_id(ObjectKind::Leaf, b"leaf").0, *blake3::keyed_hash(&id, &leaf).as_bytes());
}

pub fn object_id(section: &mut Section) {
    let plaintext = section.bytes("plaintext");
    for (name, kind) in KINDS {
        section.check(name, &keys().object_id(kind, &plaintext).0);
    }
    section.check("leaf-of-nothing", &keys().object_id(ObjectKind::Leaf, b"").0);
}
