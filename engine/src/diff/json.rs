//! Texts of PostgreSQL's type `json`, which keeps what was typed.

/// Whether two texts are the same tokens in the same order, with other white space between them.
/// Whatever the texts are, what stands inside of strings counts.
pub(super) fn differ_in_format_only(old: &[u8], new: &[u8]) -> bool {
    old != new && Tokens::new(old).eq(Tokens::new(new))
}

/// The bytes of a text that are not white space between tokens. Of white space that keeps two
/// tokens apart one is left: `1 2` is not `12`.
struct Tokens<'a> {
    rest: &'a [u8],
    in_string: bool,
    last: Option<u8>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { rest: text, in_string: false, last: None }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether white space beside it may go: brackets, colons and commas end every token.
fn is_punctuation(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',')
}

impl Iterator for Tokens<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        if self.in_string {
            // What a backslash escapes ends no string.
            let escapes = self.last == Some(b'\\');
            self.in_string = escapes || first != b'"';
            self.last = if escapes { None } else { Some(first) };
            self.rest = rest;
            return Some(first);
        }
        let after = self.rest.iter().position(|byte| !is_space(*byte)).unwrap_or(self.rest.len());
        if after > 0 {
            let next = self.rest.get(after).copied();
            self.rest = &self.rest[after..];
            let keeps_apart = self.last.is_some_and(|last| !is_punctuation(last))
                && next.is_some_and(|next| !is_punctuation(next));
            return if keeps_apart { Some(b' ') } else { self.next() };
        }
        self.rest = rest;
        self.in_string = first == b'"';
        self.last = if self.in_string { None } else { Some(first) };
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(old: &str, new: &str) -> bool {
        let both = differ_in_format_only(old.as_bytes(), new.as_bytes());
        assert_eq!(both, differ_in_format_only(new.as_bytes(), old.as_bytes()));
        both
    }

    #[test]
    fn white_space_between_tokens_is_format_and_nothing_else_is() {
        assert!(same(r#"{"a":1,"b":[1,2]}"#, "{ \"a\" : 1,\n\t\"b\": [ 1, 2 ] }\r\n"));
        assert!(same(r#"{"a b":"x \" y"}"#, r#"{"a b" : "x \" y"}"#));
        assert!(same(r#"["\\", 1]"#, r#"["\\",1]"#));
        // Equal texts do not differ at all.
        assert!(!same("{}", "{}"));
        for (old, new) in [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a b":1}"#, r#"{"a  b":1}"#),
            (r#"{"a":"x "}"#, r#"{"a":"x"}"#),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
            (r#"{"a":1.0}"#, r#"{"a":1}"#),
            (r#"["\" ,", 1]"#, r#"["\",", 1]"#),
            ("1 2", "12"),
            ("", " x"),
        ] {
            assert!(!same(old, new), "{old} and {new}");
        }
    }
}
