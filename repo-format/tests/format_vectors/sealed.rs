//! Frames, slots, recovery keys and the config.

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use repo_format::config::{self, Settings};
use repo_format::files;
use repo_format::frame::{Opener, Sealer, Subject};
use repo_format::id::{ObjectId, ObjectKind, RepositoryId, SlotId};
use repo_format::keys::{RootKey, context};
use repo_format::slot::{self, KmsKey, Outline, SlotKind, UnlockKey};

use crate::document::Section;
use crate::keys::keys;

pub const REPOSITORY: RepositoryId = RepositoryId([0x40; 16]);
const NAME: &str = "snapshots/80808080808080808080808080808080";

pub fn sealer(epoch: u32) -> Sealer {
    Sealer::new(REPOSITORY, epoch, &keys().seal(epoch))
}

pub fn opener() -> Opener {
    Opener::new(REPOSITORY, keys())
}

/// Seals a body as it is, whatever the header says of it: for frames that no writer makes.
fn seal_by_hand(codec: u8, plain_len: u32, body: &[u8]) -> Vec<u8> {
    let nonce = [9; 12];
    let (plain_len, epoch) = (plain_len.to_le_bytes(), [0; 4]);
    let identity = *blake3::hash(NAME.as_bytes()).as_bytes();
    let associated = [&[0][..], &REPOSITORY.0, &[64], &identity, &plain_len, &[codec], &epoch].concat();
    let mut sealed = body.to_vec();
    let root: [u8; 32] = std::array::from_fn(|at| at as u8);
    let key = blake3::derive_key(context::SEAL, &[&root[..], &epoch].concat());
    let tag = Aes256GcmSiv::new(&key.into())
        .encrypt_inout_detached(&Nonce::from(nonce), &associated, sealed.as_mut_slice().into())
        .unwrap();
    [&[0, codec, 64][..], &epoch, &plain_len, &nonce, &sealed, &tag].concat()
}

fn changed(bytes: &[u8], position: usize, byte: u8) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[position] = byte;
    out
}

pub fn frame(section: &mut Section) {
    let (name, plain) = (section.text("name"), section.bytes("plaintext"));
    assert_eq!(name, NAME);
    let nonce = section.array("nonce");
    let id = keys().object_id(ObjectKind::Piece, &plain);
    section.check("id", &id.0);
    let mut object = Vec::new();
    sealer(0).seal(Subject::Object(ObjectKind::Piece, id), &plain, nonce, &mut object).unwrap();
    section.check("object", &object);
    assert_eq!(opener().open_object(ObjectKind::Piece, id, &object).unwrap(), plain);
    let mut file = Vec::new();
    sealer(0).seal(Subject::File(&name), &plain, nonce, &mut file).unwrap();
    section.check("file", &file);
    assert_eq!(opener().open(Subject::File(&name), &file).unwrap(), plain);

    // What zstd makes may differ from release to release, so this one is only opened.
    let mut compressed = Vec::new();
    sealer(7).seal(Subject::File(&name), &[b'a'; 1000], nonce, &mut compressed).unwrap();
    section.seed("compressed", &compressed);
    let compressed = section.bytes("compressed");
    assert_eq!(compressed[..7], [0, 1, 64, 7, 0, 0, 0]);
    assert_eq!(opener().open(Subject::File(&name), &compressed).unwrap(), [b'a'; 1000]);
}

pub fn refuse_frame(section: &mut Section) {
    let seal = |subject: Subject<'_>, plain: &[u8]| {
        let mut out = Vec::new();
        sealer(0).seal(subject, plain, [9; 12], &mut out).unwrap();
        out
    };
    let good = seal(Subject::File(NAME), b"dbsnap");
    assert_eq!(good, seal_by_hand(0, 6, b"dbsnap"));
    let zstd = zstd::bulk::compress(&[b'a'; 100], 3).unwrap();
    opener().open(Subject::File(NAME), &seal_by_hand(1, 100, &zstd)).unwrap();
    let object = Subject::Object(ObjectKind::Leaf, ObjectId([0; 32]));
    let cases = [
        ("nothing", Vec::new()),
        ("version", changed(&good, 0, 1)),
        ("codec", changed(&good, 1, 2)),
        ("another-codec", changed(&good, 1, 1)),
        ("kind", changed(&good, 2, 1)),
        ("epoch", changed(&good, 3, 1)),
        ("plain-length", changed(&good, 7, 7)),
        ("plain-length-over-the-limit", changed(&changed(&good, 7, 1), 10, 1)),
        ("nonce", changed(&good, 11, 0)),
        ("ciphertext", changed(&good, 23, good[23] ^ 1)),
        ("tag", changed(&good, good.len() - 1, good[good.len() - 1] ^ 0x80)),
        ("cut-short", good[..good.len() - 1].to_vec()),
        ("no-tag", good[..30].to_vec()),
        ("longer", [&good[..], &[0]].concat()),
        ("another-name", seal(Subject::File("snapshots/81808080808080808080808080808080"), b"dbsnap")),
        ("an-object", seal(object, b"dbsnap")),
        ("plain-length-not-the-body's", seal_by_hand(0, 7, b"dbsnap")),
        ("body-not-zstd", seal_by_hand(1, 6, b"dbsnap")),
        ("zstd-of-less", seal_by_hand(1, 101, &zstd)),
        ("zstd-of-more", seal_by_hand(1, 99, &zstd)),
        ("zstd-cut-short", seal_by_hand(1, 100, &zstd[..zstd.len() - 1])),
    ];
    for (name, bytes) in cases {
        section.seed(name, &bytes);
    }
    section.refuse_all(|frame| opener().open(Subject::File(NAME), frame));
}

pub fn refuse_object(section: &mut Section) {
    let id = ObjectId([0x11; 32]);
    let subject = Subject::Object(ObjectKind::Piece, id);
    let mut frame = Vec::new();
    sealer(0).seal(subject, b"dbsnap", [9; 12], &mut frame).unwrap();
    section.seed("another-content", &frame);
    assert!(opener().open(subject, &frame).is_ok());
    section.refuse_all(|frame| opener().open_object(ObjectKind::Piece, id, frame));
}

const SLOT: SlotId = SlotId([0x50; 16]);

pub fn unlocking_key() -> UnlockKey {
    UnlockKey::new(std::array::from_fn(|at| 0x20 + at as u8))
}

pub fn slot(section: &mut Section) {
    let root = RootKey::new(section.array("root"));
    let key = UnlockKey::new(section.array("unlocking-key"));
    let (repository, id) = (RepositoryId(section.array("repository-id")), SlotId(section.array("slot-id")));
    let bytes =
        slot::wrap(&SlotKind::Server.into(), repository, id, &root, &key, section.array("nonce")).unwrap();
    section.check("slot", &bytes);
    let opened = slot::unwrap(repository, id, &bytes, &key).unwrap();
    assert_eq!(opened.commitment(), root.commitment());
    section.check_text("recovery-text", &key.to_recovery_text());
}

pub fn slot_kms(section: &mut Section) {
    let kms = KmsKey { key_id: section.text("key-id"), ciphertext: section.bytes("ciphertext") };
    let outline = Outline { kind: SlotKind::Kms, kms: Some(kms) };
    let bytes = slot::wrap(&outline, REPOSITORY, SLOT, keys().root(), &unlocking_key(), [1; 12]).unwrap();
    section.check("slot", &bytes);
    assert_eq!(slot::outline(REPOSITORY, &bytes), Ok(outline));
    let opened = slot::unwrap(REPOSITORY, SLOT, &bytes, &unlocking_key()).unwrap();
    assert_eq!(opened.commitment(), keys().root().commitment());
}

pub fn refuse_slot_kms(section: &mut Section) {
    let kms = KmsKey { key_id: "k".to_owned(), ciphertext: vec![7; 3] };
    let outline = Outline { kind: SlotKind::Kms, kms: Some(kms) };
    let good = slot::wrap(&outline, REPOSITORY, SLOT, keys().root(), &unlocking_key(), [1; 12]).unwrap();
    let cases = [
        ("another-key-id", changed(&good, 152, b'l')),
        ("another-ciphertext", changed(&good, 157, 8)),
        ("key-id-not-utf8", changed(&good, 152, 0xff)),
        ("key-id-too-long", changed(&good, 151, 9)),
        ("ciphertext-too-long", changed(&good, 154, 25)),
        ("without-its-part", good[..150].to_vec()),
        ("longer", [&good[..], &[0]].concat()),
    ];
    for (name, bytes) in cases {
        section.seed(name, &bytes);
    }
    section.refuse_all(|bytes| slot::unwrap(REPOSITORY, SLOT, bytes, &unlocking_key()));
}

pub fn refuse_slot(section: &mut Section) {
    let wrap = |key: &UnlockKey, id: SlotId, repository: RepositoryId| {
        slot::wrap(&SlotKind::Server.into(), repository, id, keys().root(), key, [1; 12]).unwrap()
    };
    let good = wrap(&unlocking_key(), SLOT, REPOSITORY);
    slot::unwrap(REPOSITORY, SLOT, &good, &unlocking_key()).unwrap();
    let cases = [
        ("nothing", Vec::new()),
        ("magic", changed(&good, 7, b'M')),
        ("version", changed(&good, 8, 1)),
        ("another-kind", changed(&good, 9, 2)),
        ("unknown-kind", changed(&good, 9, 4)),
        ("kms-without-its-part", changed(&good, 9, 3)),
        ("root-commitment", changed(&good, 58, good[58] ^ 1)),
        ("nonce", changed(&good, 90, 0)),
        ("tag", changed(&good, 149, good[149] ^ 1)),
        ("check", changed(&good, 165, good[165] ^ 1)),
        ("cut-short", good[..149].to_vec()),
        ("longer", [&good[..], &[0]].concat()),
        ("other-key", wrap(&UnlockKey::new([0; 32]), SLOT, REPOSITORY)),
        ("other-slot", wrap(&unlocking_key(), SlotId([0x51; 16]), REPOSITORY)),
        ("other-repository", wrap(&unlocking_key(), SLOT, RepositoryId([0x41; 16]))),
    ];
    for (name, bytes) in cases {
        section.seed(name, &bytes);
    }
    section.refuse_all(|bytes| slot::unwrap(REPOSITORY, SLOT, bytes, &unlocking_key()));
}

pub fn epoch(section: &mut Section) {
    let (name, plain) = (section.text("name"), (section.number("created-ms") as i64).to_le_bytes());
    let epoch = files::parse_epoch(&name).unwrap();
    assert_eq!(files::epoch(epoch), name);
    let mut file = Vec::new();
    sealer(epoch).seal(Subject::File(&name), &plain, [9; 12], &mut file).unwrap();
    section.check("file", &file);
    assert_eq!(Opener::new(REPOSITORY, keys()).open(Subject::File(&name), &file).unwrap(), plain);
    for other in ["epochs/1", "epochs/0000000G", "epochs/+0000001", "epochs/000000001", "00000001"] {
        assert_eq!(files::parse_epoch(other), None, "{other}");
    }
}

pub fn recovery_key(section: &mut Section) {
    let key = UnlockKey::new(section.array("key"));
    let text = key.to_recovery_text();
    section.check_text("written", &text);
    section.check_text("typed", &text.to_lowercase().replace('-', "").replace('0', "o").replace('1', "l"));
    for name in ["written", "typed"] {
        let typed = if section.has(name) { section.text(name) } else { continue };
        let read = UnlockKey::from_recovery_text(&typed).unwrap();
        assert_eq!(*read.to_recovery_text(), *text, "{name}");
    }
}

pub fn refuse_recovery_key(section: &mut Section) {
    let text = unlocking_key().to_recovery_text();
    section.check_text("another-letter", &text.replacen('4', "U", 1));
    section.check_text("letter-changed", &text.replacen('4', "5", 1));
    section.check_text("letter-left-out", &text[1..]);
    section.check_text("letter-more", &format!("{}0", *text));
    for name in section.names() {
        let typed = section.text(&name);
        section.check_refused(&name, UnlockKey::from_recovery_text(&typed));
    }
}

fn settings(created_ms: i64) -> Settings {
    Settings {
        repository: REPOSITORY,
        commitment: ObjectId(keys().root().commitment()),
        created_ms,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        deleter_features: Vec::new(),
        exclusive: false,
    }
}

fn open_config(bytes: &[u8]) -> repo_format::Result<Settings> {
    let (preamble, sealed) = config::parse_preamble(bytes)?;
    config::open_settings(&preamble, sealed, &mut opener())
}

pub fn config(section: &mut Section) {
    let settings = settings(section.number("created-ms") as i64);
    let nonce = section.array("nonce");
    let encoded = config::encode(&settings, &mut sealer(0), nonce).unwrap();
    section.seed("file", &encoded);
    let file = section.bytes("file");
    assert_eq!(open_config(&file).unwrap(), settings);
    let frame = &file[57..];
    section.check("settings", &opener().open(Subject::File("config"), frame).unwrap());
    assert_eq!(encoded[..57], file[..57]);
}

pub fn refuse_config(section: &mut Section) {
    let encode = |settings: &Settings| config::encode(settings, &mut sealer(0), [2; 12]).unwrap();
    let good = encode(&settings(0));
    open_config(&good).unwrap();
    let feature = Settings { reader_features: vec!["deltas".to_owned()], ..settings(0) };
    let cases = [
        ("nothing", Vec::new()),
        ("magic", changed(&good, 7, b'G')),
        ("version", changed(&good, 8, 1)),
        ("repository", changed(&good, 9, 0)),
        ("commitment", changed(&good, 25, good[25] ^ 1)),
        ("no-settings", good[..57].to_vec()),
        ("unknown-reader-feature", encode(&feature)),
    ];
    for (name, bytes) in cases {
        section.seed(name, &bytes);
    }
    section.refuse_all(open_config);
}
