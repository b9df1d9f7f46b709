//! Numbers of four types in one exact form.
//!
//! Every finite value of an integer, a binary64 or a decimal128 is a finite decimal, of 767 digits at most.
//! So its digits and the power of ten in front of them are its key, and no value is ever rounded to another
//! type.

use crate::bson::Decimal;

/// The first byte of a number, in order. What follows positive and negative ones is exponent and digits.
const NAN: u8 = 1;
const NEGATIVE_INFINITY: u8 = 2;
const NEGATIVE: u8 = 3;
const ZERO: u8 = 4;
const POSITIVE: u8 = 5;
const INFINITY: u8 = 6;

pub(super) fn integer(out: &mut Vec<u8>, value: i64) {
    scaled(out, value < 0, value.unsigned_abs().into(), 0);
}

pub(super) fn decimal(out: &mut Vec<u8>, value: Decimal) {
    match value {
        Decimal::NotANumber => out.push(NAN),
        Decimal::Infinite { negative } => out.push(if negative { NEGATIVE_INFINITY } else { INFINITY }),
        Decimal::Finite { negative, coefficient, exponent } => scaled(out, negative, coefficient, exponent),
    }
}

pub(super) fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.push(NAN);
    }
    let negative = value.is_sign_negative();
    if value.is_infinite() {
        return out.push(if negative { NEGATIVE_INFINITY } else { INFINITY });
    }
    if value == 0.0 {
        return out.push(ZERO);
    }
    let (mantissa, exponent) = parts(value);
    let power = exponent.unsigned_abs();
    // 53 bits of mantissa, times 2^64 or 5^32, are less than 128 bits: all but the far ends of the range.
    match exponent {
        0..=64 => scaled(out, negative, u128::from(mantissa) << power, 0),
        -32..0 => scaled(out, negative, u128::from(mantissa) * 5u128.pow(power), exponent),
        65.. => digits(out, negative, &multiplied(mantissa, 2, power), 0),
        _ => digits(out, negative, &multiplied(mantissa, 5, power), exponent),
    }
}

/// Mantissa and exponent of a finite value: it is `mantissa × 2^exponent`, and the mantissa is odd.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let (biased, fraction) = (((bits >> 52) & 0x7ff) as i32, bits & ((1 << 52) - 1));
    let (mantissa, exponent) =
        if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    let even = mantissa.trailing_zeros();
    (mantissa >> even, exponent + even as i32)
}

/// Appends `coefficient × 10^exponent`.
fn scaled(out: &mut Vec<u8>, negative: bool, mut coefficient: u128, exponent: i32) {
    if coefficient == 0 {
        return out.push(ZERO);
    }
    let mut buffer = [0; 39];
    let mut start = buffer.len();
    // Most are integers that fit 64 bits, whose division is many times faster.
    while coefficient > u128::from(u64::MAX) {
        start -= 1;
        buffer[start] = (coefficient % 10) as u8;
        coefficient /= 10;
    }
    let mut low = coefficient as u64;
    while low > 0 {
        start -= 1;
        buffer[start] = (low % 10) as u8;
        low /= 10;
    }
    digits(out, negative, &buffer[start..], exponent);
}

/// The decimal digits of `mantissa × base^power`, without zeros in front.
fn multiplied(mantissa: u64, base: u32, power: u32) -> Vec<u8> {
    const LIMB: u64 = 1_000_000_000;
    // The highest power that fits beside a limb and a carry.
    let step = if base == 2 { 29 } else { 12 };
    let mut limbs = vec![mantissa % LIMB, mantissa / LIMB % LIMB];
    let mut left = power;
    while left > 0 {
        let now = left.min(step);
        let factor = u64::from(base.pow(now));
        let mut carry = 0;
        for limb in &mut limbs {
            let product = *limb * factor + carry;
            (*limb, carry) = (product % LIMB, product / LIMB);
        }
        if carry > 0 {
            limbs.push(carry);
        }
        left -= now;
    }
    let mut digits = Vec::with_capacity(limbs.len() * 9);
    for limb in limbs.iter().rev() {
        digits.extend((0..9).rev().map(|place| (limb / 10u64.pow(place) % 10) as u8));
    }
    let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
    digits.split_off(zeros)
}

/// Appends `0.d1d2d3… × 10^E`, of `digits × 10^exponent` with the first digit not zero. E takes two bytes,
/// two digits make a byte from 1 to 100, and zero ends them; a negative number has every bit inverted.
fn digits(out: &mut Vec<u8>, negative: bool, digits: &[u8], exponent: i32) {
    let exponent = digits.len() as i32 + exponent;
    let zeros = digits.iter().rev().take_while(|&&digit| digit == 0).count();
    let digits = &digits[..digits.len() - zeros];
    out.push(if negative { NEGATIVE } else { POSITIVE });
    let start = out.len();
    // From -6175 (the smallest decimal) to 6145 (the greatest).
    out.extend_from_slice(&((exponent + (1 << 15)) as u16).to_be_bytes());
    for pair in digits.chunks(2) {
        out.push(pair[0] * 10 + pair.get(1).copied().unwrap_or(0) + 1);
    }
    out.push(0);
    if negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}
