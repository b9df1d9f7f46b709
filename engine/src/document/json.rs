//! Writing Extended JSON.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::Decimal128;
use repo_format::bson::{self as raw, Element, kind};

use super::shape::{elements, positional};
use super::{DEEPEST, INVALID, INVALID_NAME, Value, reserved};

/// The last millisecond of the year 9999.
const LAST_ISO_DATE: i64 = 253_402_300_799_999;

/// The document as Extended JSON on one line, in the form that the [module](super) describes.
pub fn extended_json(document: &[u8]) -> String {
    let mut writer = Writer { out: String::with_capacity(document.len() * 2), relaxed: false, pretty: false };
    writer.document(document);
    writer.out
}

/// The document as [`extended_json`] has it, with a line for each field and element, indented by two spaces a
/// level. Typed values stay on one line.
pub fn extended_json_pretty(document: &[u8]) -> String {
    let mut writer = Writer { out: String::with_capacity(document.len() * 3), relaxed: false, pretty: true };
    writer.document(document);
    writer.out
}

/// A field's name as a JSON string.
pub(super) fn name_json(name: &[u8]) -> String {
    let mut writer = Writer { out: String::new(), relaxed: false, pretty: false };
    writer.name(name);
    writer.out
}

/// One value as Extended JSON on one line.
pub(super) fn value_json(value: Value<'_>) -> String {
    let mut writer = Writer { out: String::new(), relaxed: false, pretty: false };
    writer.value(value, 1);
    writer.out
}

/// One value on one line with numbers as plain digits where they read back as the same number.
pub(super) fn relaxed_json(value: Value<'_>) -> String {
    let mut writer = Writer { out: String::new(), relaxed: true, pretty: false };
    writer.value(value, 1);
    writer.out
}

/// Text with the bytes that are not UTF-8 as `\xff`, and backslashes doubled to tell them apart.
pub(super) fn escape_invalid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A finite double as the shortest decimal that reads back as it.
pub(super) fn double_text(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        value => format!("{value:?}"),
    }
}

pub(super) fn decimal_text(bytes: [u8; 16]) -> String {
    Decimal128::from_bytes(bytes).to_string()
}

struct Writer {
    out: String,
    relaxed: bool,
    pretty: bool,
}

impl Writer {
    /// A document that is not inside another: it is never taken for a typed value, so it needs no mark for
    /// that.
    fn document(&mut self, document: &[u8]) {
        match elements(document) {
            Some(elements) if !elements.iter().any(|one| one.name == b"$bson" || cannot_be_marked(one)) => {
                self.object(&elements, 0);
            }
            _ => self.raw(Value { kind: kind::DOCUMENT, bytes: document }),
        }
    }

    fn value(&mut self, value: Value<'_>, depth: usize) {
        let start = self.out.len();
        if depth > DEEPEST || self.known(value, depth).is_none() {
            self.out.truncate(start);
            self.raw(value);
        }
    }

    /// Writes the value if Extended JSON, with its marks, has a form for exactly these bytes.
    fn known(&mut self, Value { kind, bytes }: Value<'_>, depth: usize) -> Option<()> {
        match kind {
            kind::DOUBLE => self.double(f64::from_le_bytes(bytes.try_into().ok()?)),
            kind::INT32 => self.integer("$numberInt", i32::from_le_bytes(bytes.try_into().ok()?).into()),
            kind::INT64 => self.integer("$numberLong", i64::from_le_bytes(bytes.try_into().ok()?)),
            kind::DECIMAL128 => self.decimal(bytes.try_into().ok()?),
            kind::STRING => self.text(raw::text(bytes).ok()?),
            kind::SYMBOL => self.wrapped("$symbol", raw::text(bytes).ok()?),
            kind::CODE => self.wrapped("$code", raw::text(bytes).ok()?),
            kind::DOCUMENT => return self.embedded(bytes, depth),
            kind::ARRAY => return self.array(bytes, depth),
            kind::BINARY => return self.binary(bytes),
            kind::OBJECT_ID => self.print(format_args!(r#"{{"$oid":"{}"}}"#, hex(bytes))),
            kind::BOOLEAN if bytes == [0] => self.out.push_str("false"),
            kind::BOOLEAN if bytes == [1] => self.out.push_str("true"),
            kind::DATE => self.date(i64::from_le_bytes(bytes.try_into().ok()?)),
            kind::TIMESTAMP => {
                let both = u64::from_le_bytes(bytes.try_into().ok()?);
                self.print(format_args!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, both >> 32, both as u32));
            }
            kind::REGEX => {
                let (pattern, options) = raw::regex(bytes).ok()?;
                self.out.push_str(r#"{"$regularExpression":{"pattern":"#);
                self.text(pattern);
                self.out.push_str(r#","options":"#);
                self.text(options);
                self.out.push_str("}}");
            }
            kind::DB_POINTER => {
                let (namespace, id) = raw::db_pointer(bytes).ok()?;
                self.out.push_str(r#"{"$dbPointer":{"$ref":"#);
                self.text(namespace);
                self.print(format_args!(r#","$id":{{"$oid":"{}"}}}}}}"#, hex(id)));
            }
            kind::CODE_WITH_SCOPE => {
                let (code, scope) = raw::code_with_scope(bytes).ok()?;
                self.out.push_str(r#"{"$code":"#);
                self.text(code);
                self.out.push_str(r#","$scope":"#);
                self.value(Value { kind: kind::DOCUMENT, bytes: scope }, depth + 1);
                self.out.push('}');
            }
            kind::UNDEFINED => self.out.push_str(r#"{"$undefined":true}"#),
            kind::NULL => self.out.push_str("null"),
            kind::MIN_KEY => self.out.push_str(r#"{"$minKey":1}"#),
            kind::MAX_KEY => self.out.push_str(r#"{"$maxKey":1}"#),
            _ => return None,
        }
        Some(())
    }

    /// What nothing else can show, as its type and its bytes.
    fn raw(&mut self, Value { kind, bytes }: Value<'_>) {
        let encoded = BASE64.encode(bytes);
        self.print(format_args!(r#"{{"$bson":{{"type":"{kind:02x}","base64":"{encoded}"}}}}"#));
    }

    fn embedded(&mut self, bytes: &[u8], depth: usize) -> Option<()> {
        let elements = elements(bytes)?;
        if elements.iter().any(cannot_be_marked) {
            return None;
        }
        let marked = elements.iter().any(|one| reserved(one.name));
        self.marked(marked.then_some("$document"), &elements, depth);
        Some(())
    }

    fn array(&mut self, bytes: &[u8], depth: usize) -> Option<()> {
        let elements = elements(bytes)?;
        if !positional(&elements) {
            if elements.iter().any(cannot_be_marked) {
                return None;
            }
            self.marked(Some("$array"), &elements, depth);
            return Some(());
        }
        self.out.push('[');
        for (at, element) in elements.iter().enumerate() {
            self.next_line(at > 0, depth + 1);
            self.value(Value::of(element), depth + 1);
        }
        self.close(']', elements.is_empty(), depth);
        Some(())
    }

    fn marked(&mut self, mark: Option<&str>, elements: &[Element<'_>], depth: usize) {
        if let Some(mark) = mark {
            self.print(format_args!(r#"{{"{mark}":"#));
        }
        self.object(elements, depth);
        if mark.is_some() {
            self.out.push('}');
        }
    }

    fn object(&mut self, elements: &[Element<'_>], depth: usize) {
        self.out.push('{');
        for (at, element) in elements.iter().enumerate() {
            self.next_line(at > 0, depth + 1);
            self.name(element.name);
            self.out.push_str(if self.pretty { ": " } else { ":" });
            self.value(Value::of(element), depth + 1);
        }
        self.close('}', elements.is_empty(), depth);
    }

    fn name(&mut self, name: &[u8]) {
        match std::str::from_utf8(name) {
            Ok(name) => self.string(name),
            Err(_) => self.string(&format!("{INVALID_NAME}{}", escape_invalid(name))),
        }
    }

    fn next_line(&mut self, comma: bool, depth: usize) {
        if comma {
            self.out.push(',');
        }
        if self.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", depth));
        }
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.next_line(false, depth);
        }
        self.out.push(bracket);
    }

    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        _ = self.out.write_fmt(text);
    }

    fn wrapped(&mut self, name: &str, text: &[u8]) {
        self.print(format_args!(r#"{{"{name}":"#));
        self.text(text);
        self.out.push('}');
    }

    fn text(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.string(text),
            Err(_) => {
                self.print(format_args!(r#"{{"{INVALID}":"#));
                self.string(&escape_invalid(bytes));
                self.out.push('}');
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for part in text.split_inclusive(|c: char| c < ' ' || c == '"' || c == '\\') {
            let mut chars = part.chars();
            match chars.next_back() {
                Some(last @ ('"' | '\\')) => {
                    self.out.push_str(chars.as_str());
                    self.out.extend(['\\', last]);
                }
                Some(last) if last < ' ' => {
                    self.out.push_str(chars.as_str());
                    self.control(last);
                }
                _ => self.out.push_str(part),
            }
        }
        self.out.push('"');
    }

    fn control(&mut self, control: char) {
        match control {
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            other => self.print(format_args!("\\u{:04x}", other as u32)),
        }
    }

    fn integer(&mut self, name: &str, value: i64) {
        if self.relaxed {
            self.print(format_args!("{value}"));
        } else {
            self.print(format_args!(r#"{{"{name}":"{value}"}}"#));
        }
    }

    fn double(&mut self, value: f64) {
        let text = double_text(value);
        if self.relaxed && value.trunc() == value && value.abs() < 1e15 {
            self.out.push_str(&text);
        } else if value.is_nan() && value.to_bits() != f64::NAN.to_bits() {
            self.print(format_args!(r#"{{"$numberDouble":"NaN","$bits":"{:016x}"}}"#, value.to_bits()));
        } else {
            self.print(format_args!(r#"{{"$numberDouble":"{text}"}}"#));
        }
    }

    fn decimal(&mut self, bytes: [u8; 16]) {
        let text = decimal_text(bytes);
        if text.parse::<Decimal128>().is_ok_and(|parsed| parsed.bytes() == bytes) {
            self.print(format_args!(r#"{{"$numberDecimal":"{text}"}}"#));
        } else {
            let bits = u128::from_le_bytes(bytes);
            self.print(format_args!(r#"{{"$numberDecimal":"{text}","$bits":"{bits:032x}"}}"#));
        }
    }

    fn binary(&mut self, bytes: &[u8]) -> Option<()> {
        let (subtype, mut content) = raw::binary(bytes).ok()?;
        if subtype == 2 {
            // It holds its length a second time, which is not shown: it must be the right one.
            let (len, rest) = content.split_first_chunk()?;
            content = rest;
            usize::try_from(i32::from_le_bytes(*len)).ok().filter(|len| *len == rest.len())?;
        }
        match <[u8; 16]>::try_from(content) {
            Ok(id) if self.relaxed && subtype == 4 => {
                let id = bson::Uuid::from_bytes(id);
                self.print(format_args!(r#"{{"$uuid":"{id}"}}"#));
            }
            _ => {
                let encoded = BASE64.encode(content);
                self.print(format_args!(
                    r#"{{"$binary":{{"base64":"{encoded}","subType":"{subtype:02x}"}}}}"#
                ));
            }
        }
        Some(())
    }

    fn date(&mut self, millis: i64) {
        if self.relaxed && (0..=LAST_ISO_DATE).contains(&millis) {
            self.print(format_args!(r#"{{"$date":"{}"}}"#, iso_date(millis)));
        } else {
            self.print(format_args!(r#"{{"$date":{{"$numberLong":"{millis}"}}}}"#));
        }
    }
}

/// A name that looks like a mark for a name: neither it nor the mark could be told from the other.
fn cannot_be_marked(element: &Element<'_>) -> bool {
    element.name.starts_with(INVALID_NAME.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    })
}

/// A time from 1970 on, in UTC, with milliseconds if it has some.
fn iso_date(millis: i64) -> String {
    let (seconds, fraction) = (millis / 1000, millis % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year, if month < 10 { month + 3 } else { month - 9 });
    let year = year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}
