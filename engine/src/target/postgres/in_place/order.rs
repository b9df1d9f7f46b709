//! In which order tables are written, so that foreign keys hold. Pure.

use std::collections::BTreeSet;

use super::{ForeignKey, TableName};

/// What is done to a table in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Rows that are to go.
    Delete,
    /// Rows that stay, with other values.
    Update,
    /// Rows that are to come.
    Insert,
}

/// The passes over `tables`, by position.
///
/// With foreign keys checked at the end, rows go before others come, so that a unique value is free
/// again. What refers to a row is written before that row goes: a referential action is never put off,
/// and must find nothing to act on. With foreign keys checked at once rows come first and go last; a
/// unique value that moves between rows is then refused by the server.
pub(crate) fn passes(
    tables: &[TableName],
    foreign_keys: &[ForeignKey],
    checked_at_end: bool,
) -> Vec<(usize, Pass)> {
    let parents_first = parents_first(tables, foreign_keys);
    let children_first = || parents_first.iter().rev().copied();
    if !checked_at_end {
        let coming = [Pass::Insert, Pass::Update];
        let coming = coming.into_iter().flat_map(|pass| parents_first.iter().map(move |at| (*at, pass)));
        return coming.chain(children_first().map(|at| (at, Pass::Delete))).collect();
    }
    let acts_on_itself = |at: usize| {
        foreign_keys.iter().any(|key| key.child == tables[at] && key.parent == tables[at] && !key.waits())
    };
    let going = children_first().flat_map(|at| {
        let passes = match acts_on_itself(at) {
            true => [Pass::Update, Pass::Delete],
            false => [Pass::Delete, Pass::Update],
        };
        passes.map(|pass| (at, pass))
    });
    going.chain(parents_first.iter().map(|at| (*at, Pass::Insert))).collect()
}

/// Positions of tables, each after those that it refers to, as far as they do not refer to each other.
fn parents_first(tables: &[TableName], foreign_keys: &[ForeignKey]) -> Vec<usize> {
    let parents = |at: usize| {
        let of_table = foreign_keys.iter().filter(move |key| key.child == tables[at]);
        of_table.filter_map(|key| tables.iter().position(|table| *table == key.parent))
    };
    let (mut done, mut entered) = (Vec::new(), BTreeSet::new());
    for start in 0..tables.len() {
        let mut path = vec![(start, false)];
        while let Some((at, has_parents_done)) = path.pop() {
            if has_parents_done {
                done.push(at);
            } else if entered.insert(at) {
                path.push((at, true));
                path.extend(
                    parents(at).filter(|parent| !entered.contains(parent)).map(|parent| (parent, false)),
                );
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> TableName {
        ("public".to_owned(), name.to_owned())
    }

    fn key(child: &str, parent: &str, acts: bool) -> ForeignKey {
        ForeignKey::sample(name(child), name(parent), acts)
    }

    fn written(tables: &[&str], keys: &[ForeignKey], at_end: bool) -> Vec<(String, Pass)> {
        let tables: Vec<TableName> = tables.iter().map(|table| name(table)).collect();
        let passes = passes(&tables, keys, at_end).into_iter();
        passes.map(|(at, pass)| (tables[at].1.clone(), pass)).collect()
    }

    fn place(all: &[(String, Pass)], table: &str, pass: Pass) -> usize {
        all.iter().position(|found| *found == (table.to_owned(), pass)).unwrap()
    }

    #[test]
    fn every_table_has_every_pass_once_in_cycles_too() {
        let keys = [key("a", "b", false), key("b", "c", true), key("c", "a", false), key("c", "c", true)];
        for at_end in [false, true] {
            let all = written(&["a", "b", "c", "d"], &keys, at_end);
            assert_eq!(all.len(), 12);
            for table in ["a", "b", "c", "d"] {
                for pass in [Pass::Delete, Pass::Update, Pass::Insert] {
                    assert_eq!(all.iter().filter(|found| **found == (table.to_owned(), pass)).count(), 1);
                }
            }
        }
    }

    #[test]
    fn rows_that_are_referred_to_come_first_and_go_last() {
        let keys = [key("lines", "orders", true), key("orders", "customers", false)];
        let tables = ["lines", "customers", "orders"];
        let at_once = written(&tables, &keys, false);
        assert!(place(&at_once, "customers", Pass::Insert) < place(&at_once, "orders", Pass::Insert));
        assert!(place(&at_once, "customers", Pass::Insert) < place(&at_once, "orders", Pass::Update));
        assert!(place(&at_once, "lines", Pass::Update) < place(&at_once, "orders", Pass::Delete));
        assert!(place(&at_once, "orders", Pass::Delete) < place(&at_once, "customers", Pass::Delete));
        let at_end = written(&tables, &keys, true);
        assert!(place(&at_end, "lines", Pass::Update) < place(&at_end, "orders", Pass::Delete));
        assert!(place(&at_end, "customers", Pass::Delete) < place(&at_end, "lines", Pass::Insert));
    }

    #[test]
    fn rows_that_others_of_their_table_act_on_are_written_before_any_go() {
        let [acting, waiting] = [true, false].map(|acts| written(&["t"], &[key("t", "t", acts)], true));
        assert!(place(&acting, "t", Pass::Update) < place(&acting, "t", Pass::Delete));
        assert!(place(&waiting, "t", Pass::Delete) < place(&waiting, "t", Pass::Update));
    }
}
