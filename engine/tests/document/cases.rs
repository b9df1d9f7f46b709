//! The cases JD-01 to JD-07, and what follows from them.

use engine::document::{differences, extended_json, extended_json_pretty, from_extended_json};

use crate::nodes::*;
use crate::{patched, shown};

/// JD-01: an int and a long of the same value look different, and are a change.
#[test]
fn types_are_shown_and_compared() {
    let (old, new) = (doc(&[("n", int(2))]), doc(&[("n", long(2))]));
    assert_eq!(extended_json(&new), r#"{"n":{"$numberLong":"2"}}"#);
    let found = patched(&old, &new);
    assert_eq!(shown(&found.patch), [r#"{"op":"replace","path":"/n","value":{"$numberLong":"2"}}"#]);
    assert_eq!((found.order_only, found.fields), (false, vec!["n".to_owned()]));
    for other in [double(2.0), decimal(0x3040_0000_0000_0000, 2)] {
        assert_eq!(patched(&old, &doc(&[("n", other)])).patch.len(), 1);
    }
    // 1.0 and 1.00 are one key and two values.
    let one = |high, low| doc(&[("n", decimal(high, low))]);
    let found = patched(&one(0x303e_0000_0000_0000, 10), &one(0x303c_0000_0000_0000, 100));
    assert_eq!(shown(&found.patch), [r#"{"op":"replace","path":"/n","value":{"$numberDecimal":"1.00"}}"#]);
}

/// JD-02: another order of fields is reported as that, with a patch that puts them right.
#[test]
fn another_order_of_fields_is_told_from_a_change() {
    let long_text = || text(&"x".repeat(500));
    let old = doc(&[("a", long_text()), ("b", int(1)), ("c", long_text())]);
    let new = doc(&[("a", long_text()), ("c", long_text()), ("b", int(1))]);
    let found = patched(&old, &new);
    assert!(found.order_only && found.fields.is_empty());
    assert_eq!(
        shown(&found.patch),
        [r#"{"op":"remove","path":"/b"}"#, r#"{"op":"add","path":"/b","value":{"$numberInt":"1"}}"#]
    );
    // Where most would move, the object is replaced.
    let of = |names: &[&str]| {
        let fields: Vec<_> = names.iter().map(|name| (*name, long_text())).collect();
        doc(&[("o", object(&fields))])
    };
    let (old, new) = (of(&["a", "b", "c"]), of(&["c", "b", "a"]));
    let found = patched(&old, &new);
    assert!(found.order_only);
    assert_eq!(found.fields, ["o"]);
    assert!(shown(&found.patch)[0].starts_with(r#"{"op":"replace","path":"/o","#) && found.patch.len() == 1);
    // An order that is not only an order.
    let (old, new) = (doc(&[("a", int(1)), ("b", int(2))]), doc(&[("b", int(2)), ("a", int(3))]));
    let found = patched(&old, &new);
    assert_eq!((found.order_only, found.fields), (false, vec!["a".to_owned()]));
    // Elements of an array have an order that counts.
    let array = |items: &[i32]| doc(&[("a", Node::Array(items.iter().copied().map(int).collect()))]);
    assert!(!patched(&array(&[1, 2]), &array(&[2, 1])).order_only);
}

/// JD-03: names keep their order, names that come twice stay, and no digit is lost.
#[test]
fn nothing_is_sorted_dropped_or_rounded() {
    let bytes = doc(&[
        ("z", int(1)),
        ("a", decimal(0x303e_0000_0000_0000 | 0x0000_0000_0000_3f3c, 0x1234_5678_9abc_def1)),
        ("z", long(123_456_789_012_345_678)),
    ]);
    let text = extended_json(&bytes);
    assert!(text.starts_with(r#"{"z":{"$numberInt":"1"},"a":{"$numberDecimal":""#), "{text}");
    assert!(text.ends_with(r#""z":{"$numberLong":"123456789012345678"}}"#), "{text}");
    assert_eq!(from_extended_json(&text), Some(bytes));
    let given = r#"{"n":{"$numberDecimal":"123456789012345678901234567890.5"}}"#;
    assert_eq!(extended_json(&from_extended_json(given).unwrap()), given);
}

/// JD-04: an element in front is one operation, and an element with an id is changed inside.
#[test]
fn arrays_are_aligned() {
    let array = |items: &[Node]| doc(&[("a", Node::Array(items.to_vec()))]);
    let (a, b, c) = (text("a"), text("b"), text("c"));
    let abc = array(&[a.clone(), b.clone(), c.clone()]);
    let cases = [
        (
            array(&[text("new"), a.clone(), b.clone(), c.clone()]),
            r#"{"op":"add","path":"/a/0","value":"new"}"#,
        ),
        (
            array(&[a.clone(), b.clone(), c.clone(), text("new")]),
            r#"{"op":"add","path":"/a/3","value":"new"}"#,
        ),
        (array(&[a.clone(), text("new"), c.clone()]), r#"{"op":"replace","path":"/a/1","value":"new"}"#),
        (array(&[b.clone(), c.clone()]), r#"{"op":"remove","path":"/a/0"}"#),
    ];
    for (new, expected) in cases {
        assert_eq!(shown(&patched(&abc, &new).patch), [expected]);
    }
    for id in ["_id", "id"] {
        let item = |number: i32, name: &str| {
            object(&[(id, int(number)), ("name", text(name)), ("more", text("same"))])
        };
        let old = array(&[item(1, "a"), item(2, "b"), item(3, "c")]);
        let new = array(&[item(2, "B"), item(3, "c"), item(4, "d")]);
        let patch = shown(&patched(&old, &new).patch);
        assert_eq!(
            patch[..2],
            [r#"{"op":"remove","path":"/a/0"}"#, r#"{"op":"replace","path":"/a/0/name","value":"B"}"#]
        );
        assert!(
            patch[2].starts_with(r#"{"op":"add","path":"/a/2","value":{"#) && patch.len() == 3,
            "{patch:?}"
        );
    }
    // Without an id, objects in the same place are changed inside if they share much.
    let item = |name: &str| object(&[("name", text(name)), ("more", text(&"same".repeat(20)))]);
    let (old, new) = (array(&[item("a"), a.clone()]), array(&[item("b"), a]));
    assert_eq!(shown(&patched(&old, &new).patch), [r#"{"op":"replace","path":"/a/0/name","value":"b"}"#]);
}

/// JD-05.
#[test]
fn pointers_are_escaped() {
    let names = [
        ("", "/"),
        ("a.b", "/a.b"),
        ("a/b", "/a~1b"),
        ("~", "/~0"),
        ("~1", "/~01"),
        ("/", "/~1"),
        ("é\"", "/é\\\""),
    ];
    for (name, pointer) in names {
        let at = |value| doc(&[("first", text("x")), (name, value)]);
        let expected = format!(r#"{{"op":"replace","path":"{pointer}","value":{{"$numberInt":"2"}}}}"#);
        assert_eq!(shown(&patched(&at(int(1)), &at(int(2))).patch), [expected]);
        let found = patched(&at(object(&[(name, int(1))])), &at(object(&[])));
        assert_eq!(shown(&found.patch), [format!(r#"{{"op":"remove","path":"{pointer}{pointer}"}}"#)]);
    }
}

/// JD-06.
#[test]
fn values_at_the_edges_are_exact() {
    let cases = [
        (double(f64::NAN), r#"{"$numberDouble":"NaN"}"#),
        (double(f64::INFINITY), r#"{"$numberDouble":"Infinity"}"#),
        (double(f64::NEG_INFINITY), r#"{"$numberDouble":"-Infinity"}"#),
        (double(-0.0), r#"{"$numberDouble":"-0.0"}"#),
        (double(5e-324), r#"{"$numberDouble":"5e-324"}"#),
        (
            double(f64::from_bits(0xfff8_0000_0000_0000)),
            r#"{"$numberDouble":"NaN","$bits":"fff8000000000000"}"#,
        ),
        (long((1 << 53) + 1), r#"{"$numberLong":"9007199254740993"}"#),
        (date(0), r#"{"$date":{"$numberLong":"0"}}"#),
        (date(951_782_400_123), r#"{"$date":{"$numberLong":"951782400123"}}"#),
        (date(253_402_300_799_999), r#"{"$date":{"$numberLong":"253402300799999"}}"#),
        (date(253_402_300_800_000), r#"{"$date":{"$numberLong":"253402300800000"}}"#),
        (date(-1), r#"{"$date":{"$numberLong":"-1"}}"#),
        (date(-62_198_755_200_000), r#"{"$date":{"$numberLong":"-62198755200000"}}"#),
        (decimal(0x7c00_0000_0000_0000, 0), r#"{"$numberDecimal":"NaN"}"#),
        (decimal(0xb046_0000_0000_0000, 0), r#"{"$numberDecimal":"-0E+3"}"#),
        (binary(2, &[2, 0, 0, 0, 0xff, 0xff]), r#"{"$binary":{"base64":"//8=","subType":"02"}}"#),
        (Node::Leaf(0x11, vec![1, 0, 0, 0, 2, 0, 0, 0xff]), r#"{"$timestamp":{"t":4278190082,"i":1}}"#),
        (
            Node::Leaf(0x0c, [string(b"d.c"), vec![0xab; 12]].concat()),
            r#"{"$dbPointer":{"$ref":"d.c","$id":{"$oid":"abababababababababababab"}}}"#,
        ),
        (scoped(b"f()", &doc(&[("x", int(1))])), r#"{"$code":"f()","$scope":{"x":{"$numberInt":"1"}}}"#),
        (
            Node::Leaf(0x0b, b"a\"b\0ix\0".to_vec()),
            r#"{"$regularExpression":{"pattern":"a\"b","options":"ix"}}"#,
        ),
        (Node::Leaf(0x0e, string(b"s")), r#"{"$symbol":"s"}"#),
        (Node::Leaf(0x06, vec![]), r#"{"$undefined":true}"#),
        (Node::Leaf(0xff, vec![]), r#"{"$minKey":1}"#),
        (Node::Leaf(0x7f, vec![]), r#"{"$maxKey":1}"#),
    ];
    for (node, expected) in cases {
        let bytes = doc(&[("v", node)]);
        let text = extended_json(&bytes);
        assert_eq!(text, format!(r#"{{"v":{expected}}}"#));
        assert_eq!(from_extended_json(&text), Some(bytes.clone()), "{text}");
        patched(&doc(&[("v", int(1))]), &bytes);
    }
}

/// JD-07: what JSON cannot tell apart is replaced whole.
#[test]
fn what_cannot_be_patched_is_replaced() {
    let twice = doc(&[("a", int(1)), ("a", int(2))]);
    let once = doc(&[("a", int(1)), ("b", int(2))]);
    for (old, new) in [(&twice, &once), (&once, &twice)] {
        let found = patched(old, new);
        let value = extended_json(new);
        assert_eq!(shown(&found.patch), [format!(r#"{{"op":"replace","path":"","value":{value}}}"#)]);
    }
    assert_eq!(differences(&twice, &once).fields, ["a", "b"]);
    for node in irregular_leaves() {
        let found = patched(&doc(&[("a", int(1)), ("v", node.clone())]), &doc(&[("a", int(2)), ("v", node)]));
        assert_eq!(found.fields, ["a"]);
        assert!(
            matches!(&found.patch[..], [engine::document::Operation::Replace { path, .. }] if path.is_empty())
        );
    }
    // A document and a typed value whose plain forms would be the same.
    let found = patched(&doc(&[("a", int(1))]), &doc(&[("a", object(&[("$numberInt", text("1"))]))]));
    assert_eq!(
        shown(&found.patch),
        [r#"{"op":"replace","path":"/a","value":{"$document":{"$numberInt":"1"}}}"#]
    );
}

#[test]
fn text_that_is_not_utf8_is_marked() {
    let bytes = document(&[
        (b"name \xff\\".to_vec(), Node::Leaf(0x02, string(b"caf\xe9 \\x41"))),
        (b"regex".to_vec(), Node::Leaf(0x0b, b"\xff\0i\0".to_vec())),
    ]);
    assert_eq!(
        extended_json(&bytes),
        concat!(
            r#"{"$invalidUtf8:name \\xff\\\\":{"$invalidUtf8":"caf\\xe9 \\\\x41"},"#,
            r#""regex":{"$regularExpression":{"pattern":{"$invalidUtf8":"\\xff"},"options":"i"}}}"#
        )
    );
    assert_eq!(differences(&bytes, &doc(&[])).fields, ["$invalidUtf8:name \\xff\\\\", "regex"]);
}

#[test]
fn the_long_form_has_a_line_for_each_field() {
    let bytes = doc(&[("a", Node::Array(vec![int(1), object(&[])])), ("b", object(&[("c", text("x"))]))]);
    let expected = r#"{
  "a": [
    {"$numberInt":"1"},
    {}
  ],
  "b": {
    "c": "x"
  }
}"#;
    assert_eq!(extended_json_pretty(&bytes), expected);
    assert_eq!(extended_json_pretty(&doc(&[])), "{}");
}

#[test]
fn nesting_of_any_depth_is_shown_and_compared() {
    let nested = |depth: usize, inner: Node| {
        let mut node = inner;
        for _ in 0..depth {
            node = object(&[("a", node)]);
        }
        doc(&[("a", node)])
    };
    let found = differences(&nested(200, int(1)), &nested(200, int(2)));
    assert_eq!(
        shown(&found.patch),
        [format!(r#"{{"op":"replace","path":"{}","value":{{"$numberInt":"2"}}}}"#, "/a".repeat(201))]
    );
    let (old, new) = (nested(2000, int(1)), nested(2000, int(2)));
    assert!(extended_json(&old).contains("$bson") && extended_json_pretty(&old).contains("$bson"));
    assert_eq!(differences(&old, &new).patch.len(), 1);
    assert!(!differences(&old, &new).order_only);
}

#[test]
fn what_is_no_document_is_not_read() {
    let texts = [
        "",
        "1",
        "[]",
        "{",
        r#"{"a":{"$oid":"x"}}"#,
        r#"{"a":{"$numberInt":"2147483648"}}"#,
        r#"{"a\u0000":1}"#,
        r#"{"a":{"$numberDouble":"inf"}}"#,
        r#"{"a":{"$date":"yesterday"}}"#,
        r#"{"a":{"$oid":"00","b":1}}"#,
        r#"{"a":{"$regularExpression":{"pattern":"a\u0000","options":""}}}"#,
    ];
    for text in texts {
        assert_eq!(from_extended_json(text), None, "{text}");
    }
}
