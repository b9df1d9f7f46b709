//! Values as MongoDB has them, their BSON, and how MongoDB compares them: written from its comparison rules,
//! with numbers compared as strings of decimal digits. Nothing here knows of keys.

use std::cmp::Ordering;

pub type Fields = Vec<(String, Value)>;

#[derive(Clone, Debug)]
pub enum Value {
    MinKey,
    Undefined,
    Null,
    Double(f64),
    Int32(i32),
    Int64(i64),
    /// Sign, coefficient, exponent.
    Decimal(bool, u128, i32),
    /// The upper half of an infinity or of no number.
    DecimalSpecial(u64),
    Text(Vec<u8>),
    Symbol(Vec<u8>),
    Object(Fields),
    Array(Vec<Value>),
    Binary(u8, Vec<u8>),
    ObjectId([u8; 12]),
    Boolean(bool),
    Date(i64),
    /// Seconds, increment.
    Timestamp(u32, u32),
    Regex(String, String),
    DbPointer(Vec<u8>, [u8; 12]),
    Code(Vec<u8>),
    Scoped(Vec<u8>, Fields),
    MaxKey,
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as i32 + 1).to_le_bytes()[..], text, &[0]].concat()
}

pub fn document<'a>(fields: impl IntoIterator<Item = (String, &'a Value)>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let (kind, bytes) = value.bytes();
        body.push(kind);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&bytes);
    }
    [&(body.len() as i32 + 5).to_le_bytes()[..], &body, &[0]].concat()
}

fn object(fields: &Fields) -> Vec<u8> {
    document(fields.iter().map(|(name, value)| (name.clone(), value)))
}

impl Value {
    /// Type byte and value bytes.
    pub fn bytes(&self) -> (u8, Vec<u8>) {
        match self {
            Self::MinKey => (0xff, vec![]),
            Self::Undefined => (0x06, vec![]),
            Self::Null => (0x0a, vec![]),
            Self::Double(value) => (0x01, value.to_le_bytes().to_vec()),
            Self::Int32(value) => (0x10, value.to_le_bytes().to_vec()),
            Self::Int64(value) => (0x12, value.to_le_bytes().to_vec()),
            Self::Decimal(negative, coefficient, exponent) => {
                let bits = u128::from(*negative) << 127 | ((exponent + 6176) as u128) << 113 | coefficient;
                (0x13, bits.to_le_bytes().to_vec())
            }
            Self::DecimalSpecial(high) => (0x13, (u128::from(*high) << 64).to_le_bytes().to_vec()),
            Self::Text(text) => (0x02, string(text)),
            Self::Symbol(text) => (0x0e, string(text)),
            Self::Code(text) => (0x0d, string(text)),
            Self::Object(fields) => (0x03, object(fields)),
            Self::Array(items) => {
                (0x04, document(items.iter().enumerate().map(|(at, item)| (at.to_string(), item))))
            }
            Self::Binary(subtype, bytes) => {
                (0x05, [&(bytes.len() as i32).to_le_bytes()[..], &[*subtype], bytes].concat())
            }
            Self::ObjectId(id) => (0x07, id.to_vec()),
            Self::Boolean(value) => (0x08, vec![u8::from(*value)]),
            Self::Date(millis) => (0x09, millis.to_le_bytes().to_vec()),
            Self::Timestamp(seconds, increment) => {
                (0x11, [increment.to_le_bytes(), seconds.to_le_bytes()].concat())
            }
            Self::Regex(pattern, options) => (0x0b, format!("{pattern}\0{options}\0").into_bytes()),
            Self::DbPointer(namespace, id) => (0x0c, [&string(namespace)[..], id].concat()),
            Self::Scoped(code, scope) => {
                let rest = [string(code), object(scope)].concat();
                (0x0f, [&(rest.len() as i32 + 4).to_le_bytes()[..], &rest].concat())
            }
            Self::MaxKey => (0x7f, vec![]),
        }
    }

    /// The place of the type in the order of types.
    fn class(&self) -> u32 {
        match self {
            Self::MinKey => 0,
            Self::Undefined => 1,
            Self::Null => 5,
            Self::Double(_)
            | Self::Int32(_)
            | Self::Int64(_)
            | Self::Decimal(..)
            | Self::DecimalSpecial(_) => 10,
            Self::Text(_) | Self::Symbol(_) => 15,
            Self::Object(_) => 20,
            Self::Array(_) => 25,
            Self::Binary(..) => 30,
            Self::ObjectId(_) => 35,
            Self::Boolean(_) => 40,
            Self::Date(_) => 45,
            Self::Timestamp(..) => 47,
            Self::Regex(..) => 50,
            Self::DbPointer(..) => 55,
            Self::Code(_) => 60,
            Self::Scoped(..) => 65,
            Self::MaxKey => 127,
        }
    }

    fn number(&self) -> Number {
        match *self {
            Self::Int32(value) => Number::finite(&value.to_string()),
            Self::Int64(value) => Number::finite(&value.to_string()),
            Self::Double(value) if value.is_nan() => Number::Nan,
            Self::Double(value) if value.is_infinite() => Number::Infinite(value < 0.0),
            Self::Double(value) => Number::finite(&format!("{value:.1080}")),
            Self::DecimalSpecial(high) if high & 0x7c00_0000_0000_0000 == 0x7c00_0000_0000_0000 => {
                Number::Nan
            }
            Self::DecimalSpecial(high) => Number::Infinite(high >> 63 == 1),
            Self::Decimal(negative, coefficient, exponent) => {
                let sign = if negative { "-" } else { "" };
                let places = exponent.unsigned_abs() as usize;
                if exponent >= 0 {
                    Number::finite(&format!("{sign}{coefficient}{}", "0".repeat(places)))
                } else {
                    let digits = format!("{coefficient:0>width$}", width = places + 1);
                    let (whole, fraction) = digits.split_at(digits.len() - places);
                    Number::finite(&format!("{sign}{whole}.{fraction}"))
                }
            }
            _ => panic!("{self:?} is no number"),
        }
    }
}

/// A number as its digits before and after the point, without zeros at either end.
enum Number {
    Nan,
    Infinite(bool),
    Finite(bool, String, String),
}

impl Number {
    fn finite(text: &str) -> Self {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        Self::Finite(
            negative,
            whole.trim_start_matches('0').to_owned(),
            fraction.trim_end_matches('0').to_owned(),
        )
    }

    /// -2 no number, -1 negative, 0 zero, 1 positive.
    fn sign(&self) -> i32 {
        match self {
            Self::Nan => -2,
            Self::Finite(_, whole, fraction) if whole.is_empty() && fraction.is_empty() => 0,
            Self::Infinite(negative) | Self::Finite(negative, ..) => 1 - 2 * i32::from(*negative),
        }
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    let (sign, other) = (a.sign(), b.sign());
    if sign != other || sign == 0 || sign == -2 {
        return sign.cmp(&other);
    }
    let magnitude = match (a, b) {
        (Number::Finite(_, whole, fraction), Number::Finite(_, other, other_fraction)) => {
            (whole.len(), whole, fraction).cmp(&(other.len(), other, other_fraction))
        }
        (Number::Infinite(_), Number::Infinite(_)) => Ordering::Equal,
        (Number::Infinite(_), _) => Ordering::Greater,
        _ => Ordering::Less,
    };
    if sign < 0 { magnitude.reverse() } else { magnitude }
}

fn compare_fields(a: &Fields, b: &Fields) -> Ordering {
    for ((name, value), (other_name, other)) in a.iter().zip(b) {
        let order = value.class().cmp(&other.class()).then(name.as_bytes().cmp(other_name.as_bytes()));
        let order = order.then_with(|| compare(value, other));
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// MongoDB's order, without a collation.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    use Value as V;
    if a.class() != b.class() {
        return a.class().cmp(&b.class());
    }
    match (a, b) {
        (V::MinKey | V::Undefined | V::Null | V::MaxKey, _) => Ordering::Equal,
        (V::Text(a) | V::Symbol(a), V::Text(b) | V::Symbol(b)) | (V::Code(a), V::Code(b)) => a.cmp(b),
        (V::Object(a), V::Object(b)) => compare_fields(a, b),
        (V::Array(a), V::Array(b)) => {
            let named = |items: &[V]| items.iter().map(|item| (String::new(), item.clone())).collect();
            compare_fields(&named(a), &named(b))
        }
        (V::Binary(subtype, bytes), V::Binary(other, other_bytes)) => {
            (bytes.len(), subtype, bytes).cmp(&(other_bytes.len(), other, other_bytes))
        }
        (V::ObjectId(a), V::ObjectId(b)) => a.cmp(b),
        (V::Boolean(a), V::Boolean(b)) => a.cmp(b),
        (V::Date(a), V::Date(b)) => a.cmp(b),
        (V::Timestamp(a, a_increment), V::Timestamp(b, b_increment)) => {
            (a, a_increment).cmp(&(b, b_increment))
        }
        (V::Regex(a, a_options), V::Regex(b, b_options)) => (a, a_options).cmp(&(b, b_options)),
        (V::DbPointer(a, a_id), V::DbPointer(b, b_id)) => (a.len(), a, a_id).cmp(&(b.len(), b, b_id)),
        (V::Scoped(a, a_scope), V::Scoped(b, b_scope)) => {
            a.cmp(b).then_with(|| compare_fields(a_scope, b_scope))
        }
        _ => compare_numbers(&a.number(), &b.number()),
    }
}
