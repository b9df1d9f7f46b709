//! The chain of an account: how a line is made, and how lines are followed from the first to the last.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Entry;

/// `previous` of the first entry.
const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// What stands between an entry and its seal, and between that and the hash.
const BEFORE_SEAL: &str = r#","seal":""#;
const BEFORE_HASH: &str = r#","hash":""#;
const AFTER: &str = r#""}"#;

/// What seals entries: a key that the server key opens. Whoever has the metadata and not that key can make
/// hashes anew, and no seal.
#[derive(Clone)]
pub struct Seal(Zeroizing<[u8; 32]>);

impl Seal {
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    fn of(&self, text: &str) -> String {
        blake3::keyed_hash(&self.0, text.as_bytes()).to_hex().to_string()
    }

    /// Whether a line has the seal that it should.
    fn is_on(&self, line: &str) -> bool {
        let text = without_last_field(line, BEFORE_HASH).map(|(text, _)| text);
        let sealed = text.and_then(|text| without_last_field(&text, BEFORE_SEAL));
        sealed.is_some_and(|(text, found)| self.of(&text) == found)
    }

    /// The seal of where a chain ends.
    fn of_head(&self, chain: &str, head: &Head) -> String {
        let Head { entries, hash, sealed_from, lost_from, .. } = head;
        let lost = lost_from.map(|from| format!(" {from}")).unwrap_or_default();
        self.of(&format!("head {chain} {entries} {hash} {sealed_from}{lost}"))
    }
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub entries: u64,
    pub hash: String,
    /// The first entry that has a seal, as all after it; 0 where none has.
    #[serde(default)]
    sealed_from: u64,
    /// The first entry of which nothing proves that it is the one that was written there, because what was
    /// kept of the chain's end was removed or exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost_from: Option<u64>,
    #[serde(default)]
    seal: String,
}

impl Head {
    /// Of a chain without entries.
    pub fn empty() -> Self {
        Self { entries: 0, hash: BEGINNING.to_owned(), sealed_from: 0, lost_from: None, seal: String::new() }
    }

    /// Of a chain that an account has from its beginning: that it is gone can be told.
    pub fn begun(chain: &str, seal: Option<&Seal>) -> Self {
        seal.map_or_else(Self::empty, |seal| Self::empty().sealed(chain, seal))
    }

    /// Where a chain goes on: behind the end that is `written`, if that is whole and nothing stands behind
    /// it. Else behind the `last` entry there is, so that nothing is written over, and from then on it is
    /// known that something may be lost. Where nothing was ever written, a chain `must_be` there or begins.
    pub fn found(
        chain: &str,
        written: Option<Self>,
        last: Option<&(u64, String)>,
        must_be: bool,
        seal: Option<&Seal>,
    ) -> Self {
        let there = last.map_or(0, |(seq, _)| *seq);
        match &written {
            None if there == 0 && !must_be => return Self::empty(),
            Some(head) if head.entries >= there && head.is_sealed_by(chain, seal) => return head.clone(),
            _ => {}
        }
        let entry: Option<Entry> = last.and_then(|(_, line)| serde_json::from_str(line).ok());
        // The seal of the last entry proves those before it, by their hashes. Without one nothing does.
        let known = match (last, seal) {
            (Some((_, line)), Some(seal)) if !seal.is_on(line) => 0,
            _ => written.as_ref().map_or(there, |head| head.entries.min(there)),
        };
        let lost_from =
            (known.saturating_add(1)).min(written.and_then(|head| head.lost_from).unwrap_or(u64::MAX));
        let hash = entry.map_or_else(|| BEGINNING.to_owned(), |entry| entry.hash);
        Self { entries: there, hash, lost_from: Some(lost_from), ..Self::empty() }
    }

    /// Whether it was sealed as it is. Without a seal nothing is known of that.
    fn is_sealed_by(&self, chain: &str, seal: Option<&Seal>) -> bool {
        seal.is_none_or(|seal| seal.of_head(chain, self) == self.seal)
    }

    /// Seals the end of a chain whose entries so far have none.
    #[must_use]
    pub fn sealed(self, chain: &str, seal: &Seal) -> Self {
        let head = Self { sealed_from: self.entries.saturating_add(1), ..self };
        Self { seal: seal.of_head(chain, &head), ..head }
    }

    /// The line of the next entry, and the head after it. `entry`'s number and links are set here.
    pub fn extend(&self, entry: Entry, seal: Option<&Seal>) -> serde_json::Result<(String, Self)> {
        let entry = Entry {
            seq: self.entries.saturating_add(1),
            previous: self.hash.clone(),
            seal: String::new(),
            hash: String::new(),
            ..entry
        };
        let mut text = serde_json::to_string(&entry)?;
        if let Some(seal) = seal {
            text = with_last_field(&text, BEFORE_SEAL, &seal.of(&text));
        }
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        let line = with_last_field(&text, BEFORE_HASH, &hash);
        let sealed_from = match (self.sealed_from, seal) {
            (0, Some(_)) => entry.seq,
            (from, _) => from,
        };
        let lost_from = self.lost_from;
        let head = Self { entries: entry.seq, hash, sealed_from, lost_from, seal: String::new() };
        let sealed = seal.map(|seal| seal.of_head(&entry.account, &head)).unwrap_or_default();
        Ok((line, Self { seal: sealed, ..head }))
    }
}

/// An object's text with one more field at its end.
fn with_last_field(object: &str, before: &str, value: &str) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    format!("{open}{before}{value}{AFTER}")
}

/// The reverse: the object without its last field, and the field's value.
fn without_last_field(object: &str, before: &str) -> Option<(String, String)> {
    let (open, value) = object.strip_suffix(AFTER)?.rsplit_once(before)?;
    Some((format!("{open}}}"), value.to_owned()))
}

/// What is wrong with a chain, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The entry is not what was written.
    Changed(u64),
    /// The entry is gone.
    Missing(u64),
    /// The entry is behind the end.
    Added(u64),
    /// The entry and the next do not follow each other, and nothing tells which of them was changed.
    Link(u64),
    /// The chain does not end as its end says; this is the last entry.
    End(u64),
    /// What is kept of the chain's end was removed or exchanged when this entry was to be the next.
    Lost(u64),
    /// No entry has a seal, nor has the end: whoever has the file can have made all of it.
    Unsealed(u64),
    /// The key that seals entries is gone.
    Keyless(u64),
}

impl Break {
    /// The number of the entry.
    pub fn at(self) -> u64 {
        match self {
            Self::Changed(at)
            | Self::Missing(at)
            | Self::Added(at)
            | Self::Link(at)
            | Self::End(at)
            | Self::Lost(at)
            | Self::Unsealed(at)
            | Self::Keyless(at) => at,
        }
    }

    /// In a sentence.
    pub fn describe(self) -> String {
        match self {
            Self::Changed(at) => format!("Entry {at} is not what was written."),
            Self::Missing(at) => format!("Entry {at} is missing."),
            Self::Added(at) => format!("Entry {at} was added: the log ended before it."),
            Self::Link(at) => format!(
                "Entries {at} and {} do not follow each other: one of the two is not what was written, and as \
                 they have no seal nothing tells which.",
                at + 1
            ),
            Self::End(at) => format!(
                "The log does not end as it did: its last entry, {at}, or what is kept of its end is not what was written."
            ),
            Self::Lost(at) => format!(
                "What is kept of the log's end was removed or exchanged, and entries may be gone: nothing proves that \
                 what stands from number {at} on is what was written there."
            ),
            Self::Unsealed(at) => format!(
                "The entries from number {at} on are not sealed by the log's key, nor is their end: nothing proves that \
                 they are what was written."
            ),
            Self::Keyless(at) => format!(
                "The key that seals the log is not there: nothing proves that what stands from number {at} on is what was \
                 written there."
            ),
        }
    }
}

/// A line that is whole by itself.
struct Whole {
    previous: String,
    hash: String,
    is_sealed: bool,
}

/// Follows the lines of a chain.
pub struct Follower<'a> {
    chain: &'a str,
    /// Where the chain is said to end.
    written: &'a Head,
    seal: Option<&'a Seal>,
    entries: u64,
    hash: String,
    is_sealed: bool,
}

impl<'a> Follower<'a> {
    /// Begins before the first line. Without `seal`, hashes alone are checked.
    pub fn new(chain: &'a str, written: &'a Head, seal: Option<&'a Seal>) -> Self {
        Self { chain, written, seal, entries: 0, hash: BEGINNING.to_owned(), is_sealed: false }
    }

    /// Takes the next line, which is stored under number `seq`.
    pub fn follow(&mut self, seq: Option<u64>, line: Option<&str>) -> Result<(), Break> {
        let next = self.entries + 1;
        if next > self.written.entries {
            return Err(Break::Added(next));
        }
        match seq {
            Some(seq) if seq > next => return Err(Break::Missing(next)),
            Some(seq) if seq == next => {}
            _ => return Err(Break::Changed(next)),
        }
        let whole = line.and_then(|line| self.whole(next, line)).ok_or(Break::Changed(next))?;
        if whole.previous != self.hash {
            return Err(match (whole.is_sealed, self.is_sealed) {
                _ if next == 1 => Break::Changed(1),
                // What it follows is sealed into it, and is not what stands there.
                (true, false) => Break::Changed(next - 1),
                _ => Break::Link(next - 1),
            });
        }
        (self.entries, self.hash, self.is_sealed) = (next, whole.hash, whole.is_sealed);
        Ok(())
    }

    /// After the last line: whether the chain ends where it is said to.
    pub fn end(&self) -> Result<(), Break> {
        if self.entries < self.written.entries {
            return Err(Break::Missing(self.entries + 1));
        }
        let is_sealed = self.written.is_sealed_by(self.chain, self.seal);
        // An end that is not sealed says nothing of since when entries are, and what is sealed has sealed
        // entries behind it: here none is.
        if !is_sealed && !self.is_sealed {
            return Err(if self.entries == 0 { Break::Lost(1) } else { Break::Unsealed(1) });
        }
        if let Some(from) = self.written.lost_from {
            return Err(Break::Lost(from));
        }
        if is_sealed && self.hash == self.written.hash { Ok(()) } else { Err(Break::End(self.entries)) }
    }

    /// Reads a line that must be of this number, of this chain, and have the hash and the seal that it should.
    fn whole(&self, seq: u64, line: &str) -> Option<Whole> {
        let entry: Entry = serde_json::from_str(line).ok()?;
        let (text, hash) = without_last_field(line, BEFORE_HASH)?;
        let is_whole = entry.seq == seq
            && entry.account == self.chain
            && blake3::hash(text.as_bytes()).to_hex().as_str() == hash;
        let from = self.written.sealed_from;
        let is_sealed = !entry.seal.is_empty();
        let is_due = self.is_sealed || (from > 0 && seq >= from);
        let is_sealed_well = match self.seal {
            Some(seal) if is_sealed => seal.is_on(line),
            _ => is_sealed || !is_due,
        };
        (is_whole && is_sealed_well).then_some(Whole { previous: entry.previous, hash, is_sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Outcome};
    use super::*;

    const ACTIONS: [&str; 4] = ["account.register", "project.create", "key.add", "key.remove"];

    fn entry(action: &str) -> Entry {
        Entry {
            seq: 0,
            at: "2026-02-03T04:05:06.000Z".to_owned(),
            account: "a".to_owned(),
            actor: "ada@example.com".to_owned(),
            action: action.to_owned(),
            target: "project/1".to_owned(),
            result: Outcome::Succeeded,
            detail: Event::new("x", "y").with("name", r#"","hash":""#).with("none", None::<u8>).detail,
            previous: String::new(),
            seal: String::new(),
            hash: String::new(),
        }
    }

    fn seal() -> Seal {
        Seal::new([7; 32])
    }

    /// A chain whose entries have seals from number `from` on.
    fn chain(from: usize) -> (Vec<String>, Head) {
        let (mut head, mut lines) = (Head::empty(), Vec::new());
        for (at, action) in ACTIONS.iter().enumerate() {
            if at + 1 == from {
                head = head.sealed("a", &seal());
            }
            let (line, next) = head.extend(entry(action), Some(&seal()).filter(|_| at + 1 >= from)).unwrap();
            (head, _) = (next, lines.push(line));
        }
        (lines, if from > ACTIONS.len() { head.sealed("a", &seal()) } else { head })
    }

    fn follow(lines: &[String], head: &Head) -> Result<(), Break> {
        let key = seal();
        let mut follower = Follower::new("a", head, Some(&key));
        for (at, line) in lines.iter().enumerate() {
            follower.follow(Some(at as u64 + 1), Some(line))?;
        }
        follower.end()
    }

    /// What somebody can do who has the file and not the key: the line's hash made anew.
    fn hashed_anew(line: &str) -> String {
        let (text, _) = without_last_field(line, BEFORE_HASH).unwrap();
        with_last_field(&text, BEFORE_HASH, blake3::hash(text.as_bytes()).to_hex().as_str())
    }

    #[test]
    fn a_chain_is_checked_by_its_lines_alone() {
        for from in [1, 3, 9] {
            let (lines, head) = chain(from);
            assert_eq!(follow(&lines, &head), Ok(()));
            // As docs/OPERATIONS.md tells whoever checks an export.
            let (open, hash) = lines[1].strip_suffix("\"}").unwrap().rsplit_once(",\"hash\":\"").unwrap();
            assert_eq!(blake3::hash(format!("{open}}}").as_bytes()).to_hex().as_str(), hash);
            assert!(lines[2].contains(&format!(r#""previous":"{hash}""#)));
            assert!(lines[0].contains(BEGINNING));
        }
    }

    /// Whatever is done to one line is found at its number.
    #[test]
    fn every_changed_byte_of_every_line_is_found_by_its_number() {
        for from in [1, 3] {
            let (lines, head) = chain(from);
            for at in 0..lines.len() {
                for byte in 0..lines[at].len() {
                    let mut changed = lines.clone();
                    let mut bytes = changed[at].clone().into_bytes();
                    bytes[byte] ^= 1;
                    changed[at] = String::from_utf8(bytes).unwrap();
                    assert_eq!(
                        follow(&changed, &head),
                        Err(Break::Changed(at as u64 + 1)),
                        "{}",
                        changed[at]
                    );
                }
            }
        }
    }

    /// With its hash made anew an entry is whole by itself, and its seal is not.
    #[test]
    fn an_entry_whose_hash_was_made_anew_is_found_by_its_number() {
        let fields = [
            ("\"seq\":", "\"seq\":1"),
            ("04:05:06", "04:05:07"),
            ("ada@", "eve@"),
            ("project/1", "project/2"),
            ("succeeded", "failed"),
            ("\"name\"", "\"mane\""),
            ("\"previous\":\"", "\"previous\":\"f"),
            ("\"seal\":\"", "\"seal\":\"f"),
            ("\"account\":\"a\"", "\"account\":\"b\""),
        ];
        let (lines, head) = chain(1);
        for at in 0..lines.len() {
            for (from, to) in fields {
                let mut changed = lines.clone();
                changed[at] = hashed_anew(&lines[at].replacen(from, to, 1));
                assert_ne!(changed[at], lines[at]);
                assert_eq!(follow(&changed, &head), Err(Break::Changed(at as u64 + 1)), "{}", changed[at]);
            }
            // Without a seal, as entries had none once.
            let mut changed = lines.clone();
            let (text, _) = without_last_field(&lines[at], BEFORE_HASH).unwrap();
            let (text, _) = without_last_field(&text, BEFORE_SEAL).unwrap();
            changed[at] = hashed_anew(&with_last_field(&text, BEFORE_HASH, ""));
            assert_eq!(follow(&changed, &head), Err(Break::Changed(at as u64 + 1)), "{}", changed[at]);
        }
    }

    /// Of entries from before there were seals it is the link that is broken, unless a seal covers it.
    #[test]
    fn what_has_no_seal_is_told_by_its_link() {
        let (lines, head) = chain(3);
        let changed = |at: usize| {
            let mut changed = lines.clone();
            changed[at] = hashed_anew(&lines[at].replacen("ada@", "eve@", 1));
            changed
        };
        assert_eq!(follow(&changed(0), &head), Err(Break::Link(1)));
        assert!(Break::Link(1).describe().contains("Entries 1 and 2"));
        assert_eq!(follow(&changed(1), &head), Err(Break::Changed(2)), "the third is sealed to it");
        let (lines, head) = chain(9);
        let mut last = lines.clone();
        last[3] = hashed_anew(&lines[3].replacen("ada@", "eve@", 1));
        assert_eq!(follow(&last, &head), Err(Break::End(4)));
    }

    /// Nor can all of it be made anew: what is kept of its end is sealed, and since when entries are.
    #[test]
    fn a_chain_that_was_made_anew_does_not_end_as_it_did() {
        let (_, head) = chain(1);
        let (mut forged, mut lines) = (Head::empty(), Vec::new());
        for action in ACTIONS {
            let (line, next) = forged.extend(entry(action), None).unwrap();
            (forged, _) = (next, lines.push(line));
        }
        assert_eq!(follow(&lines, &forged), Err(Break::Unsealed(1)));
        assert_eq!(follow(&lines, &head), Err(Break::Changed(1)));
        // Nor does an end that is made up with it hide from which number on nothing is proven, and what is
        // written behind it proves nothing of it.
        let told_late = Head { sealed_from: 4, lost_from: Some(4), ..forged.clone() };
        assert_eq!(follow(&lines[..3], &Head { entries: 3, ..told_late }), Err(Break::Unsealed(1)));
        let last = (4, lines[3].clone());
        for written in [None, Some(forged)] {
            let found = Head::found("a", written, Some(&last), true, Some(&seal()));
            let (line, head) = found.extend(entry("key.add"), Some(&seal())).unwrap();
            let lines: Vec<String> = lines.iter().cloned().chain([line]).collect();
            assert_eq!(follow(&lines, &head), Err(Break::Lost(1)));
        }
    }

    #[test]
    fn entries_that_are_moved_left_out_doubled_or_added_are_found() {
        let (lines, head) = chain(1);
        let [a, b, c, d] = [&lines[0], &lines[1], &lines[2], &lines[3]].map(Clone::clone);
        let all =
            |lines: &[&String]| follow(&lines.iter().map(|line| (*line).clone()).collect::<Vec<_>>(), &head);
        assert_eq!(all(&[&b, &a, &c, &d]), Err(Break::Changed(1)));
        assert_eq!(all(&[&a, &a, &b, &c]), Err(Break::Changed(2)));
        assert_eq!(all(&[&a, &b, &c]), Err(Break::Missing(4)));
        assert_eq!(all(&[&a, &b, &c, &d, &d]), Err(Break::Added(5)));
        let key = seal();
        let mut follower = Follower::new("a", &head, Some(&key));
        follower.follow(Some(1), Some(&a)).unwrap();
        assert_eq!(follower.follow(Some(3), Some(&c)), Err(Break::Missing(2)));
    }

    /// What goes on behind an end that was removed, exchanged or forged writes nothing over, and the loss
    /// stays told whatever is written after it.
    #[test]
    fn what_goes_on_behind_a_lost_end_tells_of_it() {
        let (lines, head) = chain(1);
        let old = chain(1).1;
        let (older_lines, older) = {
            let (line, head) = Head::empty().extend(entry(ACTIONS[0]), Some(&seal())).unwrap();
            (vec![line], head)
        };
        assert_eq!(older_lines[0], lines[0]);
        let forged = Head { entries: 2, hash: "f".repeat(64), ..old };
        let unsealed = Head::empty();
        let cases = [
            (None, &lines[..], 5),
            (None, &lines[..3], 4),
            (None, &lines[..0], 1),
            (Some(older), &lines[..], 2),
            (Some(forged), &lines[..2], 3),
            (Some(unsealed), &lines[..0], 1),
        ];
        for (written, there, told) in cases {
            let last = there.last().map(|line| (there.len() as u64, line.clone()));
            let found = Head::found("a", written, last.as_ref(), true, Some(&seal()));
            let (mut head, mut lines) = (found, there.to_vec());
            assert_eq!(follow(&lines, &head), Err(Break::Lost(told)));
            for at in 0..2 {
                let (line, next) = head.extend(entry("key.add"), Some(&seal())).unwrap();
                (head, _) = (next, lines.push(line));
                assert_eq!(head.entries, there.len() as u64 + at + 1);
                let last = lines.last().map(|line| (lines.len() as u64, line.clone()));
                assert_eq!(Head::found("a", Some(head.clone()), last.as_ref(), true, Some(&seal())), head);
                assert_eq!(follow(&lines, &head), Err(Break::Lost(told)));
            }
            let forgotten = Head { lost_from: None, ..head };
            assert!(matches!(follow(&lines, &forgotten), Err(Break::End(_))), "it is sealed");
        }
        let last = (lines.len() as u64, lines[3].clone());
        assert_eq!(Head::found("a", Some(head.clone()), Some(&last), true, Some(&seal())), head);
        assert_eq!(Head::found("nobody", None, None, false, Some(&seal())), Head::empty());
        let begun = Head::begun("a", Some(&seal()));
        assert_eq!(follow(&[], &begun), Ok(()));
        assert_eq!(Head::found("a", Some(begun.clone()), None, true, Some(&seal())), begun);
    }
}
