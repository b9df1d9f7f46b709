//! Documents as trees that can say everything raw BSON can, ways to make and to edit them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Type byte and value bytes.
    Leaf(u8, Vec<u8>),
    Object(Vec<(Vec<u8>, Node)>),
    Array(Vec<Node>),
}

pub fn document(fields: &[(Vec<u8>, Node)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, node) in fields {
        let (kind, bytes) = node.bytes();
        body.push(kind);
        body.extend_from_slice(name);
        body.push(0);
        body.extend_from_slice(&bytes);
    }
    [&(body.len() as i32 + 5).to_le_bytes()[..], &body, &[0]].concat()
}

/// A document of fields with names in UTF-8.
pub fn doc(fields: &[(&str, Node)]) -> Vec<u8> {
    document(&named(fields))
}

pub fn object(fields: &[(&str, Node)]) -> Node {
    Node::Object(named(fields))
}

fn named(fields: &[(&str, Node)]) -> Vec<(Vec<u8>, Node)> {
    fields.iter().map(|(name, node)| (name.as_bytes().to_vec(), node.clone())).collect()
}

pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32 + 1).to_le_bytes()[..], bytes, &[0]].concat()
}

pub fn text(text: &str) -> Node {
    Node::Leaf(0x02, string(text.as_bytes()))
}

pub fn int(value: i32) -> Node {
    Node::Leaf(0x10, value.to_le_bytes().to_vec())
}

pub fn long(value: i64) -> Node {
    Node::Leaf(0x12, value.to_le_bytes().to_vec())
}

pub fn double(value: f64) -> Node {
    Node::Leaf(0x01, value.to_le_bytes().to_vec())
}

pub fn date(millis: i64) -> Node {
    Node::Leaf(0x09, millis.to_le_bytes().to_vec())
}

pub fn decimal(high: u64, low: u64) -> Node {
    Node::Leaf(0x13, (u128::from(high) << 64 | u128::from(low)).to_le_bytes().to_vec())
}

pub fn binary(subtype: u8, content: &[u8]) -> Node {
    Node::Leaf(0x05, [&(content.len() as i32).to_le_bytes()[..], &[subtype], content].concat())
}

pub fn scoped(code: &[u8], scope: &[u8]) -> Node {
    let rest = [&string(code)[..], scope].concat();
    Node::Leaf(0x0f, [&(rest.len() as i32 + 4).to_le_bytes()[..], &rest].concat())
}

impl Node {
    pub fn bytes(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Leaf(kind, bytes) => (*kind, bytes.clone()),
            Self::Object(fields) => (0x03, document(fields)),
            Self::Array(items) => {
                let named = |(at, item): (usize, &Self)| (at.to_string().into_bytes(), item.clone());
                (0x04, document(&items.iter().enumerate().map(named).collect::<Vec<_>>()))
            }
        }
    }
}

/// Values that Extended JSON has a form for.
pub fn plain_leaves() -> Vec<Node> {
    let pointer = [string(b"db.c"), vec![0xab; 12]].concat();
    vec![
        int(0),
        int(1),
        int(-7),
        long(1),
        long((1 << 53) + 1),
        double(1.0),
        double(-0.0),
        double(0.1),
        double(1e300),
        double(5e-324),
        double(f64::NAN),
        double(f64::NEG_INFINITY),
        decimal(0x3040_0000_0000_0000, 1),
        decimal(0x303e_0000_0000_0000, 10),
        decimal(0xb046_0000_0000_0000, 0),
        decimal(0x5ffe_0000_0000_0000, 12345),
        decimal(0x7c00_0000_0000_0000, 0),
        decimal(0xf800_0000_0000_0000, 0),
        text(""),
        text("a"),
        text("a\0\"\\\u{1}\n\u{7f}é\u{1F980}"),
        Node::Leaf(0x0e, string(b"symbol")),
        Node::Leaf(0x0d, string(b"f()")),
        scoped(b"f(x)", &doc(&[("x", int(1))])),
        Node::Leaf(0x07, vec![0xab; 12]),
        Node::Leaf(0x08, vec![0]),
        Node::Leaf(0x08, vec![1]),
        Node::Leaf(0x0a, vec![]),
        date(0),
        date(1),
        date(-1),
        date(253_402_300_799_999),
        date(253_402_300_800_000),
        date(i64::MIN),
        Node::Leaf(0x11, vec![1, 0, 0, 0, 2, 0, 0, 0xff]),
        Node::Leaf(0x0b, b"^a/\"\0imx\0".to_vec()),
        Node::Leaf(0x0c, pointer),
        Node::Leaf(0x06, vec![]),
        Node::Leaf(0xff, vec![]),
        Node::Leaf(0x7f, vec![]),
        binary(0, b""),
        binary(4, &[7; 16]),
        binary(2, &[2, 0, 0, 0, 1, 2]),
        binary(0x80, &[0, 255, 1]),
    ]
}

/// Values that need a mark of their own, but are UTF-8.
pub fn marked_leaves() -> Vec<Node> {
    let typed = doc(&[("$oid", text("a"))]);
    vec![
        double(f64::from_bits(0xfff8_0000_0000_0000)),
        double(f64::from_bits(0x7ff0_0000_0000_0001)),
        decimal(0xfc00_0000_0000_0000, 0),
        decimal(0x7800_0000_0000_0000, 9),
        decimal(0x6c10_0000_0000_0000, 1),
        Node::Leaf(0x08, vec![2]),
        binary(2, &[9, 0, 0, 0, 1, 2]),
        binary(2, &[1]),
        Node::Leaf(0x04, doc(&[("a", int(1)), ("0", int(2))])),
        Node::Leaf(0x04, doc(&[("$numberInt", text("1"))])),
        object(&[("$numberInt", text("1"))]),
        object(&[("a", int(1)), ("$date", text("x"))]),
        object(&[("$document", object(&[("$oid", text("a"))]))]),
        object(&[("$bson", int(1))]),
        object(&[("$invalidUtf8:a", int(1))]),
        object(&[("$scope", int(1)), ("$ref", text("c"))]),
        scoped(b"f()", &typed),
    ]
}

/// Values that a JSON Pointer cannot go through, or that are not UTF-8.
pub fn irregular_leaves() -> Vec<Node> {
    let twice = object(&[("a", int(1)), ("a", int(2))]);
    vec![
        Node::Leaf(0x02, string(b"caf\xe9 \\x41")),
        Node::Leaf(0x0e, string(b"\xff")),
        Node::Leaf(0x0d, string(b"\xff\\")),
        scoped(b"\xff", &doc(&[("a", Node::Leaf(0x02, string(b"\xfe")))])),
        Node::Leaf(0x0b, b"\xff\0\xfe\0".to_vec()),
        Node::Leaf(0x0c, [string(b"\xff"), vec![1; 12]].concat()),
        Node::Object(vec![(b"\xff\\".to_vec(), int(1))]),
        twice.clone(),
        scoped(b"", &document(&[(b"x".to_vec(), int(1)), (b"x".to_vec(), int(2))])),
        // Broken inside: an element of a type that does not exist.
        Node::Leaf(0x03, vec![8, 0, 0, 0, 0x14, b'a', 0, 0]),
        Node::Array(vec![twice, int(1)]),
    ]
}

fn nodes(leaves: Vec<Node>) -> impl Strategy<Value = Node> {
    select(leaves).prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            fields(inner.clone()).prop_map(Node::Object),
            vec(inner.clone(), 0..6).prop_map(Node::Array),
            // Elements that are known by an id.
            vec((0i32..5, inner), 0..5).prop_map(|items| {
                let with_id = |(id, value): (i32, Node)| object(&[("_id", int(id)), ("v", value)]);
                Node::Array(items.into_iter().map(with_id).collect())
            }),
        ]
    })
}

/// Fields with names of one object, each once.
fn fields(inner: impl Strategy<Value = Node>) -> impl Strategy<Value = Vec<(Vec<u8>, Node)>> {
    let name = select(vec!["", "a", "b", "c", "id", "a.b", "~", "/", "a/b~0", "$a", "é", "0", "-"]);
    vec((name, inner), 0..6).prop_map(|fields| {
        let mut out: Vec<(Vec<u8>, Node)> = Vec::new();
        for (name, node) in fields {
            if out.iter().all(|(other, _)| other != name.as_bytes()) {
                out.push((name.as_bytes().to_vec(), node));
            }
        }
        out
    })
}

/// Top-level fields of documents whose values are made of `leaves`.
pub fn documents(leaves: Vec<Node>) -> impl Strategy<Value = Vec<(Vec<u8>, Node)>> {
    fields(nodes(leaves))
}

/// Draws of numbers that decide what an edit does.
pub struct Draws<'a> {
    numbers: std::slice::Iter<'a, u32>,
}

impl<'a> Draws<'a> {
    pub fn new(numbers: &'a [u32]) -> Self {
        Self { numbers: numbers.iter() }
    }

    /// One of 0 to `below` - 1; 0 once all are used up.
    fn below(&mut self, below: usize) -> usize {
        self.numbers.next().map_or(0, |number| *number as usize % below.max(1))
    }
}

/// Changes one thing somewhere in the fields.
pub fn edit(fields: &mut Vec<(Vec<u8>, Node)>, leaves: &[Node], draws: &mut Draws<'_>) {
    let at = draws.below(fields.len());
    match draws.below(7) {
        0 => {
            let name = [&b"n"[..], &[b'0' + draws.below(10) as u8]].concat();
            if fields.iter().all(|(other, _)| *other != name) {
                let place = draws.below(fields.len() + 1);
                fields.insert(place, (name, leaves[draws.below(leaves.len())].clone()));
            }
        }
        1 if !fields.is_empty() => drop(fields.remove(at)),
        2 if !fields.is_empty() => {
            let field = fields.remove(at);
            fields.insert(draws.below(fields.len() + 1), field);
        }
        _ if !fields.is_empty() => edit_node(&mut fields[at].1, leaves, draws),
        _ => (),
    }
}

fn edit_node(node: &mut Node, leaves: &[Node], draws: &mut Draws<'_>) {
    match node {
        Node::Object(fields) => edit(fields, leaves, draws),
        Node::Array(items) => {
            let at = draws.below(items.len());
            match draws.below(4) {
                0 => items.insert(draws.below(items.len() + 1), leaves[draws.below(leaves.len())].clone()),
                1 if !items.is_empty() => drop(items.remove(at)),
                2 if !items.is_empty() => {
                    let item = items.remove(at);
                    items.insert(draws.below(items.len() + 1), item);
                }
                _ if !items.is_empty() => edit_node(&mut items[at], leaves, draws),
                _ => (),
            }
        }
        Node::Leaf(..) => *node = leaves[draws.below(leaves.len())].clone(),
    }
}
