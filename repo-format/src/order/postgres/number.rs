//! Integers, floats, and decimals of any length.

use super::{malformed, ordered};
use crate::error::Result;

/// The classes of a numeric, in order. Positive and negative ones are followed by exponent and
/// digits, the others stand alone.
const NEGATIVE_INFINITY: u8 = 1;
const NEGATIVE: u8 = 2;
const ZERO: u8 = 3;
const POSITIVE: u8 = 4;
const INFINITY: u8 = 5;
const NAN: u8 = 6;

pub(super) fn integer(text: &[u8]) -> Result<[u8; 8]> {
    if text.first() == Some(&b'+') {
        return Err(malformed("not an integer"));
    }
    let text = std::str::from_utf8(text).map_err(|_| malformed("not an integer"))?;
    let value: i64 = text.parse().map_err(|_| malformed("not an integer"))?;
    Ok(ordered(value))
}

/// IEEE bits with the sign folded in; a `real`'s shortest text reads as a distinct `f64` of the
/// same order, so both widths share one form.
pub(super) fn float(text: &[u8]) -> Result<[u8; 8]> {
    let value = match text {
        b"NaN" => return Ok([0xff; 8]),
        b"Infinity" => f64::INFINITY,
        b"-Infinity" => f64::NEG_INFINITY,
        _ => finite_float(text)?,
    };
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    let folded = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    Ok(folded.to_be_bytes())
}

fn finite_float(text: &[u8]) -> Result<f64> {
    let wrong = || malformed("not a float");
    let digits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e');
    if !text.iter().all(digits) || text.first() == Some(&b'+') {
        return Err(wrong());
    }
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let value: f64 = text.parse().map_err(|_| wrong())?;
    if value.is_finite() { Ok(value) } else { Err(wrong()) }
}

/// Appends class, exponent and digits: the value is `0.d1d2d3… * 10^exponent` with `d1` not zero
/// and no zeros at the end. Two digits make a byte (1 to 100), zero ends them; the bytes of a
/// negative value are inverted.
pub(super) fn numeric(out: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    let alone = match text {
        b"NaN" => Some(NAN),
        b"Infinity" => Some(INFINITY),
        b"-Infinity" => Some(NEGATIVE_INFINITY),
        _ => None,
    };
    if let Some(class) = alone {
        out.push(class);
        return Ok(());
    }
    let (negative, unsigned) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = split_decimal(unsigned)?;
    let digit = |position: usize| {
        let byte = whole.get(position).or_else(|| fraction.get(position - whole.len()));
        byte.map_or(0, |byte| byte - b'0')
    };
    let len = whole.len() + fraction.len();
    let Some(first) = (0..len).find(|&position| digit(position) != 0) else {
        out.push(ZERO);
        return Ok(());
    };
    let last = (first..len).rev().find(|&position| digit(position) != 0).unwrap_or(first);
    let exponent =
        i32::try_from(whole.len() as i64 - first as i64).map_err(|_| malformed("numeric too long"))?;

    out.push(if negative { NEGATIVE } else { POSITIVE });
    let start = out.len();
    out.extend_from_slice(&(exponent.cast_unsigned() ^ (1 << 31)).to_be_bytes());
    for position in (first..=last).step_by(2) {
        let low = if position < last { digit(position + 1) } else { 0 };
        out.push(digit(position) * 10 + low + 1);
    }
    out.push(0);
    if negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    Ok(())
}

/// The digits before and after the point; both sides of a point must have some.
fn split_decimal(text: &[u8]) -> Result<(&[u8], &[u8])> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if !digits(whole) || !fraction.is_none_or(digits) {
        return Err(malformed("not a numeric"));
    }
    Ok((whole, fraction.unwrap_or_default()))
}
