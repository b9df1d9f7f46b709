//! Which elements of two arrays belong together.

use std::collections::HashMap;
use std::hash::Hash;

use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Longest gap, in elements of both sides, whose longest common subsequence is looked for exactly.
const EXACT: usize = 4_000;
/// Squares of gap lengths that one comparison of documents may spend on that. It takes about a second.
pub(super) const BUDGET: u64 = 1 << 28;
/// Gaps between elements that occur once are split again as often as this.
const SPLITS: usize = 16;

/// Replaces equal things by equal numbers, so that comparing two is cheap from then on.
pub(super) fn numbered<K: Hash + Eq>(old: Vec<K>, new: Vec<K>) -> (Vec<u32>, Vec<u32>) {
    let mut known = HashMap::with_capacity(old.len().max(new.len()));
    let mut number = |key| {
        let next = known.len() as u32;
        *known.entry(key).or_insert(next)
    };
    (old.into_iter().map(&mut number).collect(), new.into_iter().map(&mut number).collect())
}

/// Pairs of positions of equal elements, ascending on both sides: a longest common subsequence where the gaps
/// are short, a good one where they are long. Its cost is bounded by `budget`, not by a clock, so that the
/// same arrays always give the same pairs.
pub(super) fn pairs(old: &[u32], new: &[u32], budget: &mut u64) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    split(Gap { old, new, at: (0, 0) }, SPLITS, budget, &mut out);
    out
}

/// Two stretches that are to be aligned, and where they begin in the arrays.
#[derive(Clone, Copy)]
struct Gap<'a> {
    old: &'a [u32],
    new: &'a [u32],
    at: (usize, usize),
}

impl<'a> Gap<'a> {
    fn part(&self, old: std::ops::Range<usize>, new: std::ops::Range<usize>) -> Gap<'a> {
        let at = (self.at.0 + old.start, self.at.1 + new.start);
        Gap { old: &self.old[old], new: &self.new[new], at }
    }
}

fn split(gap: Gap<'_>, splits: usize, budget: &mut u64, out: &mut Vec<(usize, usize)>) {
    let front = gap.old.iter().zip(gap.new).take_while(|(a, b)| a == b).count();
    run(gap.at, front, out);
    let rest = gap.part(front..gap.old.len(), front..gap.new.len());
    let back = rest.old.iter().rev().zip(rest.new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_end, new_end) = (rest.old.len() - back, rest.new.len() - back);
    let middle = rest.part(0..old_end, 0..new_end);

    let side = (middle.old.len() + middle.new.len()) as u64;
    if !middle.old.is_empty() && !middle.new.is_empty() {
        if side <= EXACT as u64 && side * side <= *budget {
            *budget -= side * side;
            exact(middle, out);
        } else if splits > 0 {
            around_anchors(middle, splits - 1, budget, out);
        }
    }
    run((rest.at.0 + old_end, rest.at.1 + new_end), back, out);
}

/// Pairs of `len` elements that follow each other.
fn run(from: (usize, usize), len: usize, out: &mut Vec<(usize, usize)>) {
    out.extend((0..len).map(|step| (from.0 + step, from.1 + step)));
}

fn exact(gap: Gap<'_>, out: &mut Vec<(usize, usize)>) {
    for op in capture_diff_slices(Algorithm::Myers, gap.old, gap.new) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            run((gap.at.0 + old_index, gap.at.1 + new_index), len, out);
        }
    }
}

/// Elements that occur once on each side, in an order that both have, divide the gap.
fn around_anchors(gap: Gap<'_>, splits: usize, budget: &mut u64, out: &mut Vec<(usize, usize)>) {
    let anchors = ascending(&once_each(gap.old, gap.new));
    if anchors.is_empty() {
        return;
    }
    let (mut i, mut j) = (0, 0);
    for (anchor, counterpart) in anchors {
        split(gap.part(i..anchor, j..counterpart), splits, budget, out);
        out.push((gap.at.0 + anchor, gap.at.1 + counterpart));
        (i, j) = (anchor + 1, counterpart + 1);
    }
    split(gap.part(i..gap.old.len(), j..gap.new.len()), splits, budget, out);
}

/// Positions of the elements that occur once in each, in the order of the old.
fn once_each(old: &[u32], new: &[u32]) -> Vec<(usize, usize)> {
    #[derive(Default)]
    struct Seen {
        old: usize,
        new: usize,
        place: usize,
    }
    let mut seen: HashMap<u32, Seen> = HashMap::with_capacity(new.len());
    for (place, &element) in new.iter().enumerate() {
        let entry = seen.entry(element).or_default();
        (entry.new, entry.place) = (entry.new + 1, place);
    }
    for element in old {
        seen.entry(*element).or_default().old += 1;
    }
    let once = |(place, element): (usize, &u32)| {
        let entry = seen.get(element)?;
        (entry.old == 1 && entry.new == 1).then_some((place, entry.place))
    };
    old.iter().enumerate().filter_map(once).collect()
}

/// The longest part of `pairs`, ascending in the first, that ascends in the second as well.
fn ascending(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // ends[n]: the pair that ends the best run of n + 1 pairs so far; before[p]: what comes before pair p in
    // its run.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (position, pair) in pairs.iter().enumerate() {
        let len = ends.partition_point(|&end| pairs[end].1 < pair.1);
        before.push(len.checked_sub(1).map(|shorter| ends[shorter]));
        if len == ends.len() {
            ends.push(position);
        } else {
            ends[len] = position;
        }
    }
    let mut out = Vec::with_capacity(ends.len());
    let mut last = ends.last().copied();
    while let Some(position) = last {
        out.push(pairs[position]);
        last = before[position];
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The length of the longest common subsequence, by the textbook's table.
    fn longest(old: &[u32], new: &[u32]) -> usize {
        let mut row = vec![0; new.len() + 1];
        for a in old {
            let mut diagonal = 0;
            for (at, b) in new.iter().enumerate() {
                let above = row[at + 1];
                row[at + 1] = if a == b { diagonal + 1 } else { above.max(row[at]) };
                diagonal = above;
            }
        }
        row[new.len()]
    }

    fn check(old: &[u32], new: &[u32], budget: u64) -> usize {
        let pairs = pairs(old, new, &mut { budget });
        assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{pairs:?}");
        assert!(pairs.iter().all(|&(a, b)| old[a] == new[b]), "{pairs:?}");
        pairs.len()
    }

    proptest! {
        #[test]
        fn pairs_are_a_longest_common_subsequence(
            old in prop::collection::vec(0u32..8, 0..40), new in prop::collection::vec(0u32..8, 0..40),
        ) {
            prop_assert_eq!(check(&old, &new, BUDGET), longest(&old, &new));
        }

        #[test]
        fn without_a_budget_pairs_are_equal_and_ascend_all_the_same(
            old in prop::collection::vec(0u32..30, 0..40), new in prop::collection::vec(0u32..30, 0..40),
        ) {
            check(&old, &new, 0);
        }

        /// A permutation has every element once: anchors alone find the longest ascending part.
        #[test]
        fn anchors_find_all_of_what_moved_little(
            new in Just((0u32..60).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let old: Vec<u32> = (0..60).collect();
            prop_assert_eq!(check(&old, &new, 0), longest(&old, &new));
        }
    }
}
