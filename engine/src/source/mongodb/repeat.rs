//! The best that a server without history offers: read until two readings agree.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::scan::Digest;

/// Readings of one collection, the first included.
const READINGS: u32 = 3;

/// What each collection's readings came to.
#[derive(Debug, Default)]
pub(super) struct Repeat(Mutex<HashMap<usize, Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    digest: Digest,
    readings: u32,
    agreed: bool,
}

impl Repeat {
    /// A reading has ended.
    pub fn note(&self, collection: usize, digest: Digest) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.get(&collection).copied();
        let readings = known.map_or(0, |known| known.readings) + 1;
        let agreed = known.is_some_and(|known| known.digest == digest);
        seen.insert(collection, Seen { digest, readings, agreed });
    }

    /// Collections to read again, ascending.
    pub fn disagreeing(&self) -> Vec<usize> {
        let mut found = self.select(|seen| !seen.agreed && seen.readings < READINGS);
        found.sort_unstable();
        found
    }

    /// Collections of which no two readings agreed.
    pub fn never_agreed(&self) -> Vec<usize> {
        let mut found = self.select(|seen| !seen.agreed);
        found.sort_unstable();
        found
    }

    /// How often what was read, for who has to trust it.
    pub fn in_words(&self) -> String {
        let said = "collections read one after the other, ";
        match self.never_agreed().len() {
            0 => format!("{said}until two readings agreed"),
            some => format!(
                "{said}until two readings agreed; {some} of them changed during each of {READINGS} readings, of \
                 which the last counts"
            ),
        }
    }

    fn select(&self, wanted: impl Fn(&Seen) -> bool) -> Vec<usize> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(_, seen)| wanted(seen)).map(|(&collection, _)| collection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_read_until_two_readings_agree() {
        let repeat = Repeat::default();
        repeat.note(4, Digest([1; 4]));
        repeat.note(2, Digest([2; 4]));
        assert_eq!(repeat.disagreeing(), [2, 4]);
        repeat.note(4, Digest([1; 4]));
        repeat.note(2, Digest([3; 4]));
        assert_eq!(repeat.disagreeing(), [2]);
        repeat.note(2, Digest([4; 4]));
        assert_eq!(repeat.disagreeing(), [0; 0]);
        assert_eq!(repeat.never_agreed(), [2]);
        assert!(repeat.in_words().contains("1 of them changed during each of 3"), "{}", repeat.in_words());
    }
}
