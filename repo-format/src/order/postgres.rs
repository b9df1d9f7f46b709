//! Key parts from the text that PostgreSQL prints.
//!
//! The text is what a session prints with `DateStyle = ISO`, `TimeZone = UTC`, `bytea_output = hex`
//! and `extra_float_digits = 3`. Values that the type calls equal get equal bytes, and the bytes
//! compare as the type's default order does ([`KeyEncoding::Text`] as the "C" collation does).
//! Text that the type cannot print is refused, so that a wrong encoding never makes a silent key.

mod number;
mod time;

use crate::error::{Error, Result};
use crate::order::{KeyEncoding, push_escaped};

/// Appends the key part for `text`, which PostgreSQL printed for a value of the encoding's type.
/// On an error nothing is appended.
pub fn push_key(out: &mut Vec<u8>, encoding: KeyEncoding, text: &[u8]) -> Result<()> {
    match encoding {
        KeyEncoding::Integer => out.extend_from_slice(&number::integer(text)?),
        KeyEncoding::Boolean => out.push(boolean(text)?),
        KeyEncoding::Uuid => out.extend_from_slice(&uuid(text)?),
        KeyEncoding::Date => out.extend_from_slice(&ordered(time::date(text)?)),
        KeyEncoding::Timestamp => out.extend_from_slice(&ordered(time::timestamp(text)?)),
        KeyEncoding::Bytes => return bytes(out, text),
        KeyEncoding::Text => push_escaped(out, text),
        KeyEncoding::Numeric => return number::numeric(out, text),
        KeyEncoding::Float => out.extend_from_slice(&number::float(text)?),
        KeyEncoding::Bson => return Err(malformed("a text for the `_id` of a document")),
    }
    Ok(())
}

/// The bytes of a signed integer that compare as the integer does.
fn ordered(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed("key text", why)
}

fn boolean(text: &[u8]) -> Result<u8> {
    match text {
        b"f" => Ok(0),
        b"t" => Ok(1),
        _ => Err(malformed("not a boolean")),
    }
}

fn uuid(text: &[u8]) -> Result<[u8; 16]> {
    let dashes = [8, 13, 18, 23];
    if text.len() != 36 || dashes.iter().any(|&at| text[at] != b'-') {
        return Err(malformed("not a uuid"));
    }
    // Only those four are passed over: a dash anywhere else is no digit.
    let mut digits = (0..text.len()).filter(|at| !dashes.contains(at)).map(|at| text[at]);
    let mut out = [0; 16];
    for byte in &mut out {
        let pair = digits.next().zip(digits.next());
        *byte = pair.and_then(|(high, low)| hex_pair(high, low)).ok_or(malformed("not a uuid"))?;
    }
    Ok(out)
}

fn bytes(out: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    let digits = text.strip_prefix(b"\\x").ok_or(malformed("bytea not in hex"))?;
    if digits.len() % 2 != 0 {
        return Err(malformed("bytea of half a byte"));
    }
    let start = out.len();
    for pair in digits.chunks_exact(2) {
        let Some(byte) = hex_pair(pair[0], pair[1]) else {
            out.truncate(start);
            return Err(malformed("bytea not in hex"));
        };
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0x00, 0x01]);
    Ok(())
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::order::KeyEncoding as E;

    fn key(encoding: E, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        push_key(&mut out, encoding, text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        out
    }

    fn ascending(encoding: E, texts: &[&str]) {
        for pair in texts.windows(2) {
            assert!(key(encoding, pair[0]) < key(encoding, pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    fn equal(encoding: E, texts: &[&str]) {
        for pair in texts.windows(2) {
            assert_eq!(key(encoding, pair[0]), key(encoding, pair[1]), "{} = {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn known_values_ascend() {
        ascending(E::Integer, &["-9223372036854775808", "-32768", "-1", "0", "1", "9223372036854775807"]);
        ascending(E::Boolean, &["f", "t"]);
        ascending(E::Uuid, &["00000000-0000-0000-0000-0000000000ff", "00000000-0000-0000-0000-000000000100"]);
        ascending(E::Bytes, &["\\x", "\\x00", "\\x0000", "\\x0001", "\\x01", "\\x0100", "\\xff", "\\xff00"]);
        ascending(E::Text, &["", "\u{1}", "B", "C", "a", "aa", "a\u{301}", "\u{e1}"]);
        ascending(
            E::Date,
            &[
                "-infinity",
                "4714-11-24 BC",
                "0001-12-31 BC",
                "0001-01-01",
                "2000-02-29",
                "2000-03-01",
                "9999-12-31",
                "10000-01-01",
                "5874897-12-31",
                "infinity",
            ],
        );
        ascending(
            E::Timestamp,
            &[
                "-infinity",
                "4714-11-24 00:00:00 BC",
                "0044-03-15 11:59:59.999999+00 BC",
                "0044-03-15 12:00:00+00 BC",
                "1999-12-31 23:59:59.999999",
                "2000-01-01 00:00:00",
                "2000-01-01 00:00:00.000001",
                "2000-01-01 00:00:00.1",
                "294276-12-31 23:59:59.999999",
                "infinity",
            ],
        );
        ascending(
            E::Numeric,
            &[
                "-Infinity",
                "-100.5",
                "-100",
                "-99.99",
                "-0.1",
                "-0.01",
                "-0.0099",
                "0",
                "0.0001",
                "0.00011",
                "0.001",
                "1",
                "1.0000000001",
                "1.01",
                "1.1",
                "9",
                "10",
                "10.5",
                "99",
                "100",
                "Infinity",
                "NaN",
            ],
        );
        ascending(
            E::Float,
            &[
                "-Infinity",
                "-1.7976931348623157e+308",
                "-1",
                "-5e-324",
                "0",
                "5e-324",
                "0.1",
                "1e+20",
                "Infinity",
                "NaN",
            ],
        );
    }

    #[test]
    fn equal_values_have_one_key() {
        equal(E::Numeric, &["1", "1.0", "1.00", "01.000"]);
        equal(E::Numeric, &["0", "0.00", "-0", "-0.000"]);
        equal(E::Numeric, &["-1200", "-1200.0"]);
        equal(E::Float, &["0", "-0"]);
        equal(E::Float, &["1e+20", "100000000000000000000"]);
    }

    #[test]
    fn long_numerics_compare_by_their_last_digit() {
        let nines = "9".repeat(1000);
        ascending(
            E::Numeric,
            &[&format!("{nines}.{nines}"), &format!("{nines}.{nines}1"), &format!("1{nines}")],
        );
        let negative = format!("-{nines}");
        ascending(E::Numeric, &[&format!("{negative}1"), &format!("{negative}.1"), &negative]);
    }

    #[test]
    fn what_a_type_cannot_print_is_refused() {
        let wrong = [
            (E::Integer, &["", "-", "+1", "1.0", "9223372036854775808", "1 ", "x"][..]),
            (E::Boolean, &["", "true", "1"]),
            (
                E::Uuid,
                &[
                    "",
                    "00000000-0000-0000-0000-00000000000g",
                    "00000000000000000000000000000000",
                    // Found by fuzzing: a fifth dash.
                    "00112233-4455-6677-8899-a3-4455deeff",
                    "0011223--4455-6677-8899-aabbccddeeff",
                ],
            ),
            (
                E::Date,
                &[
                    "",
                    "2024-02-30",
                    "2023-02-29",
                    "2024-13-01",
                    "2024-1-1",
                    "0000-01-01",
                    "01/02/2024",
                    "2024-01-01 00:00:00",
                    "2024-01-01 AD",
                    "99999999999999999999-01-01",
                ],
            ),
            (
                E::Timestamp,
                &[
                    "",
                    "2024-01-01",
                    "2024-01-01T00:00:00",
                    "2024-01-01 24:00:00",
                    "2024-01-01 00:60:00",
                    "2024-01-01 00:00:00.",
                    "2024-01-01 00:00:00.1234567",
                    "2024-01-01 00:00:00+01",
                    "300000-01-01 00:00:00",
                ],
            ),
            (E::Bytes, &["", "abc", "\\x0", "\\x0g", "\\x0G"]),
            (E::Numeric, &["", "-", ".", "1.", ".5", "1e5", "+1", "1.2.3", "nan", "--1"]),
            (E::Float, &["", "inf", "nan", "1e400", "0x1p3", "1_0", "e5", "+1"]),
        ];
        for (encoding, texts) in wrong {
            for text in texts {
                let mut out = vec![7];
                assert!(push_key(&mut out, encoding, text.as_bytes()).is_err(), "{encoding:?} {text}");
                assert_eq!(out, [7], "{encoding:?} {text} left bytes behind");
            }
        }
    }

    /// Compares two decimals by aligning them, the slow and obvious way.
    fn compare_decimals(a: &str, b: &str) -> std::cmp::Ordering {
        let parts = |text: &str| {
            let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let aligned = format!("{whole:0>60}{fraction:0<60}");
            (negative && aligned.bytes().any(|digit| digit != b'0'), aligned)
        };
        match (parts(a), parts(b)) {
            ((false, a), (false, b)) => a.cmp(&b),
            ((true, a), (true, b)) => b.cmp(&a),
            ((false, _), (true, _)) => std::cmp::Ordering::Greater,
            ((true, _), (false, _)) => std::cmp::Ordering::Less,
        }
    }

    proptest! {
        #[test]
        fn integers_order_as_their_values(a: i64, b: i64) {
            prop_assert_eq!(key(E::Integer, &a.to_string()).cmp(&key(E::Integer, &b.to_string())), a.cmp(&b));
        }

        #[test]
        fn numerics_order_as_their_values(
            a in "-?[0-9]{1,30}(\\.[0-9]{1,30})?",
            b in "-?[0-9]{1,30}(\\.[0-9]{1,30})?",
            near in "-?[0-9]{1,2}(\\.[0-9]{1,2})?",
            close in "-?[0-9]{1,2}(\\.[0-9]{1,2})?",
        ) {
            prop_assert_eq!(key(E::Numeric, &a).cmp(&key(E::Numeric, &b)), compare_decimals(&a, &b));
            prop_assert_eq!(key(E::Numeric, &near).cmp(&key(E::Numeric, &close)), compare_decimals(&near, &close));
        }

        #[test]
        fn floats_order_as_their_values(a: f64, b: f64) {
            let printed = |value: f64| match value {
                value if value.is_nan() => "NaN".to_owned(),
                value if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
                value => format!("{value:e}"),
            };
            let expected = match (a.is_nan(), b.is_nan()) {
                (false, false) => a.partial_cmp(&b).unwrap(),
                (a, b) => a.cmp(&b),
            };
            prop_assert_eq!(key(E::Float, &printed(a)).cmp(&key(E::Float, &printed(b))), expected);
        }

        #[test]
        fn single_floats_keep_their_order_through_their_shortest_text(a: f32, b: f32) {
            prop_assume!(a.is_finite() && b.is_finite());
            let order = key(E::Float, &format!("{a:e}")).cmp(&key(E::Float, &format!("{b:e}")));
            prop_assert_eq!(order, a.partial_cmp(&b).unwrap());
        }

        #[test]
        fn bytes_order_as_they_are(
            a in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 254, 255]), 0..6),
            b in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 254, 255]), 0..6),
        ) {
            let printed = |bytes: &[u8]| {
                bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
            };
            prop_assert_eq!(key(E::Bytes, &printed(&a)).cmp(&key(E::Bytes, &printed(&b))), a.cmp(&b));
        }

        /// What follows a part must not decide before the part itself has: this is what makes a
        /// concatenation compare column by column.
        #[test]
        fn parts_are_self_delimiting(
            a in "-?[0-9]{1,6}(\\.[0-9]{1,6})?", b in "-?[0-9]{1,6}(\\.[0-9]{1,6})?", x: u8, y: u8,
        ) {
            for encoding in [E::Numeric, E::Text] {
                let (mut one, mut other) = (key(encoding, &a), key(encoding, &b));
                let order = one.cmp(&other);
                one.push(x);
                other.push(y);
                prop_assert_eq!(one.cmp(&other), order.then(x.cmp(&y)));
            }
        }

        #[test]
        fn dates_order_as_their_fields(
            a in (-4000i64..12_000, 1u32..=12, 1u32..=28),
            b in (-4000i64..12_000, 1u32..=12, 1u32..=28),
        ) {
            let printed = |(year, month, day): (i64, u32, u32)| {
                if year > 0 { format!("{year:04}-{month:02}-{day:02}") }
                else { format!("{:04}-{month:02}-{day:02} BC", 1 - year) }
            };
            prop_assert_eq!(key(E::Date, &printed(a)).cmp(&key(E::Date, &printed(b))), a.cmp(&b));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..40), ascii in "[-+0-9.: eBCNa]{0,24}") {
            let all = [E::Integer, E::Boolean, E::Uuid, E::Date, E::Timestamp, E::Bytes, E::Text, E::Numeric, E::Float];
            for encoding in all {
                for text in [&text[..], ascii.as_bytes()] {
                    let mut out = Vec::new();
                    if push_key(&mut out, encoding, text).is_err() {
                        prop_assert!(out.is_empty());
                    }
                }
            }
        }
    }
}
