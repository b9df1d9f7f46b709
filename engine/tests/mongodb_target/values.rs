//! Documents come out byte for byte as they went in.

use bson::oid::ObjectId;
use bson::raw::cstr;
use bson::spec::BinarySubtype;
use bson::{
    Binary, DateTime, Decimal128, JavaScriptCodeWithScope, RawBson, RawDocumentBuf, Regex, Timestamp, doc,
    rawdoc,
};
use engine_testutils::mongodb::{Flavour, Server};

use crate::copier::{Copy, list_indexes, list_options, read, url};

/// A document whose elements are written as given.
pub fn built(elements: &[(u8, &str, &[u8])]) -> RawDocumentBuf {
    let mut bytes = vec![0; 4];
    for (kind, name, value) in elements {
        bytes.push(*kind);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(value);
    }
    bytes.push(0);
    let len = i32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

fn int(value: i32) -> [u8; 4] {
    value.to_le_bytes()
}

/// One of each type, with the values that are easily lost.
fn types() -> Vec<RawDocumentBuf> {
    let binary = |subtype, bytes: &[u8]| RawBson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    let pointer = |id: ObjectId| {
        let bytes = [&[2, 0, 0, 0, b'd', 0][..], &id.bytes()].concat();
        built(&[(0x10, "_id", &int(90)), (0x0c, "v", &bytes)])
    };
    let values: Vec<RawBson> = vec![
        RawBson::Double(-0.0),
        RawBson::Double(f64::NAN),
        RawBson::Double(5e-324),
        RawBson::String("a\0b\u{1f600}".to_owned()),
        RawBson::Document(rawdoc! { "": { "": 1 }, "$inner": 1, "a.b": 2 }),
        RawBson::Array(bson::rawbson!([1, 1i64, 1.0, "1", [null]]).as_array().unwrap().to_owned()),
        binary(BinarySubtype::Generic, b""),
        binary(BinarySubtype::BinaryOld, b"old"),
        binary(BinarySubtype::Uuid, &[7; 16]),
        binary(BinarySubtype::Vector, &[0x03, 0, 1]),
        binary(BinarySubtype::UserDefined(0x91), b"own"),
        RawBson::Undefined,
        RawBson::ObjectId(ObjectId::from_bytes([9; 12])),
        RawBson::Boolean(false),
        RawBson::DateTime(DateTime::from_millis(-62_167_219_200_001)),
        RawBson::DateTime(DateTime::MAX),
        RawBson::Null,
        RawBson::RegularExpression(Regex { pattern: cstr!("a|/").into(), options: cstr!("ix").into() }),
        RawBson::JavaScriptCode("f()".to_owned()),
        RawBson::Symbol("s".to_owned()),
        RawBson::Int32(i32::MIN),
        RawBson::Timestamp(Timestamp { time: 1, increment: 0 }),
        RawBson::Int64(i64::MAX),
        RawBson::Decimal128("1.00".parse::<Decimal128>().unwrap()),
        RawBson::Decimal128("-0E-6176".parse::<Decimal128>().unwrap()),
        RawBson::MaxKey,
        RawBson::MinKey,
    ];
    let mut documents: Vec<RawDocumentBuf> = (0i32..)
        .zip(values)
        .map(|(n, value)| {
            let mut document = rawdoc! { "_id": n };
            document.append(cstr!("v"), value);
            document
        })
        .collect();
    let scoped = JavaScriptCodeWithScope { code: "g()".to_owned(), scope: doc! { "x": 1 } };
    documents.push(RawDocumentBuf::try_from(doc! { "_id": 89, "v": scoped }).unwrap());
    documents.push(pointer(ObjectId::from_bytes([1; 12])));
    documents
}

/// What servers accept and libraries stumble over.
fn oddities() -> Vec<RawDocumentBuf> {
    let empty = Timestamp { time: 0, increment: 0 };
    let around = rawdoc! { "_id": "largest", "v": "" }.as_bytes().len();
    let largest = rawdoc! { "_id": "largest", "v": "x".repeat((16 << 20) - around) };
    assert_eq!(largest.as_bytes().len(), 16 << 20);
    vec![
        built(&[(0x10, "_id", &int(1)), (0x10, "a", &int(1)), (0x10, "a", &int(2))]),
        built(&[(0x10, "_id", &int(3)), (0x10, "", &int(1)), (0x10, "", &int(2))]),
        rawdoc! { "_id": 4, "$set": { "a": 1 }, "$where": "1", "a.b": 1, "a": { "b": 2 } },
        rawdoc! { "_id": 5, "t": empty, "u": { "t": empty }, "v": [empty] },
        rawdoc! { "_id": 6, "t": empty, "$set": 1, "a.b": 2 },
        rawdoc! { "_id": empty, "a": 1 },
        rawdoc! { "_id": { "b": 1, "a": 2 } },
        rawdoc! { "_id": { "a": 2, "b": 1 } },
        rawdoc! { "_id": "" },
        rawdoc! { "_id": null },
        rawdoc! { "_id": DateTime::from_millis(-1) },
        rawdoc! { "_id": 2.5 },
        rawdoc! { "_id": RawBson::MinKey },
        rawdoc! { "_id": RawBson::MaxKey },
        rawdoc! { "_id": Binary { subtype: BinarySubtype::BinaryOld, bytes: b"id".to_vec() } },
        rawdoc! { "_id": "1.50".parse::<Decimal128>().unwrap(), "n": 7 },
        largest,
    ]
}

fn not_utf8() -> RawDocumentBuf {
    built(&[(0x10, "_id", &int(99)), (0x02, "a", &[3, 0, 0, 0, 0xff, 0xfe, 0])])
}

fn sorted(mut documents: Vec<RawDocumentBuf>) -> Vec<Vec<u8>> {
    documents.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    documents.into_iter().map(RawDocumentBuf::into_bytes).collect()
}

#[tokio::test]
async fn documents_are_restored_byte_for_byte() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("values"), server.fresh_database("restored"));
    let mut copy = Copy::empty();
    copy.add(&from, "types", "collection", &rawdoc! {}, &[], types());
    let mut odd = oddities();
    // SecantusDB takes no text that is not UTF-8.
    if server.flavour() == Flavour::Mongod {
        odd.push(not_utf8());
    }
    copy.add(&from, "odd", "collection", &rawdoc! {}, &[], odd);
    let notes = copy.restore(&url(server, Some(&to))).await;
    assert_eq!(notes, vec![]);
    for (place, documents) in copy.collections.iter().zip(&copy.documents) {
        let found = sorted(read(&client, &to, &place.1).await);
        let wanted = sorted(documents.clone());
        assert_eq!(found.len(), wanted.len(), "{}", place.1);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(
                found == wanted,
                "{:x?} is {:x?}",
                &wanted[..wanted.len().min(200)],
                &found[..found.len().min(200)]
            );
        }
    }
}

#[tokio::test]
async fn names_that_tools_stumble_over_are_restored() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("names"), server.fresh_database("restored"));
    let long = "l".repeat(255 - to.len() - 1);
    let names = ["line\nbreak", "per%cent", "slash/name", "Case", "case", "a.b.c", " lead", "ünïcode", &long];
    let mut copy = Copy::empty();
    for name in names {
        copy.add(&from, name, "collection", &rawdoc! {}, &[], vec![rawdoc! { "_id": name }]);
    }
    copy.restore(&url(server, Some(&to))).await;
    for name in names {
        assert_eq!(read(&client, &to, name).await, [rawdoc! { "_id": name }], "{name:?}");
    }
}

#[tokio::test]
async fn many_documents_come_in_batches_and_in_order() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("many"), server.fresh_database("restored"));
    let empty = Timestamp { time: 0, increment: 0 };
    // More than two batches by bytes and by number, and both ways of sending in turn.
    let log: Vec<_> = (0..45_000i32)
        .map(|n| {
            if n % 1_000 == 7 {
                rawdoc! { "_id": -n, "t": empty }
            } else {
                rawdoc! { "_id": -n, "n": n }
            }
        })
        .collect();
    let large: Vec<_> = (0..24i32).map(|n| rawdoc! { "_id": n, "v": "y".repeat(700_000) }).collect();
    let mut copy = Copy::empty();
    let capped = rawdoc! { "capped": true, "size": 1 << 26 };
    copy.add(&from, "log", "collection", &capped, &[], log.clone());
    copy.add(&from, "large", "collection", &rawdoc! {}, &[], large.clone());
    copy.restore(&url(server, Some(&to))).await;
    assert!(read(&client, &to, "log").await == log);
    assert!(sorted(read(&client, &to, "large").await) == sorted(large));
    let listed = list_options(&client, &to).await;
    assert!(listed[1].2.get_bool("capped").unwrap());
    assert_eq!(list_indexes(&client, &to, "log").await.len(), 1);
}
