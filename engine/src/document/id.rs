//! Ids in lists, and ids that a person types.

use bson::Decimal128;
use repo_format::bson::{self as raw, Elements, kind};

use super::json::{decimal_text, double_text, escape_invalid, relaxed_json};
use super::{Value, read};

/// The document's first `_id` in few words: an ObjectId as its digits, text as it is, a number as its digits,
/// anything else as JSON on one line. Text that is not UTF-8 has its wrong bytes as `\xff`.
pub fn readable_id(document: &[u8]) -> String {
    let elements = Elements::new(document).into_iter().flatten().map_while(Result::ok);
    let Some(id) = elements.into_iter().find(|element| element.name == b"_id") else {
        return "no _id".to_owned();
    };
    let value = Value::of(&id);
    readable(value).unwrap_or_else(|| relaxed_json(value))
}

fn readable(Value { kind, bytes }: Value<'_>) -> Option<String> {
    Some(match kind {
        kind::OBJECT_ID => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        kind::STRING => {
            let text = raw::text(bytes).ok()?;
            std::str::from_utf8(text).map_or_else(|_| escape_invalid(text), str::to_owned)
        }
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

/// The `_id` that a person means by what they typed: type byte and value bytes. 24 hexadecimal digits are an
/// ObjectId (also as `ObjectId("…")`), digits are a number, anything else that reads as Extended JSON is that
/// value, and the rest is text. Nothing for blanks, and for typed JSON without sense (`{"$oid":"x"}`).
pub fn id_from_text(text: &str) -> Option<(u8, Vec<u8>)> {
    let text = text.trim();
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
fn number(text: &str) -> Option<(u8, Vec<u8>)> {
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
