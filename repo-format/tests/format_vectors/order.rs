//! Records and key parts.

use repo_format::Error;
use repo_format::id::ObjectId;
use repo_format::order::postgres::push_key;
use repo_format::order::{KeyEncoding, bound_key, bson, take_escaped};
use repo_format::record::{self, Field, Fields, OutOfLine, Writer};
use repo_format::value::ValueWriter;

use crate::document::{Section, unhex};
use crate::keys::keys;
use crate::trees::Objects;

enum Spelled {
    Null,
    Inline(Vec<u8>),
    Out(OutOfLine),
}

fn spelled(text: &str) -> Spelled {
    match text.split_once(':') {
        Some(("in", bytes)) => Spelled::Inline(unhex(bytes)),
        Some(("out", place)) => {
            let parts: Vec<_> = place.split(',').collect();
            let (len, depth) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
            Spelled::Out(OutOfLine { len, depth, root: ObjectId::parse(parts[2]).unwrap() })
        }
        _ => Spelled::Null,
    }
}

fn encode<'a>(fields: impl IntoIterator<Item = Field<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    fields.into_iter().for_each(|field| writer.push(field));
    writer.finish();
    out
}

pub fn record(section: &mut Section) {
    for name in section.names() {
        let spelled: Vec<_> = name.split(' ').map(spelled).collect();
        let fields: Vec<_> = spelled
            .iter()
            .map(|field| match field {
                Spelled::Null => Field::Null,
                Spelled::Inline(bytes) => Field::Inline(bytes),
                Spelled::Out(place) => Field::Out(*place),
            })
            .collect();
        let value = encode(fields.iter().copied());
        section.check(&name, &value);
        let mut read: Vec<_> = Fields::new(&value).map(Result::unwrap).collect();
        read.resize(fields.len(), Field::Null);
        assert_eq!(read, fields, "{name}");
    }
}

pub fn refuse_record(section: &mut Section) {
    section.refuse_all(|value| Fields::new(value).collect::<Result<Vec<_>, _>>().map(drop));
}

pub fn moving_out(section: &mut Section) {
    let fields = [vec![b'a'; 3], vec![b'b'; 5000], vec![b'c'; 5000], vec![b'd'; 40]];
    let [a, b, c, d] = &fields;
    let before =
        encode([Field::Inline(a), Field::Null, Field::Inline(b), Field::Inline(c), Field::Inline(d)]);
    let mut objects = Objects::default();
    let writer = ValueWriter::new(&keys());
    let after = record::shrink(&before, |long| writer.write(long, &mut objects)).unwrap().unwrap();
    let moved =
        encode(Fields::new(&after).map(Result::unwrap).filter(|field| matches!(field, Field::Out(_))));
    section.check("before", blake3::hash(&before).as_bytes());
    section.check("moved", &moved);
    section.check("after", blake3::hash(&after).as_bytes());
    section.check_text("logical-length", &record::logical_len(&after).unwrap().to_string());
}

fn encoding(name: &str) -> KeyEncoding {
    match name {
        "integer" => KeyEncoding::Integer,
        "boolean" => KeyEncoding::Boolean,
        "uuid" => KeyEncoding::Uuid,
        "date" => KeyEncoding::Date,
        "timestamp" => KeyEncoding::Timestamp,
        "bytes" => KeyEncoding::Bytes,
        "text" => KeyEncoding::Text,
        "numeric" => KeyEncoding::Numeric,
        "float" => KeyEncoding::Float,
        "bson" => KeyEncoding::Bson,
        other => panic!("no encoding {other}"),
    }
}

fn part(encoding: KeyEncoding, text: &str) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    push_key(&mut out, encoding, text.as_bytes()).map(|()| out)
}

pub fn key_part(section: &mut Section) {
    let encoding = encoding(section.name.strip_prefix("key-").unwrap());
    for text in section.names() {
        let key = part(encoding, &text).unwrap();
        section.check(&text, &key);
        if encoding == KeyEncoding::Text {
            assert_eq!(take_escaped(&key), Some((text.clone().into_bytes(), &[][..])));
        }
    }
}

pub fn refuse_key(section: &mut Section) {
    for name in section.names() {
        let (named, text) = name.split_once(' ').unwrap_or((&name, ""));
        section.check_refused(&name, part(encoding(named), text));
    }
}

/// The key of a value that is given as its type byte and its bytes.
fn id(spelled: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let (&kind, value) = spelled.split_first().ok_or(Error::Malformed("vector", "it ends early"))?;
    bson::push_id(&mut out, kind, value).map(|()| out)
}

/// Each value is followed by its key, under its name and "key".
pub fn key_bson(section: &mut Section) {
    for name in section.names().iter().filter(|name| !name.ends_with(" key")) {
        let value = section.bytes(name);
        section.check(&format!("{name} key"), &id(&value).unwrap());
    }
}

pub fn refuse_key_bson(section: &mut Section) {
    section.refuse_all(id);
}

/// Each document is followed by its key.
pub fn key_document(section: &mut Section) {
    for name in section.names().iter().filter(|name| !name.ends_with(" key")) {
        let (document, mut key) = (section.bytes(name), Vec::new());
        bson::push_key(&mut key, &document, keys().row()).unwrap();
        section.check(&format!("{name} key"), &key);
    }
}

pub fn long_key(section: &mut Section) {
    for name in section.names() {
        let mut key = part(KeyEncoding::Text, &"a".repeat(name.parse().unwrap())).unwrap();
        bound_key(&mut key, keys().row());
        let shown = crate::document::hex(&key[key.len() - 40..]);
        section.check_text(&name, &format!("{} {shown}", key.len()));
    }
}
