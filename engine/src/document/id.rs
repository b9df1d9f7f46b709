//! Ids in lists, and ids that a person types.
//!
//! What a list shows is what can be typed: every form reads back to the same key, so no two keys look alike.

use bson::Decimal128;
use repo_format::bson::{self as raw, Elements, kind};
use repo_format::order::bson::push_id;

use super::Value;
use super::json::{decimal_text, double_text, relaxed_json, value_json};
use super::read::{self, Parsed, Tree};

/// Characters of an id that are shown. Of longer ones the size is told.
const SHOWN: usize = 100;

/// The document's first `_id` as [`id_from_text`] reads it, on one line: an ObjectId as its digits, text as it is
/// and a number as its digits where that can mean nothing else; otherwise Extended JSON. What cannot be seen is
/// escaped. An id that is too long ends with its size, and if it is text, its beginning reads back.
pub fn readable_id(document: &[u8]) -> String {
    let elements = Elements::new(document).into_iter().flatten().map_while(Result::ok);
    let Some(id) = elements.into_iter().find(|element| element.name == b"_id") else {
        return "no _id".to_owned();
    };
    let value = Value::of(&id);
    let plain = plain(value).filter(|text| !is_unclear(text));
    let forms = [plain, Some(visible(&relaxed_json(value)))];
    let whole = forms.into_iter().flatten().find(|text| means(text, value));
    let whole = whole.unwrap_or_else(|| visible(&value_json(value)));
    if whole.chars().nth(SHOWN).is_none() { whole } else { shortened(value, &whole) }
}

fn plain(Value { kind, bytes }: Value<'_>) -> Option<String> {
    Some(match kind {
        kind::OBJECT_ID => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        kind::STRING => std::str::from_utf8(raw::text(bytes).ok()?).ok()?.to_owned(),
        kind::INT32 => i32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        kind::INT64 => i64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        kind::DOUBLE => {
            let text = double_text(f64::from_le_bytes(bytes.try_into().ok()?));
            text.strip_suffix(".0").unwrap_or(&text).to_owned()
        }
        kind::DECIMAL128 => decimal_text(bytes.try_into().ok()?),
        _ => return None,
    })
}

/// Whether the text reads back to the value's key.
fn means(text: &str, value: Value<'_>) -> bool {
    let key = |kind, bytes: &[u8]| {
        let mut key = Vec::new();
        push_id(&mut key, kind, bytes).ok().map(|()| key)
    };
    let typed = id_from_text(text).and_then(|(kind, bytes)| key(kind, &bytes));
    typed.is_some() && typed == key(value.kind, value.bytes)
}

/// Whether a page would show other characters than these, or none.
fn is_unclear(text: &str) -> bool {
    text.contains("  ") || text.chars().any(is_unseen)
}

/// Characters that have no width, turn the direction of what follows, or look like a space.
fn is_unseen(c: char) -> bool {
    const INVISIBLE: [std::ops::RangeInclusive<char>; 15] = [
        '\u{ad}'..='\u{ad}',
        '\u{34f}'..='\u{34f}',
        '\u{61c}'..='\u{61c}',
        '\u{115f}'..='\u{1160}',
        '\u{17b4}'..='\u{17b5}',
        '\u{180b}'..='\u{180f}',
        '\u{200b}'..='\u{200f}',
        '\u{202a}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{3164}'..='\u{3164}',
        '\u{fe00}'..='\u{fe0f}',
        '\u{feff}'..='\u{feff}',
        '\u{ffa0}'..='\u{ffa0}',
        '\u{fff9}'..='\u{fffb}',
        '\u{e0000}'..='\u{e0fff}',
    ];
    c.is_control() || (c != ' ' && c.is_whitespace()) || INVISIBLE.iter().any(|range| range.contains(&c))
}

/// JSON that means the same, with escapes for what cannot be seen.
fn visible(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut last = None;
    for c in json.chars() {
        if is_unseen(c) || (c == ' ' && last == Some(' ')) {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
        last = Some(c);
    }
    out
}

/// The beginning of an id, and its size.
fn shortened(value: Value<'_>, whole: &str) -> String {
    let text = raw::text(value.bytes).ok().filter(|_| value.kind == kind::STRING);
    let (begun, len) = match text.and_then(|text| std::str::from_utf8(text).ok()) {
        Some(text) => {
            let json = |text: &str| {
                visible(&relaxed_json(Value { kind: kind::STRING, bytes: &read::string(text.as_bytes()) }))
            };
            let ends = text.char_indices().map(|(end, _)| end).take(SHOWN + 1);
            let fits = |end: &usize| json(&text[..*end]).len() <= SHOWN * 4;
            let end = ends.take_while(fits).last().unwrap_or_default();
            (json(&text[..end]), text.len())
        }
        None => (whole.chars().take(SHOWN).collect(), value.bytes.len()),
    };
    format!("{begun}… ({len} bytes)")
}

/// What [`shortened`] put before the size, of a text that ends with one.
fn without_size(text: &str) -> Option<&str> {
    let (begun, size) = text.rsplit_once("… (")?;
    let digits = size.strip_suffix(" bytes)")?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(begun)
}

/// The `_id` that a person means by what they typed: type byte and value bytes. 24 hexadecimal digits are an
/// ObjectId (also as `ObjectId("…")`), digits are a number, anything else that reads as Extended JSON is that
/// value, and the rest is text. Nothing for blanks, for typed JSON without sense (`{"$oid":"x"}`), and for what
/// [`readable_id`] shortened, unless it is text: that is then its beginning.
pub fn id_from_text(text: &str) -> Option<(u8, Vec<u8>)> {
    let text = text.trim();
    if let Some(begun) = without_size(text) {
        return match serde_json::from_str(begun) {
            Ok(Tree::Text(begun)) => Some((kind::STRING, read::string(begun.as_bytes()))),
            _ => None,
        };
    }
    let shell = text.strip_prefix("ObjectId(").and_then(|rest| rest.strip_suffix(')'));
    let digits = shell.map_or(text, |quoted| quoted.trim_matches(['"', '\'']));
    if let Some(id) = read::object_id(digits) {
        return Some((kind::OBJECT_ID, id));
    }
    if text.is_empty() {
        return None;
    }
    let parsed =
        match text.strip_prefix('-').unwrap_or(text).starts_with(|first: char| first.is_ascii_digit()) {
            true => number(text),
            false => match serde_json::from_str(text) {
                Ok(tree) => return read::value(&tree),
                Err(_) => None,
            },
        };
    parsed.or_else(|| Some((kind::STRING, read::string(text.as_bytes()))))
}

/// Integers of up to 34 digits, exactly, and other numbers as doubles. Digits with a zero in front are text.
fn number(text: &str) -> Option<Parsed> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned.starts_with('0') && unsigned.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(value) => Some(read::integer(value)),
            Err(_) => text.parse::<Decimal128>().ok().map(|value| (kind::DECIMAL128, value.bytes().to_vec())),
        };
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then(|| (kind::DOUBLE, value.to_le_bytes().to_vec()))
}
