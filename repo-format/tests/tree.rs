//! What makes the trees trustworthy, checked against plain maps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use repo_format::record::{Field, Writer};
use repo_format::tree::{Change, Counts, Diff, Root, edit, get};
use support::{Map, Memory, build, keys, read_all};

fn value(len: usize, seed: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.push(Field::Inline(&vec![seed; len]));
    writer.finish();
    out
}

/// Keys from a small space, so that edits and second trees hit existing ones; values from empty to
/// several times the smallest leaf, so that leaves of one record and cut maxima occur.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0u16..3000).prop_map(|n| n.to_be_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..6),
        1 => (0u16..40).prop_map(|n| [vec![b'k'; 300], n.to_be_bytes().to_vec()].concat()),
    ]
}

fn small_value() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![6 => 0usize..300, 2 => 300usize..3000, 1 => Just(8000usize)];
    (len, any::<u8>()).prop_map(|(len, seed)| value(len, seed))
}

fn map(max: usize) -> impl Strategy<Value = Map> {
    btree_map(key(), small_value(), 0..max)
}

/// A map of many short records, deep enough for several levels of inner nodes.
fn wide_map(records: u32, seed: u8) -> Map {
    (0..records).map(|n| ((n * 7).to_be_bytes().to_vec(), value(900 + n as usize % 61, seed))).collect()
}

fn naive_diff(old: &Map, new: &Map, start: Option<&[u8]>) -> Vec<Change> {
    let mut all: Vec<_> = old.keys().chain(new.keys()).collect();
    all.sort();
    all.dedup();
    all.into_iter()
        .filter(|key| start.is_none_or(|start| key.as_slice() >= start))
        .filter_map(|key| match (old.get(key).cloned(), new.get(key).cloned()) {
            (None, Some(new)) => Some(Change::Added { key: key.clone(), new }),
            (Some(old), None) => Some(Change::Removed { key: key.clone(), old }),
            (Some(old), Some(new)) if old != new => Some(Change::Changed { key: key.clone(), old, new }),
            _ => None,
        })
        .collect()
}

fn diff(old: &Root, new: &Root, start: Option<&[u8]>, memory: &mut Memory) -> Vec<Change> {
    let mut diff = Diff::new(old, new, start);
    std::iter::from_fn(|| diff.next(memory).unwrap()).collect()
}

fn apply(map: &Map, changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Map {
    let mut out = map.clone();
    for (key, value) in changes {
        match value {
            Some(value) => out.insert(key.clone(), value.clone()),
            None => out.remove(key),
        };
    }
    out
}

fn changes(max: usize) -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    btree_map(key(), proptest::option::weighted(0.6, small_value()), 0..max)
        .prop_map(|changes| changes.into_iter().collect())
}

fn check_edit(old: &Map, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Root {
    let mut memory = Memory::default();
    let before = build(old, &mut memory);
    let expected = build(&apply(old, &changes), &mut Memory::default());
    let edited = edit(&keys(), &before, changes, &mut memory).unwrap();
    assert_eq!(edited, expected);
    edited
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn reading_is_the_inverse_of_building(map in map(400), start in key(), probe in key()) {
        let mut memory = Memory::default();
        let root = build(&map, &mut memory);
        prop_assert_eq!(root.records, map.len() as u64);
        prop_assert!(read_all(&root, None, &mut memory).into_iter().eq(map.clone()));
        prop_assert!(read_all(&root, Some(&start), &mut memory).into_iter().eq(map.range(start..).map(|(k, v)| (k.clone(), v.clone()))));
        prop_assert_eq!(get(&root, &probe, &mut memory).unwrap(), map.get(&probe).cloned());
    }

    #[test]
    fn an_edit_equals_a_rebuild(map in map(400), changes in changes(60)) {
        check_edit(&map, changes);
    }

    #[test]
    fn history_leaves_no_trace(map in map(300), splits in vec(changes(40), 0..5)) {
        // Edits in any number of steps give what building their outcome in one go gives.
        let mut memory = Memory::default();
        let mut root = build(&map, &mut memory);
        let mut expected = map;
        for step in splits {
            expected = apply(&expected, &step);
            root = edit(&keys(), &root, step, &mut memory).unwrap();
        }
        prop_assert_eq!(root, build(&expected, &mut Memory::default()));
    }

    #[test]
    fn a_diff_is_what_comparing_maps_gives(old in map(400), changes in changes(80), other in map(60), start in proptest::option::of(key())) {
        for new in [apply(&old, &changes), other] {
            let mut memory = Memory::default();
            let (old_root, new_root) = (build(&old, &mut memory), build(&new, &mut memory));
            let expected = naive_diff(&old, &new, start.as_deref());
            let counts = Diff::new(&old_root, &new_root, start.as_deref()).count(&mut memory).unwrap();
            let of = |test: fn(&Change) -> bool| expected.iter().filter(|change| test(change)).count() as u64;
            prop_assert_eq!(counts, Counts {
                added: of(|change| matches!(change, Change::Added { .. })),
                removed: of(|change| matches!(change, Change::Removed { .. })),
                changed: of(|change| matches!(change, Change::Changed { .. })),
            });
            prop_assert_eq!(diff(&old_root, &new_root, start.as_deref(), &mut memory), expected);
        }
    }
}

#[test]
fn the_empty_tree_is_one_empty_leaf() {
    let mut memory = Memory::default();
    let root = build(&Map::new(), &mut memory);
    assert_eq!((root.level, root.records, memory.objects.len()), (0, 0, 1));
    assert!(read_all(&root, None, &mut memory).is_empty());
    let filled = check_edit(&Map::new(), vec![(b"a".to_vec(), Some(value(1, 1)))]);
    assert_eq!(filled.records, 1);
    check_edit(&Map::from([(b"a".to_vec(), value(1, 1))]), vec![(b"a".to_vec(), None)]);
}

#[test]
fn deep_trees_survive_losing_either_end() {
    let map = wide_map(9000, 1);
    let root = build(&map, &mut Memory::default());
    assert!(root.level >= 2, "several levels, not {}", root.level);
    let all: Vec<_> = map.keys().cloned().collect();
    for kept in [0..1, 0..200, 8999..9000, 8800..9000, 4000..4100, 0..9000] {
        let removed = all.iter().enumerate().filter(|(at, _)| !kept.contains(at));
        check_edit(&map, removed.map(|(_, key)| (key.clone(), None)).collect());
    }
    for appended in [vec![0xff; 3], vec![]] {
        check_edit(&map, vec![(appended, Some(value(10, 2)))]);
    }
}

#[test]
fn an_edit_and_a_diff_read_only_what_changed() {
    let map = wide_map(20_000, 1);
    let mut memory = Memory::default();
    let old = build(&map, &mut memory);
    let touched: Vec<_> = map.keys().step_by(4000).cloned().collect();
    let changes: Vec<_> = touched.iter().map(|key| (key.clone(), Some(value(900, 9)))).collect();
    memory.loads = 0;
    let new = edit(&keys(), &old, changes.clone(), &mut memory).unwrap();
    // For each of the five: a path of two inner nodes, its leaf, and the leaves up to the next
    // shared boundary.
    assert!(memory.loads <= 5 * 6, "an edit of five records read {} objects", memory.loads);

    memory.loads = 0;
    let found = diff(&old, &new, None, &mut memory);
    assert_eq!(found, naive_diff(&map, &apply(&map, &changes), None));
    assert!(memory.loads <= 5 * 2 * 4, "a diff of five records read {} objects", memory.loads);

    memory.loads = 0;
    assert!(diff(&old, &old, None, &mut memory).is_empty());
    assert_eq!(memory.loads, 0, "equal roots are compared without reading anything");
}

#[test]
fn records_out_of_order_are_refused() {
    let mut memory = Memory::default();
    let mut builder = repo_format::tree::Builder::new(&keys());
    builder.push(b"b", &value(1, 1), &mut memory).unwrap();
    assert!(builder.push(b"b", &value(1, 1), &mut memory).is_err());
    assert!(builder.push(b"a", &value(1, 1), &mut memory).is_err());
}
