//! How differences look: a glyph and a word for a record, `<del>` and `<ins>` for a value.

use maud::{Markup, html};

use super::table::value;

/// What happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the newer side has it.
    Added,
    /// Both have it, with other values.
    Changed,
    /// Only the older side has it.
    Removed,
}

impl ChangeKind {
    /// All, in the order of the tabs.
    pub const ALL: [Self; 3] = [Self::Added, Self::Changed, Self::Removed];

    /// Its value in addresses and in the API; also its class.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }

    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "Added",
            Self::Changed => "Modified",
            Self::Removed => "Deleted",
        }
    }

    fn glyph(self) -> &'static str {
        match self {
            Self::Added => "+",
            Self::Changed => "~",
            Self::Removed => "\u{2212}",
        }
    }
}

/// The glyph and the word.
pub fn label(kind: ChangeKind) -> Markup {
    html! {
        span.change.(kind.as_str()) { span.glyph aria-hidden="true" { (kind.glyph()) } " " (kind.name()) }
    }
}

/// How many records of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Only on the newer side.
    pub added: u64,
    /// Only on the older side.
    pub removed: u64,
    /// On both, different.
    pub changed: u64,
    /// On both, equal.
    pub unchanged: u64,
    /// Of the changed ones, those that differ in nothing but the order of their fields.
    pub order_only: u64,
}

impl Counts {
    /// Those of one kind.
    pub fn of(&self, kind: ChangeKind) -> u64 {
        match kind {
            ChangeKind::Added => self.added,
            ChangeKind::Changed => self.changed,
            ChangeKind::Removed => self.removed,
        }
    }

    /// All but the unchanged.
    pub fn differing(&self) -> u64 {
        self.added + self.changed + self.removed
    }
}

/// A value that was one thing and is another. Text that both share is elided when `short`, and
/// what differs within a longer text is marked.
pub fn cell(old: Option<&str>, new: Option<&str>, short: bool) -> Markup {
    let parts = match (old, new) {
        (Some(old), Some(new)) => split(old, new),
        _ => None,
    };
    html! {
        div.was-now {
            del { span.visually-hidden { "was " } span.glyph aria-hidden="true" { "\u{2212}" }
                @match parts {
                    Some(p) => { (marked(p.before, p.old, p.after, short)) }
                    None => { (value(old)) }
                }
            }
            ins { span.visually-hidden { " now " } span.glyph aria-hidden="true" { "+" }
                @match parts {
                    Some(p) => { (marked(p.before, p.new, p.after, short)) }
                    None => { (value(new)) }
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts<'a> {
    before: &'a str,
    old: &'a str,
    new: &'a str,
    after: &'a str,
}

/// Texts shorter than this are quicker read whole.
const WORTH_SPLITTING: usize = 12;
/// How much of a shared beginning or end is shown around a difference.
const CONTEXT_CHARS: usize = 24;
/// Pieces of longer words are marked alone.
const LONGEST_WORD_CHARS: usize = 16;

/// The shared beginning and end of two texts, when that leaves a smaller difference to look at.
fn split<'a>(old: &'a str, new: &'a str) -> Option<Parts<'a>> {
    if old.len() < WORTH_SPLITTING || new.len() < WORTH_SPLITTING {
        return None;
    }
    let before = shared_chars(old.chars(), new.chars());
    let before = before - part_of_word(old[..before].chars().rev());
    let (old_rest, new_rest) = (&old[before..], &new[before..]);
    let after = shared_chars(old_rest.chars().rev(), new_rest.chars().rev());
    let after = after - part_of_word(old_rest[old_rest.len() - after..].chars());
    if before + after < old.len().max(new.len()) / 3 {
        return None;
    }
    Some(Parts {
        before: &old[..before],
        old: &old_rest[..old_rest.len() - after],
        new: &new_rest[..new_rest.len() - after],
        after: &old_rest[old_rest.len() - after..],
    })
}

/// Bytes of the piece of a word at the start of shared text, which reads better marked with the rest
/// of its word. None where the word is long: then it is no word, but an identifier or a number.
fn part_of_word(chars: impl Iterator<Item = char>) -> usize {
    let mut size_bytes = 0;
    for (n, c) in chars.take_while(|c| c.is_alphanumeric()).enumerate() {
        if n == LONGEST_WORD_CHARS {
            return 0;
        }
        size_bytes += c.len_utf8();
    }
    size_bytes
}

/// Bytes of the characters at the start of both.
fn shared_chars(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

fn marked(before: &str, differing: &str, after: &str, short: bool) -> Markup {
    html! {
        span.value {
            @if short { (elided_start(before)) } @else { (before) }
            @if !differing.is_empty() { mark { (differing) } }
            @if short { (elided_end(after)) } @else { (after) }
        }
    }
}

fn elided_start(text: &str) -> Markup {
    let skipped = text.chars().count().saturating_sub(CONTEXT_CHARS);
    let from = text.char_indices().nth(skipped).map_or(text.len(), |(at, _)| at);
    html! { @if skipped > 1 { span.elided { "…" } (&text[from..]) } @else { (text) } }
}

fn elided_end(text: &str) -> Markup {
    let to = text.char_indices().nth(CONTEXT_CHARS).map(|(at, _)| at);
    html! {
        @match to {
            Some(to) if text[to..].chars().nth(1).is_some() => { (&text[..to]) span.elided { "…" } }
            _ => { (text) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_within_a_text_is_found_between_shared_ends() {
        let parts = split("price: 100 EUR net", "price: 120 EUR net").expect("long enough");
        assert_eq!(parts, Parts { before: "price: ", old: "100", new: "120", after: " EUR net" });
    }

    #[test]
    fn repeated_text_is_not_shared_twice() {
        let parts = split("ab ab ab ab ab ", "ab ab ab ab ab ab ").expect("long enough");
        assert_eq!(format!("{}{}{}", parts.before, parts.old, parts.after), "ab ab ab ab ab ");
        assert_eq!(format!("{}{}{}", parts.before, parts.new, parts.after), "ab ab ab ab ab ab ");
    }

    #[test]
    fn characters_of_several_bytes_are_not_cut() {
        let parts =
            split("ääääääää öxxxxxxxxxxxxxxxxxx", "ääääääää üxxxxxxxxxxxxxxxxxx").expect("long enough");
        assert_eq!((parts.old, parts.new), ("ö", "ü"));
    }

    #[test]
    fn short_or_unrelated_texts_are_shown_whole() {
        assert_eq!(split("paid", "unpaid"), None);
        assert_eq!(split("completely different", "another text here!!!"), None);
    }

    #[test]
    fn long_shared_text_is_elided_only_when_asked() {
        let (old, new) =
            (format!("{}1{}", "a".repeat(90), "b".repeat(90)), "a".repeat(90) + "2" + &"b".repeat(90));
        let short = cell(Some(&old), Some(&new), true).into_string();
        assert!(short.contains("…") && !short.contains(&"a".repeat(30)), "{short}");
        let whole = cell(Some(&old), Some(&new), false).into_string();
        assert!(whole.contains(&"a".repeat(90)) && !whole.contains("…"));
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        let html = cell(None, Some(""), true).into_string();
        assert!(html.contains("NULL") && html.contains("empty"));
    }
}
