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
        (Node::Leaf(0x02, string(b"caf\xe9")), "caf\\xe9"),
        (int(-7), "-7"),
        (long(1 << 40), "1099511627776"),
        (double(42.0), "42"),
        (double(0.1), "0.1"),
        (double(f64::NAN), "NaN"),
        (decimal(0x303e_0000_0000_0000, 15), "1.5"),
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

/// What a list shows leads back to the record, wherever the words are unambiguous.
#[test]
fn what_is_shown_can_be_typed() {
    for node in plain_leaves() {
        let shown = readable_id(&id(node.clone()));
        let typed = id_from_text(&shown);
        let same_key = typed.is_some_and(|(kind, value)| {
            let (mut key, mut typed) = (Vec::new(), Vec::new());
            push_key(&mut key, &id(node.clone()), &RowKey::new([3; 32])).unwrap();
            push_id(&mut typed, kind, &value).unwrap();
            key == typed
        });
        // Text that is empty or has blanks at its ends, decimals with a fraction, and what is no number read
        // otherwise.
        let ambiguous = match &node {
            Node::Leaf(0x02, _) => shown.is_empty(),
            Node::Leaf(0x13 | 0x01, _) => shown.parse::<i64>().is_err(),
            _ => false,
        };
        assert!(same_key || ambiguous, "{shown}");
    }
}

proptest! {
    #[test]
    fn anything_typed_is_a_value_or_nothing(typed in "\\PC{0,30}", json in "[-{}\\[\\]\":,$a-e0-9. ]{0,20}") {
        for typed in [typed, json] {
            if let Some((kind, value)) = id_from_text(&typed) {
                push_id(&mut Vec::new(), kind, &value).unwrap();
            }
        }
    }
}
