//! Documents as Extended JSON, and patches between them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod apply;
mod cases;
mod ids;
mod nodes;
mod speed;

use engine::document::{
    Differences, Operation, differences, extended_json, extended_json_pretty, from_extended_json,
};
use nodes::{Draws, Node, document, documents, edit, irregular_leaves, marked_leaves, plain_leaves};
use proptest::collection::vec;
use proptest::prelude::*;

/// The differences, after making sure that their patch gives `new`: as JSON, and byte for byte as BSON.
pub fn patched(old: &[u8], new: &[u8]) -> Differences {
    let found = differences(old, new);
    let patch = apply::parse(&serde_json::to_string(&found.patch).unwrap());
    let (before, after) = (extended_json(old), extended_json(new));
    let result = apply::apply(apply::parse(&before), &patch).to_string();
    assert_eq!(apply::parse(&result), apply::parse(&after), "{patch} of {before}");
    assert_eq!(from_extended_json(&result).as_deref(), Some(new), "{patch} of {before} to {after}");
    assert_eq!(found.patch.is_empty(), old == new);
    found
}

fn all_leaves() -> Vec<Node> {
    [plain_leaves(), marked_leaves(), irregular_leaves()].concat()
}

fn regular_leaves() -> Vec<Node> {
    [plain_leaves(), marked_leaves()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn extended_json_reads_back_byte_for_byte(fields in documents(all_leaves())) {
        let bytes = document(&fields);
        let text = extended_json(&bytes);
        prop_assert_eq!(from_extended_json(&text), Some(bytes.clone()), "{}", text);
        let pretty = extended_json_pretty(&bytes);
        prop_assert_eq!(from_extended_json(&pretty), Some(bytes), "{}", pretty);
        prop_assert_eq!(apply::parse(&pretty), apply::parse(&text));
    }

    /// The `bson` crate reads Extended JSON with code of its own.
    #[test]
    fn another_reader_understands_the_form(fields in documents(plain_leaves())) {
        let bytes = document(&fields);
        let text = extended_json(&bytes);
        let read: bson::Document = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.to_vec().unwrap(), bytes, "{}", text);
    }

    #[test]
    fn patches_of_edited_documents_are_exact(
        mut fields in documents(regular_leaves()), edits in 1usize..6, numbers in vec(any::<u32>(), 60),
    ) {
        let old = document(&fields);
        let mut draws = Draws::new(&numbers);
        for _ in 0..edits {
            edit(&mut fields, &regular_leaves(), &mut draws);
        }
        let new = document(&fields);
        patched(&old, &new);
        patched(&new, &old);
    }

    #[test]
    fn patches_of_unrelated_documents_are_exact(
        old in documents(regular_leaves()), new in documents(regular_leaves()),
    ) {
        patched(&document(&old), &document(&new));
    }

    #[test]
    fn patches_of_irregular_documents_are_exact(
        mut fields in documents(all_leaves()), edits in 1usize..6, numbers in vec(any::<u32>(), 60),
    ) {
        let old = document(&fields);
        let mut draws = Draws::new(&numbers);
        for _ in 0..edits {
            edit(&mut fields, &all_leaves(), &mut draws);
        }
        patched(&old, &document(&fields));
    }

    /// Long arrays of few values, where many alignments are possible.
    #[test]
    fn patches_of_arrays_are_exact(old in vec(0i32..4, 0..40), new in vec(0i32..4, 0..40)) {
        let items = |values: &[i32]| Node::Array(values.iter().copied().map(nodes::int).collect());
        let array = |values: &[i32]| nodes::doc(&[("a", items(values))]);
        patched(&array(&old), &array(&new));
    }

    #[test]
    fn any_bytes_are_shown_and_compared(old in vec(any::<u8>(), 0..80), new in vec(any::<u8>(), 0..80)) {
        for bytes in [&old, &new] {
            prop_assert_eq!(from_extended_json(&extended_json(bytes)), Some(bytes.clone()));
            let _ = (extended_json_pretty(bytes), engine::document::readable_id(bytes));
        }
        patched(&old, &new);
        let whole = |bytes: &[u8]| [&(bytes.len() as i32 + 5).to_le_bytes()[..], bytes, &[0]].concat();
        patched(&whole(&old), &whole(&new));
    }

    /// What is only the order of names is said to be that, and nothing else is.
    #[test]
    fn order_only_is_told_from_change(fields in documents(regular_leaves()), numbers in vec(any::<u32>(), 12)) {
        let old = document(&fields);
        let mut shuffled = fields.clone();
        shuffle(&mut shuffled, &mut numbers.iter());
        let new = document(&shuffled);
        prop_assert_eq!(patched(&old, &new).order_only, old != new);
        shuffled.push((b"more".to_vec(), nodes::int(1)));
        prop_assert!(!patched(&old, &document(&shuffled)).order_only);
    }
}

/// Reorders fields at every depth.
fn shuffle(fields: &mut [(Vec<u8>, Node)], numbers: &mut std::slice::Iter<'_, u32>) {
    for at in 1..fields.len() {
        let other = numbers.next().map_or(0, |number| *number as usize % (at + 1));
        fields.swap(at, other);
    }
    for (_, node) in fields {
        if let Node::Object(fields) = node {
            shuffle(fields, numbers);
        }
    }
}

/// The operations as text, one each.
pub fn shown(patch: &[Operation]) -> Vec<String> {
    patch.iter().map(|operation| serde_json::to_string(operation).unwrap()).collect()
}
