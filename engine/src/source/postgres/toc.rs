//! The table of contents of an archive of `pg_dump -Fc`: its entries as the database had them.
//!
//! A script that `pg_restore` prints has the same, but a name in it may look like a statement.
//! Here every text has a length of its own, so what is read is what `pg_dump` wrote for that entry.

use std::borrow::Cow;
use std::ops::Range;

/// What every archive begins with.
const MAGIC: &[u8] = b"PGDMP";
/// The minor versions of the format that are known: those of PostgreSQL 12 to 18.
const KNOWN: std::ops::RangeInclusive<u8> = 14..=16;
/// From this minor version on, the compression is one byte and no integer.
const COMPRESSION_IS_BYTE: u8 = 15;
/// From this minor version on, an entry says what kind of relation it is.
const HAS_RELATION_KIND: u8 = 16;
/// Seconds to the year and daylight saving.
const TIME_FIELDS: usize = 7;
/// Bytes of a number.
const NUMBER: usize = 5;
/// The custom format, the only one whose contents are followed by a place in the file.
const CUSTOM: u8 = 1;

/// Kinds of entries that hold statements about privileges.
pub(crate) const PRIVILEGES: [&str; 2] = ["ACL", "DEFAULT ACL"];

/// The part of an archive that an entry is restored with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// Before rows, as tables.
    #[default]
    PreData,
    /// After rows, as indexes.
    PostData,
}

/// One entry of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its number in the archive.
    pub(crate) id: i64,
    /// The numbers of those it depends on, some of which may not be there.
    pub(crate) needs: Vec<i64>,
    /// Where it is in the archive.
    pub(crate) place: Range<usize>,
    /// "TABLE", "ACL", "DEFAULT ACL"
    pub(crate) kind: String,
    /// "orders", "TABLE orders" for its privileges
    pub(crate) tag: String,
    pub(crate) namespace: String,
    pub(crate) owner: String,
    pub(crate) part: Part,
    /// The statements that make it. Those of entries that are not about privileges may have other
    /// letters than the database.
    pub(crate) definition: String,
    /// Whether there is a statement that drops it: only such entries are given to their owners.
    pub(crate) is_droppable: bool,
}

/// The entries of an archive in its order, and `None` for one whose format is not known or in whose
/// encoding names of roles or statements about privileges cannot be read.
pub(crate) fn read(archive: &[u8]) -> Option<Vec<Entry>> {
    entries(archive).map(|(_, entries)| entries)
}

/// The archive with only those of its `entries` that are kept, by their place among them. `None` for an
/// archive that cannot be read, or that holds rows.
pub(crate) fn only(archive: &[u8], entries: &[Entry], keep: &dyn Fn(usize) -> bool) -> Option<Vec<u8>> {
    let (first, _) = self::entries(archive)?;
    let end = entries.last().map_or(first, |entry| entry.place.end);
    if end != archive.len() {
        return None;
    }
    let kept: Vec<&Entry> =
        entries.iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, entry)| entry).collect();
    let mut out = archive.get(..first.checked_sub(NUMBER)?)?.to_vec();
    out.push(0);
    out.extend_from_slice(&u32::try_from(kept.len()).ok()?.to_le_bytes());
    for entry in kept {
        out.extend_from_slice(archive.get(entry.place.clone())?);
    }
    Some(out)
}

/// The archive without the options of its user mappings, which hold passwords: whoever may see them puts
/// them into it. `None` for an archive whose format is not known.
pub(super) fn without_mapping_options(archive: &[u8]) -> Option<Vec<u8>> {
    let (_, entries) = raw_entries(archive)?;
    let (mut out, mut copied) = (Vec::with_capacity(archive.len()), 0);
    for entry in entries.iter().filter(|entry| entry.kind == b"USER MAPPING") {
        out.extend_from_slice(archive.get(copied..entry.definition_place.start)?);
        let definition = without_options(entry.definition);
        out.push(0);
        out.extend_from_slice(&u32::try_from(definition.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&definition);
        copied = entry.definition_place.end;
    }
    out.extend_from_slice(archive.get(copied..)?);
    Some(out)
}

/// "CREATE USER MAPPING FOR a SERVER b OPTIONS (..);" up to its options. Names may hold any word, in
/// double quotes.
fn without_options(statement: &[u8]) -> Cow<'_, [u8]> {
    let mut is_quoted = false;
    for (at, byte) in statement.iter().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b' ' if !is_quoted && statement[at..].starts_with(b" OPTIONS (") => {
                return Cow::Owned([&statement[..at], b";\n"].concat());
            }
            _ => {}
        }
    }
    Cow::Borrowed(statement)
}

/// The entries, and where the first of them begins.
fn entries(archive: &[u8]) -> Option<(usize, Vec<Entry>)> {
    let (first, raw) = raw_entries(archive)?;
    let entries: Vec<Entry> = raw.into_iter().map(RawEntry::decoded).collect::<Option<_>>()?;
    // Other encodings have the same letters only where all have.
    let is_utf8 = entries.iter().any(|entry| entry.kind == "ENCODING" && entry.definition.contains("'UTF8'"));
    let is_plain = |entry: &Entry| {
        entry.owner.is_ascii() && (!PRIVILEGES.contains(&entry.kind.as_str()) || entry.definition.is_ascii())
    };
    (is_utf8 || entries.iter().all(is_plain)).then_some((first, entries))
}

/// The entries in their own encoding, and where the first of them begins.
fn raw_entries(archive: &[u8]) -> Option<(usize, Vec<RawEntry<'_>>)> {
    let (head, rest) = archive.split_first_chunk::<11>()?;
    let [.., major, minor, _, int, offset, format] = *head;
    if !head.starts_with(MAGIC) || major != 1 || !KNOWN.contains(&minor) || int != 4 || format != CUSTOM {
        return None;
    }
    let mut reader = Reader { rest, size_bytes: archive.len() };
    if minor >= COMPRESSION_IS_BYTE {
        reader.skip(1)?
    } else {
        reader.number().map(drop)?
    }
    for _ in 0..TIME_FIELDS {
        reader.number()?;
    }
    // The database, the server's version, the tool's version.
    for _ in 0..3 {
        reader.bytes()?;
    }
    let count = reader.number()?;
    let first = reader.position();
    let (mut entries, mut part) = (Vec::new(), Part::default());
    for _ in 0..count {
        entries.push(reader.entry(minor, usize::from(offset), &mut part)?);
    }
    Some((first, entries))
}

/// An entry in the encoding of its archive.
struct RawEntry<'a> {
    id: i64,
    needs: Vec<i64>,
    place: Range<usize>,
    kind: &'a [u8],
    tag: &'a [u8],
    namespace: &'a [u8],
    owner: &'a [u8],
    part: Part,
    definition: &'a [u8],
    /// Where the definition is in the archive, with its length before it.
    definition_place: Range<usize>,
    is_droppable: bool,
}

impl RawEntry<'_> {
    /// `None` where a text that must be exact is in another encoding.
    fn decoded(self) -> Option<Entry> {
        let exact = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        // A text that is only shown.
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let kind = exact(self.kind)?;
        let is_exact = PRIVILEGES.contains(&kind.as_str());
        Some(Entry {
            id: self.id,
            needs: self.needs,
            place: self.place,
            tag: shown(self.tag),
            namespace: shown(self.namespace),
            owner: exact(self.owner)?,
            part: self.part,
            definition: if is_exact { exact(self.definition)? } else { shown(self.definition) },
            is_droppable: self.is_droppable,
            kind,
        })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Of the archive, read and unread.
    size_bytes: usize,
}

impl<'a> Reader<'a> {
    fn position(&self) -> usize {
        self.size_bytes - self.rest.len()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.take(len).map(drop)
    }

    /// A byte for the sign, then four from the least significant on.
    fn number(&mut self) -> Option<i64> {
        let (sign, digits) = self.take(NUMBER)?.split_first()?;
        let size = i64::from(u32::from_le_bytes(digits.try_into().ok()?));
        Some(if *sign == 0 { size } else { -size })
    }

    /// `Some(None)` for a text that is not there.
    fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.number()?) {
            Ok(len) => self.take(len).map(Some),
            Err(_) => Some(None),
        }
    }

    /// A text that is empty where it is not there.
    fn text(&mut self) -> Option<&'a [u8]> {
        self.bytes().map(Option::unwrap_or_default)
    }

    /// `part` is the one of the entries before: one that belongs to none is restored with those.
    fn entry(&mut self, minor: u8, offset: usize, part: &mut Part) -> Option<RawEntry<'a>> {
        let start = self.position();
        let id = self.number()?;
        self.number()?; // Whether it has rows.
        self.bytes()?; // The object's catalog.
        self.bytes()?; // Its number there.
        let (tag, kind) = (self.text()?, self.text()?);
        match self.number()? {
            2 | 3 => *part = Part::PreData,
            4 => *part = Part::PostData,
            _ => {}
        }
        let definition_start = self.position();
        let definition = self.text()?;
        let definition_place = definition_start..self.position();
        let is_droppable = !self.text()?.is_empty();
        self.bytes()?; // How its rows are copied.
        let namespace = self.text()?;
        self.bytes()?; // Its tablespace.
        self.bytes()?; // Its access method.
        if minor >= HAS_RELATION_KIND {
            self.number()?;
        }
        let owner = self.text()?;
        self.bytes()?; // Whether its rows had numbers, before PostgreSQL 12.
        let mut needs = Vec::new();
        while let Some(number) = self.bytes()? {
            needs.push(std::str::from_utf8(number).ok()?.parse().ok()?);
        }
        self.skip(1 + offset)?;
        Some(RawEntry {
            id,
            needs,
            place: start..self.position(),
            kind,
            tag,
            namespace,
            owner,
            part: *part,
            definition,
            definition_place,
            is_droppable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(out: &mut Vec<u8>, number: i32) {
        out.push(u8::from(number < 0));
        out.extend_from_slice(&number.unsigned_abs().to_le_bytes());
    }

    fn text(out: &mut Vec<u8>, text: &[u8]) {
        number(out, text.len() as i32);
        out.extend_from_slice(text);
    }

    /// An archive with these (kind, section, definition).
    fn archive(minor: u8, entries: &[(&str, i32, &[u8])]) -> Vec<u8> {
        let mut out = [MAGIC, &[1, minor, 0, 4, 8, 1]].concat();
        if minor >= 15 {
            out.push(2)
        } else {
            number(&mut out, -1)
        }
        (0..7).for_each(|field| number(&mut out, field));
        ["shop", "15.18", "15.18"].iter().for_each(|known| text(&mut out, known.as_bytes()));
        number(&mut out, entries.len() as i32);
        for (kind, section, definition) in entries {
            number(&mut out, 7);
            number(&mut out, 0);
            for known in ["1259", "16386", "orders", kind] {
                text(&mut out, known.as_bytes());
            }
            number(&mut out, *section);
            text(&mut out, definition);
            text(&mut out, b"DROP TABLE public.orders;");
            number(&mut out, -1);
            for known in ["public", "", "heap"] {
                text(&mut out, known.as_bytes());
            }
            if minor >= 16 {
                number(&mut out, 114);
            }
            for known in ["shop owner", "false", "7"] {
                text(&mut out, known.as_bytes());
            }
            number(&mut out, -1);
            out.extend_from_slice(&[3; 9]);
        }
        out
    }

    #[test]
    fn every_known_version_is_read() {
        for minor in [14, 15, 16] {
            let made =
                archive(minor, &[("INDEX", 4, b"CREATE INDEX;"), ("ACL", 1, b"GRANT;"), ("TABLE", 2, b"")]);
            let found = read(&made).unwrap();
            assert_eq!(found.len(), 3);
            assert_eq!((found[1].definition.as_str(), found[1].kind.as_str()), ("GRANT;", "ACL"));
            assert_eq!((found[1].part, found[2].part), (Part::PostData, Part::PreData));
            assert_eq!((found[2].owner.as_str(), found[2].is_droppable), ("shop owner", true));
            assert_eq!((found[2].namespace.as_str(), found[2].tag.as_str()), ("public", "orders"));
        }
    }

    #[test]
    fn an_archive_can_be_cut_to_some_of_its_entries() {
        let all = [("INDEX", 4, b"CREATE INDEX;".as_slice()), ("ACL", 1, b"GRANT;"), ("TABLE", 2, b"")];
        let made = archive(15, &all);
        let entries = read(&made).unwrap();
        assert_eq!((entries[0].id, entries[0].needs.as_slice()), (7, [7].as_slice()));
        assert_eq!(only(&made, &entries, &|_| true).unwrap(), made);
        assert_eq!(only(&made, &entries, &|at| at != 1).unwrap(), archive(15, &[all[0], all[2]]));
        assert_eq!(only(&made, &entries, &|_| false).unwrap(), archive(15, &[]));
        let with_rows = [made.as_slice(), b"rows"].concat();
        assert_eq!(only(&with_rows, &entries, &|_| true), None);
    }

    #[test]
    fn user_mappings_keep_no_options() {
        let mapping = |options: &str| {
            format!("CREATE USER MAPPING FOR \"a OPTIONS (\"\"b\" SERVER s{options};\n").into_bytes()
        };
        let (with, without) = (mapping(" OPTIONS (\n    password ' SERVER \"x'\n)"), mapping(""));
        let function = b"SELECT ' OPTIONS (';".as_slice();
        let made = |of_mapping: &[u8]| {
            let all = [("FUNCTION", 2, function), ("USER MAPPING", 2, of_mapping), ("ACL", 1, b"\xe9")];
            archive(16, &all)
        };
        assert_eq!(without_mapping_options(&made(&with)).unwrap(), made(&without));
        assert_eq!(without_mapping_options(&made(&without)).unwrap(), made(&without));
        assert_eq!(without_mapping_options(&archive(17, &[])), None);
    }

    #[test]
    fn what_is_not_known_or_cut_off_is_not_read() {
        let good = archive(16, &[("ACL", 1, b"GRANT;")]);
        assert!(read(&good).is_some());
        (0..good.len()).for_each(|len| assert_eq!(read(&good[..len]), None, "{len}"));
        for bad in
            [archive(17, &[]), archive(13, &[]), b"other".to_vec(), archive(16, &[("ACL", 1, b"\xe9")])]
        {
            assert_eq!(read(&bad), None);
        }
        // Letters of another encoding matter only where roles are named.
        let encoding = |name: &'static [u8]| ("ENCODING", 2, name);
        let made = |name, kind| read(&archive(16, &[encoding(name), (kind, 1, "é".as_bytes())]));
        assert!(made(b"SET client_encoding = 'UTF8';", "ACL").is_some());
        assert!(made(b"SET client_encoding = 'LATIN1';", "ACL").is_none());
        assert!(made(b"SET client_encoding = 'LATIN1';", "FUNCTION").is_some());
    }
}
