//! Long documents: no input may take quadratic time. The limits are many times what a slow machine needs
//! without optimisation, and far below what comparing every element with every other would take.

use std::time::{Duration, Instant};

use engine::document::{Differences, differences, extended_json};

use crate::nodes::*;
use crate::shown;

const LIMIT: Duration = Duration::from_secs(30);

fn timed(old: &[u8], new: &[u8]) -> Differences {
    let start = Instant::now();
    let found = differences(old, new);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    found
}

fn array(items: Vec<Node>) -> Vec<u8> {
    doc(&[("a", Node::Array(items))])
}

/// Numbers that look random and are the same every time.
fn scattered(count: usize, below: u64) -> Vec<u64> {
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(below), next).take(count).map(|state| (state >> 33) % below).collect()
}

#[test]
fn a_document_of_16_mb_is_compared_and_shown() {
    let field = |at: usize| (format!("field {at}").into_bytes(), text(&"x".repeat(100)));
    let mut fields: Vec<_> = (0..135_000).map(field).collect();
    let old = document(&fields);
    assert!(old.len() > 15 << 20);
    fields[60_000].1 = int(1);
    fields.remove(5);
    let new = document(&fields);
    let found = timed(&old, &new);
    assert_eq!(found.patch.len(), 2);
    assert_eq!(found.fields.len(), 2);
    let start = Instant::now();
    assert!(extended_json(&new).len() > 14 << 20);
    assert!(start.elapsed() < LIMIT);
    // Nothing in common but the names, in the other order.
    fields.reverse();
    fields.iter_mut().for_each(|field| field.1 = int(0));
    assert_eq!(timed(&old, &document(&fields)).patch.len(), 1);
}

#[test]
fn arrays_of_100_000_elements_are_compared() {
    let count = 100_000;
    let ints = |values: Vec<u64>| array(values.into_iter().map(|value| int(value as i32)).collect());
    let ascending = ints((0..count as u64).collect());

    let mut shifted: Vec<u64> = (0..count as u64).collect();
    shifted.insert(0, 1 << 20);
    shifted.remove(50_000);
    assert_eq!(timed(&ascending, &ints(shifted)).patch.len(), 2);

    // No order in common, few values, nothing in common.
    assert_eq!(timed(&ascending, &ints((0..count as u64).rev().collect())).patch.len(), 1);
    let (some, others) = (scattered(2 * count, 2), scattered(2 * count, 3));
    assert_eq!(timed(&ints(some[..count].to_vec()), &ints(others[..count].to_vec())).patch.len(), 1);
    assert_eq!(
        timed(&ascending, &ints((0..count as u64).map(|value| value + 1_000_000).collect())).patch.len(),
        1
    );

    // Noise between elements that both have once: each gap is worth an exact search, all of them are not.
    let noise = |values: Vec<u64>| {
        let marked = |(at, value): (usize, u64)| if at % 2000 == 0 { 1_000_000 + at as u64 } else { value };
        ints(values.into_iter().enumerate().map(marked).collect())
    };
    let (some_noise, other_noise) = (scattered(count, 500), scattered(count, 499));
    timed(&noise(some_noise), &noise(other_noise));

    // Few values, and one more at the front: what is equal at the end is found without searching.
    let mut more = some[..count].to_vec();
    more.insert(0, 9);
    assert_eq!(timed(&ints(some[..count].to_vec()), &ints(more)).patch.len(), 1);
}

#[test]
fn one_change_among_100_000_objects_is_found_by_id() {
    let item = |id: usize, name: &str| {
        object(&[("_id", int(id as i32)), ("name", text(name)), ("tags", Node::Array(vec![]))])
    };
    let mut items: Vec<Node> = (0..100_000).map(|id| item(id, "a")).collect();
    let old = array(items.clone());
    items[70_000] = item(70_000, "b");
    items.insert(0, item(100_000, "new"));
    items.remove(30_000);
    let found = timed(&old, &array(items));
    let patch = shown(&found.patch);
    assert_eq!(patch.len(), 3);
    assert_eq!(patch[1], r#"{"op":"remove","path":"/a/30000"}"#);
    assert_eq!(patch[2], r#"{"op":"replace","path":"/a/70000/name","value":"b"}"#);
}
