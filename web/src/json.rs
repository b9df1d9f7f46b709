//! Canonical Extended JSON as people read it. Nothing is parsed into values: fields keep their order,
//! repeated ones stay, numbers keep every digit, and a text that was cut is shown as far as it goes.

use crate::format;

/// Columns that a list of plain values may take before its values get lines of their own.
const LINE_CHARS: usize = 76;
const INDENT: &str = "  ";

/// A value: what type it is of, and its text without the wrapping that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// As the database names it: "int", "long", "ObjectId", "string".
    pub kind: &'static str,
    /// Its text; strings keep their quotes.
    pub text: String,
}

impl Typed {
    /// Whether the text alone says what it is.
    pub fn is_plain(&self) -> bool {
        matches!(self.kind, "string" | "bool" | "null" | "object" | "array" | "undefined")
    }
}

/// Pieces of a JSON text: punctuation, or a string, number or word as it stands.
fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let end = match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {
                at += 1;
                continue;
            }
            b'{' | b'}' | b'[' | b']' | b':' | b',' => at + 1,
            b'"' => string_end(bytes, at),
            _ => word_end(bytes, at),
        };
        found.push(&text[at..end]);
        at = end;
    }
    found
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn word_end(bytes: &[u8], start: usize) -> usize {
    let ends = |byte: &u8| matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',' | b'"' | b' ' | b'\n');
    bytes[start..].iter().position(ends).map_or(bytes.len(), |length| start + length)
}

/// A string's text between its quotes, escapes and all.
fn unquoted(token: &str) -> &str {
    let text = token.strip_prefix('"').unwrap_or(token);
    text.strip_suffix('"').unwrap_or(text)
}

/// Where the group that opens at `open` closes; none where the text was cut before that.
fn close(tokens: &[&str], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "{" | "[" => depth += 1,
            "}" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Whether an object stands for one value that JSON has no form of, such as `{"$oid": ..}`.
fn is_wrapper(tokens: &[&str], open: usize) -> bool {
    const WRAPPERS: [&str; 20] = [
        "$oid",
        "$symbol",
        "$numberInt",
        "$numberLong",
        "$numberDouble",
        "$numberDecimal",
        "$binary",
        "$code",
        "$timestamp",
        "$regularExpression",
        "$dbPointer",
        "$date",
        "$minKey",
        "$maxKey",
        "$undefined",
        "$scope",
        "$uuid",
        "$bson",
        "$invalidUtf8",
        "$truncated",
    ];
    let Some(key) = tokens.get(open + 1).filter(|_| tokens[open] == "{") else { return false };
    WRAPPERS.contains(&unquoted(key))
}

/// Whether a group is written on one line: an empty one, a wrapped value, a short list of such.
fn is_inline(tokens: &[&str], open: usize) -> Option<usize> {
    let end = close(tokens, open)?;
    if end == open + 1 || is_wrapper(tokens, open) {
        return Some(end);
    }
    if tokens[open] == "{" {
        return None;
    }
    let mut at = open + 1;
    while at < end {
        at = match tokens[at] {
            "[" => return None,
            "{" if is_wrapper(tokens, at) => close(tokens, at)?,
            "{" => return None,
            _ => at,
        } + 1;
    }
    let length: usize = tokens[open..end].iter().map(|token| token.chars().count() + 1).sum();
    (length <= LINE_CHARS).then_some(end)
}

fn joined(tokens: &[&str]) -> String {
    let mut text = String::new();
    for token in tokens {
        text.push_str(token);
        if matches!(*token, ":" | ",") {
            text.push(' ');
        }
    }
    text
}

/// A document over several lines, one field or value on each.
pub fn pretty(text: &str) -> String {
    let tokens = tokens(text);
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut at) = (0_usize, 0);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(INDENT, depth));
    };
    while let Some(&token) = tokens.get(at) {
        match token {
            "{" | "[" => match is_inline(&tokens, at) {
                Some(end) => {
                    out.push_str(&joined(&tokens[at..=end]));
                    at = end;
                }
                None => {
                    out.push_str(token);
                    depth += 1;
                    line(&mut out, depth);
                }
            },
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                line(&mut out, depth);
            }
            ":" => out.push_str(": "),
            word => out.push_str(word),
        }
        at += 1;
    }
    out
}

/// A value's type and its text.
pub fn typed(text: &str) -> Typed {
    let tokens = tokens(text);
    typed_tokens(&tokens)
}

fn typed_tokens(tokens: &[&str]) -> Typed {
    let of = |kind, text: &str| Typed { kind, text: text.to_owned() };
    match tokens.first().copied() {
        Some("[") => of("array", &joined(tokens)),
        Some("{") if is_wrapper(tokens, 0) => wrapped(tokens),
        Some("{") => of("object", &joined(tokens)),
        Some("null") => of("null", "null"),
        Some(word @ ("true" | "false")) => of("bool", word),
        Some(text) if text.starts_with('"') => of("string", text),
        Some(number) => of("number", number),
        None => of("string", ""),
    }
}

/// `{"$numberInt": "3"}` and its kind: the key says the type, what follows is the value.
fn wrapped(tokens: &[&str]) -> Typed {
    let inner = || tokens.get(3).map_or("", |text| unquoted(text)).to_owned();
    let parts = || joined(tokens.get(3..tokens.len() - 1).unwrap_or_default());
    let of = |kind, text| Typed { kind, text };
    match unquoted(tokens[1]) {
        "$oid" => of("ObjectId", inner()),
        "$numberInt" => of("int", inner()),
        "$numberLong" => of("long", inner()),
        "$numberDouble" => of("double", inner()),
        "$numberDecimal" => of("decimal", inner()),
        "$symbol" => of("symbol", tokens.get(3).map(|text| (*text).to_owned()).unwrap_or_default()),
        "$date" => of("date", date(tokens)),
        "$timestamp" => of("timestamp", numbers(tokens).join(", ")),
        "$binary" => of("binary", parts()),
        "$uuid" => of("UUID", inner()),
        "$regularExpression" => of("regex", parts()),
        "$code" if tokens.contains(&"\"$scope\"") => of("code with scope", parts()),
        "$code" => of("code", parts()),
        "$dbPointer" => of("DBPointer", parts()),
        "$minKey" => of("MinKey", "MinKey".to_owned()),
        "$maxKey" => of("MaxKey", "MaxKey".to_owned()),
        "$undefined" => of("undefined", "undefined".to_owned()),
        "$bson" => of("raw BSON", parts()),
        // In the place of what is too long to show, its size.
        "$truncated" => of("too long to show", format!("{} bytes", inner())),
        "$invalidUtf8" => {
            of("string, not UTF-8", tokens.get(3).map(|text| (*text).to_owned()).unwrap_or_default())
        }
        _ => of("object", joined(tokens)),
    }
}

/// The numbers of `{"$timestamp": {"t": 1, "i": 2}}`, in order.
fn numbers<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    tokens.iter().copied().filter(|token| token.starts_with(|c: char| c.is_ascii_digit())).collect()
}

/// A date as it is written in mongosh; one beyond four digits of the year stays milliseconds.
fn date(tokens: &[&str]) -> String {
    let digits = tokens.iter().rev().find(|token| token.len() > 2 && token.starts_with('"'));
    let digits = digits.map_or("", |text| unquoted(text));
    match digits.parse::<i64>() {
        Ok(at_ms) if (-62_135_596_800_000..253_402_300_800_000).contains(&at_ms) => {
            let second = format::rfc3339(at_ms);
            format!("{}.{:03}Z", second.trim_end_matches('Z'), at_ms.rem_euclid(1000))
        }
        Ok(at_ms) => format!("{at_ms} ms"),
        Err(_) => digits.to_owned(),
    }
}

/// A document's top-level fields: names as JSON writes them, and their values.
pub fn fields(text: &str) -> Vec<(String, Typed)> {
    let tokens = tokens(text);
    let (mut found, mut at) = (Vec::new(), 1);
    if tokens.first() != Some(&"{") {
        return found;
    }
    while at + 2 < tokens.len() && tokens[at + 1] == ":" {
        let start = at + 2;
        let end = match tokens[start] {
            "{" | "[" => close(&tokens, start).unwrap_or(tokens.len() - 1),
            _ => start,
        };
        found.push((unquoted(tokens[at]).to_owned(), typed_tokens(&tokens[start..=end])));
        // Over the comma.
        at = end + 2;
    }
    found
}

/// A document in a few words, without its `_id`: what tells it apart in a list.
pub fn preview(text: &str) -> String {
    const PREVIEW_CHARS: usize = 220;
    const VALUE_CHARS: usize = 48;
    let mut out = String::new();
    for (name, value) in fields(text) {
        if name == "_id" {
            continue;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        if out.chars().count() > PREVIEW_CHARS {
            out.push('…');
            break;
        }
        let text = match value.kind {
            "object" if value.text != "{}" => "{…}".to_owned(),
            "array" if value.text != "[]" => "[…]".to_owned(),
            _ => clipped(&value.text, VALUE_CHARS),
        };
        out.push_str(&format!("{name}: {text}"));
    }
    out
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A JSON pointer (RFC 6901) in MongoDB's dotted form. A name that would read as several, or as none,
/// is quoted.
pub fn path(pointer: &str) -> String {
    let parts = pointer.strip_prefix('/').map(|rest| rest.split('/'));
    let parts = parts.into_iter().flatten().map(|part| {
        let name = part.replace("~1", "/").replace("~0", "~");
        if name.is_empty() || name.contains(['.', '"', ' ']) { format!("{name:?}") } else { name }
    });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"_id":{"$oid":"65f0c0ffee65f0c0ffee65f0"},"qty":{"$numberInt":"3"},
        "tags":["a, b","c"],"to":{"city":"Bern","zip":null},"none":{},"lines":[{"sku":"k1"},[]]}"#;

    #[test]
    fn a_document_gets_a_line_for_every_field_and_values_stay_whole() {
        let expected = r#"{
  "_id": {"$oid": "65f0c0ffee65f0c0ffee65f0"},
  "qty": {"$numberInt": "3"},
  "tags": ["a, b", "c"],
  "to": {
    "city": "Bern",
    "zip": null
  },
  "none": {},
  "lines": [
    {
      "sku": "k1"
    },
    []
  ]
}"#;
        assert_eq!(pretty(ORDER), expected);
        assert_eq!(pretty(expected), expected);
    }

    #[test]
    fn repeated_fields_and_their_order_stay() {
        assert_eq!(pretty(r#"{"b":1,"a":2,"b":3}"#), "{\n  \"b\": 1,\n  \"a\": 2,\n  \"b\": 3\n}");
    }

    #[test]
    fn long_lists_get_lines_and_a_cut_text_goes_as_far_as_it_goes() {
        let long = format!("[{}]", ["\"0123456789\""; 9].join(","));
        assert_eq!(pretty(&long).lines().count(), 11);
        assert_eq!(pretty(r#"{"a":{"b":"x\"y"#), "{\n  \"a\": {\n    \"b\": \"x\\\"y");
        for end in 0..ORDER.len() {
            let (text, kind) = (pretty(&ORDER[..end]), typed(&ORDER[..end]));
            assert!(text.len() + kind.text.len() + preview(&ORDER[..end]).len() < 4000);
        }
    }

    #[test]
    fn types_are_told_apart_although_values_look_alike() {
        let kinds = [
            (r#"{"$numberInt":"3"}"#, "int", "3"),
            (r#"{"$numberLong": "3"}"#, "long", "3"),
            (r#"{"$numberDouble":"3.0"}"#, "double", "3.0"),
            (r#"{"$numberDecimal":"3.00"}"#, "decimal", "3.00"),
            (r#""3""#, "string", "\"3\""),
            (r#"{"$date":{"$numberLong":"951782400007"}}"#, "date", "2000-02-29T00:00:00.007Z"),
            (r#"{"$date":{"$numberLong":"-62135596800001"}}"#, "date", "-62135596800001 ms"),
            (r#"{"$date":"2026-03-14T12:28:51.420Z"}"#, "date", "2026-03-14T12:28:51.420Z"),
            (r#"{"$timestamp":{"t":7,"i":2}}"#, "timestamp", "7, 2"),
            (r#"{"$code":"x","$scope":{}}"#, "code with scope", "\"x\", \"$scope\": {}"),
            (r#"{"$minKey":1}"#, "MinKey", "MinKey"),
            (r#"{"$ref":"a","$id":1}"#, "object", "{\"$ref\": \"a\", \"$id\": 1}"),
            (r#"{"$truncated":100005}"#, "too long to show", "100005 bytes"),
            ("null", "null", "null"),
            ("[]", "array", "[]"),
        ];
        for (text, kind, shown) in kinds {
            assert_eq!(typed(text), Typed { kind, text: shown.to_owned() }, "{text}");
        }
    }

    #[test]
    fn a_preview_names_the_fields_without_the_id() {
        assert_eq!(preview(ORDER), r#"qty: 3, tags: […], to: {…}, none: {}, lines: […]"#);
        let names: Vec<_> = fields(ORDER).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["_id", "qty", "tags", "to", "none", "lines"]);
        assert_eq!(preview("{}"), "");
    }

    #[test]
    fn paths_are_dotted_and_odd_names_quoted() {
        assert_eq!(path("/items/2/qty"), "items.2.qty");
        assert_eq!(path("/a~1b~0c/x.y/"), r#"a/b~c."x.y"."""#);
        assert_eq!(path(""), "");
    }
}
