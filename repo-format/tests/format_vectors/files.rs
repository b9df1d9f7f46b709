//! Packs and indexes.

use repo_format::id::{ObjectId, ObjectKind, PackId};
use repo_format::index::{self, IndexedPack};
use repo_format::pack::{PackWriter, PackedObject, padded_len, read_directory};

use crate::document::Section;
use crate::keys::keys;
use crate::sealed::{opener, sealer};
use repo_format::frame::Subject;

pub fn padme(section: &mut Section) {
    for name in section.names() {
        let padded = padded_len(name.parse().unwrap());
        section.check_text(&name, &padded.to_string());
    }
}

/// Writes "kind, frame length, plain length, id" as the document does.
fn packed(text: &str, offset: u32) -> PackedObject {
    let parts: Vec<_> = text.split(' ').collect();
    let kind = ObjectKind::from_byte(parts[0].parse().unwrap()).unwrap();
    let (len, plain_len) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
    PackedObject { id: ObjectId::parse(parts[3]).unwrap(), kind, offset, len, plain_len }
}

pub fn directory(section: &mut Section) {
    let id = PackId(section.array("pack-id"));
    let len = section.number("pack-length");
    let first = packed(&section.text("object.0"), 8);
    let second = packed(&section.text("object.1"), 8 + first.len);
    let packs = vec![IndexedPack { id, len, objects: vec![first, second] }];
    let plaintext = index::encode(&packs);
    section.check("index", &plaintext);
    // Before the directory: the number of packs, the id, and a length of two bytes.
    section.check("directory", &plaintext[19..]);
    assert_eq!(index::parse(&plaintext).unwrap(), packs);
}

pub fn refuse_index(section: &mut Section) {
    section.refuse_all(index::parse);
}

pub fn refuse_pack(section: &mut Section) {
    let id = PackId([0x60; 16]);
    let plain = b"dbsnap";
    let object = keys().object_id(ObjectKind::Piece, plain);
    let mut frame = Vec::new();
    sealer(0).seal(Subject::Object(ObjectKind::Piece, object), plain, [3; 12], &mut frame).unwrap();
    let pack = |frame: &[u8], id: PackId| {
        let mut pack = PackWriter::new(id);
        pack.push(ObjectKind::Piece, object, plain.len() as u32, frame);
        pack.finish(&mut sealer(0), [[5; 12], [6; 12]]).unwrap().0
    };
    let good = pack(&frame, id);
    read_directory(id, &good, &mut opener()).unwrap();
    section.seed("cut-short", &good[..good.len() - 1]);
    section.seed("other-pack", &pack(&frame, PackId([0x61; 16])));
    // The frame is cut out behind the directory's back.
    section.seed("frames-reach-into-the-footer", &[&good[..8], &good[8 + frame.len() + 39..]].concat());
    section.refuse_all(|bytes| read_directory(id, bytes, &mut opener()));
}
