//! Ids in lists and from the keyboard.

use engine::document::{id_from_text, readable_id};
use proptest::prelude::*;
use repo_format::keys::RowKey;
use repo_format::order::bson::{push_id, push_key};

use crate::nodes::*;

fn id(node: Node) -> Vec<u8> {
    doc(&[("a", int(1)), ("_id", node)])
}

#[test]
fn ids_are_shown_in_few_words() {
    let cases = [
        (Node::Leaf(0x07, vec![0xab; 12]), "abababababababababababab"),
        (text("a \"b\""), "a \"b\""),
        (Node::Leaf(0x02, string(b"caf\xe9")), r#"{"$invalidUtf8":"caf\\xe9"}"#),
        (text("caf\\xe9"), "caf\\xe9"),
        (int(-7), "-7"),
        (long(1 << 40), "1099511627776"),
        (double(42.0), "42"),
        (double(0.1), "0.1"),
        (double(f64::NAN), r#"{"$numberDouble":"NaN"}"#),
        (text("NaN"), "NaN"),
        (decimal(0x303e_0000_0000_0000, 15), "1.5"),
        (decimal(0x303e_0000_0000_0000, 1), r#"{"$numberDecimal":"0.1"}"#),
        (text("5"), r#""5""#),
        (text("0.1"), r#""0.1""#),
        (text("true"), r#""true""#),
        (text("abababababababababababab"), r#""abababababababababababab""#),
        (text(""), r#""""#),
        (text(" a"), r#"" a""#),
        (text("a  b"), r#""a \u0020b""#),
        (text("a b"), "a b"),
        (text("\"5\""), r#""\"5\"""#),
        (text("a\tb\u{7f}"), r#""a\tb\u007f""#),
        (text("\u{202e}exe"), r#""\u202eexe""#),
        (text("a\u{200b}b\u{a0}\u{e0041}"), r#""a\u200bb\u00a0\udb40\udc41""#),
        (text("ünï 🦀"), "ünï 🦀"),
        (binary(4, &[0x11; 16]), r#"{"$uuid":"11111111-1111-1111-1111-111111111111"}"#),
        (
            object(&[("b", int(1)), ("a", text("x")), ("f", double(0.5))]),
            r#"{"b":1,"a":"x","f":{"$numberDouble":"0.5"}}"#,
        ),
        (date(0), r#"{"$date":"1970-01-01T00:00:00Z"}"#),
        (Node::Leaf(0x0a, vec![]), "null"),
        (Node::Leaf(0x08, vec![1]), "true"),
    ];
    for (node, expected) in cases {
        assert_eq!(readable_id(&id(node)), expected);
    }
    assert_eq!(readable_id(&doc(&[("a", int(1))])), "no _id");
    assert_eq!(readable_id(b"broken"), "no _id");
    assert_eq!(readable_id(&doc(&[("_id", int(1)), ("_id", int(2))])), "1");
}

#[test]
fn what_is_typed_is_understood() {
    let cases = [
        ("abababababababababababab", Node::Leaf(0x07, vec![0xab; 12])),
        ("ObjectId(\"ABABABABABABABABABABABAB\")", Node::Leaf(0x07, vec![0xab; 12])),
        ("ObjectId('abababababababababababab')", Node::Leaf(0x07, vec![0xab; 12])),
        (r#"{"$oid":"abababababababababababab"}"#, Node::Leaf(0x07, vec![0xab; 12])),
        (
            "123456789012345678901234",
            Node::Leaf(0x07, vec![0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34]),
        ),
        ("-7", int(-7)),
        (" 7 ", int(7)),
        ("1099511627776", long(1 << 40)),
        ("9223372036854775808", decimal(0x3040_0000_0000_0000, 1 << 63)),
        ("1.5", double(1.5)),
        ("007", text("007")),
        ("1-2", text("1-2")),
        ("12ab", text("12ab")),
        ("12345678901234567890123456789012345", text("12345678901234567890123456789012345")),
        ("shop-1", text("shop-1")),
        ("two words", text("two words")),
        ("\"7\"", text("7")),
        ("{not json", text("{not json")),
        ("true", Node::Leaf(0x08, vec![1])),
        ("null", Node::Leaf(0x0a, vec![])),
        (r#"{"$numberLong":"7"}"#, long(7)),
        (r#"{"$date":"1970-01-01T00:00:00Z"}"#, date(0)),
        (r#"{"$date":{"$numberLong":"-1"}}"#, date(-1)),
        (r#"{"b": 1, "a": "x"}"#, object(&[("b", int(1)), ("a", text("x"))])),
        (r#"{"$uuid":"11111111-1111-1111-1111-111111111111"}"#, binary(4, &[0x11; 16])),
    ];
    for (typed, node) in cases {
        assert_eq!(id_from_text(typed), Some(node.bytes()), "{typed}");
    }
    for typed in ["", "  ", r#"{"$oid":"xyz"}"#, r#"{"$numberInt":"x"}"#] {
        assert_eq!(id_from_text(typed), None, "{typed}");
    }
}

fn key_of(node: &Node) -> Vec<u8> {
    let mut key = Vec::new();
    push_key(&mut key, &id(node.clone()), &RowKey::new([3; 32])).unwrap();
    key
}

fn key_typed(typed: &str) -> Vec<u8> {
    let (kind, value) = id_from_text(typed).unwrap_or_else(|| panic!("{typed} is nothing"));
    let mut key = Vec::new();
    push_id(&mut key, kind, &value).unwrap();
    key
}

/// What a list shows leads back to the record, so that no two keys look alike.
#[test]
fn what_is_shown_can_be_typed() {
    let broken = Node::Leaf(0x02, string(b"caf\xe9"));
    let more =
        ["5", "0.1", "null", "{}", "\"5\"", "\"5", " ", "\\", "… (5 bytes)", "\"a\"… (5 bytes)"].map(text);
    for node in plain_leaves().into_iter().chain(more).chain([broken]) {
        let shown = readable_id(&id(node.clone()));
        assert_eq!(key_typed(&shown), key_of(&node), "{shown}");
    }
}

/// A long id is told by its size. Of text the beginning leads to the first record that begins so.
#[test]
fn long_ids_are_shortened() {
    let long = "x".repeat(5_000);
    let shown = readable_id(&id(text(&long)));
    assert_eq!(shown, format!("{:?}… (5000 bytes)", &long[..100]));
    let begun = key_typed(&shown);
    assert!(begun == key_of(&text(&long[..100])) && begun < key_of(&text(&long)));
    // Neither escapes nor what looks like a number makes it longer or something else.
    for text in ["\u{1}".repeat(5_000), "1".repeat(5_000), "🦀".repeat(5_000), "\"".repeat(5_000)] {
        let shown = readable_id(&id(self::text(&text)));
        assert!(shown.len() < 450 && shown.ends_with("bytes)"), "{shown}");
        assert!(key_typed(&shown) <= key_of(&self::text(&text)), "{shown}");
    }
    let shown = readable_id(&id(object(&[("a", text(&long))])));
    assert!(shown.starts_with(r#"{"a":"xxx"#) && shown.ends_with("x… (5013 bytes)"), "{shown}");
    assert_eq!(id_from_text(&shown), None);
}

proptest! {
    #[test]
    fn any_text_reads_back(shown in "[-0-9a-f.\" {}\\\\\u{200b}-\u{202f}… a()]{0,40}", other in "\\PC{0,40}") {
        for node in [text(&shown), text(&other)] {
            assert_eq!(key_typed(&readable_id(&id(node.clone()))), key_of(&node));
        }
    }

    #[test]
    fn anything_typed_is_a_value_or_nothing(typed in "\\PC{0,30}", json in "[-{}\\[\\]\":,$a-e0-9. ]{0,20}") {
        for typed in [typed, json] {
            if let Some((kind, value)) = id_from_text(&typed) {
                push_id(&mut Vec::new(), kind, &value).unwrap();
            }
        }
    }
}
