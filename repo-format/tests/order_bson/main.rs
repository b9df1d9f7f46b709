//! Keys of `_id` against an independent comparison of the values they were made of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod reference;

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reference::{Value as V, compare, document};
use repo_format::keys::RowKey;
use repo_format::order::bound_key;
use repo_format::order::bson::{push_id, push_key};

fn key(value: &V) -> Vec<u8> {
    let (kind, bytes) = value.bytes();
    let mut out = Vec::new();
    push_id(&mut out, kind, &bytes).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    out
}

/// Keys and values agree, and neither key begins with the other.
fn agree(a: &V, b: &V) {
    let (one, other) = (key(a), key(b));
    assert_eq!(one.cmp(&other), compare(a, b), "{a:?} and {b:?}: {one:02x?} {other:02x?}");
    assert!(one == other || !(one.starts_with(&other) || other.starts_with(&one)), "{a:?} and {b:?}");
}

fn ascending(values: &[V]) {
    for pair in values.windows(2) {
        assert_eq!(compare(&pair[0], &pair[1]), Ordering::Less, "{:?} < {:?}", pair[0], pair[1]);
        agree(&pair[0], &pair[1]);
    }
}

fn equal(values: &[V]) {
    for pair in values.windows(2) {
        assert_eq!(compare(&pair[0], &pair[1]), Ordering::Equal, "{:?} = {:?}", pair[0], pair[1]);
        agree(&pair[0], &pair[1]);
    }
}

fn text(text: &str) -> V {
    V::Text(text.as_bytes().to_vec())
}

fn object(fields: &[(&str, V)]) -> V {
    V::Object(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

const NAN_DECIMAL: u64 = 0x7c00_0000_0000_0000;
const INFINITE_DECIMAL: u64 = 0x7800_0000_0000_0000;

/// MG-K01.
#[test]
fn a_number_is_one_key_in_every_type() {
    equal(&[
        V::Int32(42),
        V::Int64(42),
        V::Double(42.0),
        V::Decimal(false, 4200, -2),
        V::Decimal(false, 42, 0),
    ]);
    equal(&[V::Int32(-1000), V::Double(-1e3), V::Decimal(true, 1, 3)]);
    equal(&[V::Double(0.5), V::Decimal(false, 5, -1)]);
    equal(&[V::Double(2f64.powi(70)), V::Decimal(false, 1 << 70, 0)]);
    equal(&[V::Int64(i64::MIN), V::Double(-(2f64.powi(63)))]);
    equal(&[object(&[("a", V::Int32(1))]), object(&[("a", V::Double(1.0))])]);
    equal(&[V::Array(vec![V::Int32(1)]), V::Array(vec![V::Decimal(false, 10, -1)])]);
}

/// MG-K02.
#[test]
fn zeros_are_one_and_what_is_no_number_is_below_all_numbers() {
    equal(&[
        V::Double(-0.0),
        V::Double(0.0),
        V::Int64(0),
        V::Decimal(true, 0, 5),
        V::Decimal(false, 0, -6176),
    ]);
    let nan = f64::from_bits(0xfff8_0000_0000_0001);
    equal(&[
        V::Double(f64::NAN),
        V::Double(nan),
        V::DecimalSpecial(NAN_DECIMAL),
        V::DecimalSpecial(u64::MAX),
    ]);
    equal(&[V::Double(f64::INFINITY), V::DecimalSpecial(INFINITE_DECIMAL)]);
    equal(&[V::Double(f64::NEG_INFINITY), V::DecimalSpecial(INFINITE_DECIMAL | 1 << 63)]);
    ascending(&[
        V::Null,
        V::Double(f64::NAN),
        V::Double(f64::NEG_INFINITY),
        V::Double(f64::MIN),
        V::Int32(0),
    ]);
}

/// MG-K03.
#[test]
fn numbers_compare_exactly_across_types() {
    let most = 10u128.pow(34) - 1;
    ascending(&[
        V::Decimal(true, most, 6111),
        V::Double(f64::MIN),
        V::Double(-9_223_372_036_854_777_856.0),
        V::Int64(i64::MIN),
        V::Int64(-(1 << 53) - 1),
        V::Double(-9_007_199_254_740_992.0),
        V::Double(-5e-324),
        V::Decimal(true, 1, -6176),
        V::Int32(0),
        V::Decimal(false, 1, -6176),
        V::Double(5e-324),
        V::Double(f64::MIN_POSITIVE),
        V::Decimal(false, 1, -1),
        V::Double(0.1),
        V::Decimal(false, 1_000_000_000_000_000_055_511_151_231_257_828, -34),
        V::Int32(1),
        V::Double(9_007_199_254_740_992.0),
        V::Int64((1 << 53) + 1),
        V::Decimal(false, ((1 << 53) + 1) * 10 + 5, -1),
        V::Double(9_007_199_254_740_994.0),
        V::Int64(i64::MAX),
        V::Double(9_223_372_036_854_775_808.0),
        V::Decimal(false, most - 1, 0),
        V::Decimal(false, most, 0),
        V::Double(1e35),
        V::Double(f64::MAX),
        V::Decimal(false, most, 6111),
        V::Double(f64::INFINITY),
        text(""),
    ]);
}

/// MG-K04.
#[test]
fn types_are_ordered() {
    ascending(&[
        V::MinKey,
        V::Undefined,
        V::Null,
        V::Int32(7),
        text("x"),
        V::Object(vec![]),
        V::Array(vec![]),
        V::Binary(0, vec![]),
        V::ObjectId([0; 12]),
        V::Boolean(false),
        V::Boolean(true),
        V::Date(i64::MIN),
        V::Timestamp(0, 0),
        V::Regex(String::new(), String::new()),
        V::DbPointer(vec![], [0; 12]),
        V::Code(vec![]),
        V::Scoped(vec![], vec![]),
        V::MaxKey,
    ]);
}

/// MG-K05.
#[test]
fn bytes_compare_by_length_and_subtype_and_text_may_hold_zeros() {
    ascending(&[
        V::Binary(0x80, vec![]),
        V::Binary(0, vec![0xff]),
        V::Binary(2, vec![0]),
        V::Binary(2, vec![1]),
        V::Binary(0, vec![0, 0]),
        V::Binary(0, vec![0; 300]),
    ]);
    ascending(&[
        text(""),
        text("\0"),
        text("\0\0"),
        text("\0\u{1}"),
        text("\u{1}"),
        text("a"),
        text("a\0"),
        text("a\0b"),
    ]);
    ascending(&[text("Z"), V::Symbol(b"a".to_vec()), text("b"), V::Text(vec![0xff])]);
    equal(&[text("a\0"), V::Symbol(b"a\0".to_vec())]);
}

/// MG-K06.
#[test]
fn objects_compare_type_name_and_value_in_turn() {
    let (a, b) = (("a", V::Int32(1)), ("b", V::Int32(1)));
    ascending(&[
        object(&[]),
        object(std::slice::from_ref(&a)),
        object(&[a.clone(), b.clone()]),
        object(&[b.clone(), a.clone()]),
        object(&[("a", text(""))]),
        object(&[("a", V::Object(vec![]))]),
    ]);
    // The type decides before the name does, and the name before the value.
    ascending(&[object(&[("z", V::Null)]), object(&[("a", V::Int32(0))])]);
    ascending(&[object(&[("a", V::Int32(5))]), object(&[("b", V::Int32(-5))])]);
    ascending(&[object(&[("", V::Int32(5))]), object(&[("a", V::Int32(1))])]);
    // Order and duplicates of names are part of the value.
    assert_ne!(key(&object(&[a.clone(), b.clone()])), key(&object(&[b, a.clone()])));
    assert_ne!(key(&object(&[a.clone(), a.clone()])), key(&object(&[a])));
}

/// MG-K07.
#[test]
fn times_compare_as_times() {
    ascending(&[V::Date(i64::MIN), V::Date(-62_167_219_200_001), V::Date(-1), V::Date(0), V::Date(i64::MAX)]);
    ascending(&[
        V::Timestamp(0, 0),
        V::Timestamp(0, 1),
        V::Timestamp(0, u32::MAX),
        V::Timestamp(1, 0),
        V::Timestamp(u32::MAX, 0),
    ]);
}

#[test]
fn the_first_id_of_a_document_is_its_key_wherever_it_stands() {
    let hasher = RowKey::new([3; 32]);
    let (one, two) = (V::Int32(1), V::Int32(2));
    let of = |fields: &[(&str, &V)]| {
        let mut out = vec![7];
        let bytes = document(fields.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        push_key(&mut out, &bytes, &hasher).unwrap();
        (out[1..].to_vec(), bytes)
    };
    assert_eq!(of(&[("_id", &one)]).0, key(&one));
    assert_eq!(of(&[("a", &two), ("_id", &one), ("_id", &two)]).0, key(&one));
    let (found, bytes) = of(&[("a", &one), ("_ID", &one)]);
    assert_eq!(found, [&[1][..], &hasher.hash(&bytes)].concat());
    assert!(found < key(&V::MinKey));
    assert_ne!(found, of(&[("a", &two)]).0);
}

#[test]
fn keys_of_common_ids_are_short() {
    assert_eq!(key(&V::ObjectId([9; 12])).len(), 13);
    assert_eq!(key(&V::Int32(1)).len(), 6);
    assert_eq!(key(&V::Int64(i64::MAX)).len(), 15);
    assert_eq!(key(&V::Int32(1)), [0x20, 5, 0x80, 1, 11, 0]);
}

/// The longest double takes 767 digits; the key of a document nested as deep as 16 MB allow needs no stack.
#[test]
fn the_longest_number_and_the_deepest_object_have_keys() {
    assert_eq!(key(&V::Double(f64::from_bits(0x000f_ffff_ffff_ffff))).len(), 1 + 1 + 2 + 384 + 1);
    let depth = 2_000_000;
    let mut bytes = Vec::new();
    for level in (0..depth).rev() {
        bytes.extend_from_slice(&(13 + 8 * level as i32).to_le_bytes());
        bytes.extend_from_slice(b"\x03a\0");
    }
    bytes.extend_from_slice(&[5, 0, 0, 0, 0]);
    bytes.extend(std::iter::repeat_n(0, depth));
    let mut out = Vec::new();
    push_id(&mut out, 0x03, &bytes).unwrap();
    assert_eq!(out.len(), 2 + 4 * depth);
    bound_key(&mut out, &RowKey::new([3; 32]));
    assert_eq!(out.len(), 1024);
}

fn numbers() -> impl Strategy<Value = V> {
    let small = (-130i32..130, 0usize..4, 0u32..5).prop_map(|(value, kind, places)| match kind {
        0 => V::Int32(value),
        1 => V::Int64(value.into()),
        2 => V::Double(value.into()),
        _ => {
            let scale = 10u128.pow(places);
            V::Decimal(value < 0, u128::from(value.unsigned_abs()) * scale, -(places as i32))
        }
    });
    let powers = (0u32..64, -2i64..=2, any::<bool>()).prop_map(|(power, near, as_double)| {
        let value = (1i64 << power.min(62)).wrapping_add(near);
        if as_double { V::Double(value as f64) } else { V::Int64(value) }
    });
    let special = select(vec![
        V::Double(f64::NAN),
        V::Double(f64::INFINITY),
        V::Double(f64::NEG_INFINITY),
        V::Double(-0.0),
        V::Double(5e-324),
        V::Double(f64::MAX),
        V::DecimalSpecial(NAN_DECIMAL),
        V::DecimalSpecial(INFINITE_DECIMAL),
        V::DecimalSpecial(INFINITE_DECIMAL | 1 << 63),
        V::Decimal(true, 0, -30),
    ]);
    let decimal = |exponents: std::ops::RangeInclusive<i32>| {
        (any::<bool>(), 0..10u128.pow(34), 0u32..34, exponents).prop_map(
            |(negative, coefficient, cut, exponent)| {
                V::Decimal(negative, coefficient / 10u128.pow(cut), exponent)
            },
        )
    };
    let fractions =
        (-1000i32..1000, 0i32..12).prop_map(|(value, power)| V::Double(f64::from(value) / 2f64.powi(power)));
    prop_oneof![
        3 => small,
        2 => powers,
        1 => special,
        1 => decimal(-6176..=6111),
        2 => decimal(-36..=4),
        1 => any::<u64>().prop_map(|bits| V::Double(f64::from_bits(bits))),
        2 => fractions,
        1 => any::<i64>().prop_map(V::Int64),
        1 => any::<i32>().prop_map(V::Int32),
    ]
}

/// A double, and the decimals of 34 digits around it.
fn neighbours() -> impl Strategy<Value = (V, V)> {
    let double = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1_000_000i32..1_000_000, 0i32..40).prop_map(|(value, power)| f64::from(value) / 2f64.powi(power)),
        any::<i64>().prop_map(|value| value as f64),
    ];
    (double, -2i128..=2).prop_filter_map("finite", |(value, near)| {
        if !value.is_finite() || value == 0.0 {
            return None;
        }
        let printed = format!("{:.33e}", value.abs());
        let (digits, exponent) = printed.split_once('e')?;
        let coefficient = digits.replace('.', "").parse::<i128>().ok()? + near;
        let exponent = exponent.parse::<i32>().ok()? - 33;
        let coefficient = u128::try_from(coefficient).ok()?.min(10u128.pow(34) - 1);
        Some((V::Double(value), V::Decimal(value < 0.0, coefficient, exponent)))
    })
}

fn values() -> impl Strategy<Value = V> {
    let bytes = || vec(select(vec![0u8, 1, 2, b'a', 0xfe, 0xff]), 0..4);
    let id = || vec(0u8..2, 12).prop_map(|bytes| <[u8; 12]>::try_from(bytes).unwrap());
    let leaf = prop_oneof![
        6 => numbers(),
        2 => bytes().prop_map(V::Text),
        1 => bytes().prop_map(V::Symbol),
        1 => (select(vec![0u8, 2, 0x80]), bytes()).prop_map(|(subtype, bytes)| V::Binary(subtype, bytes)),
        1 => id().prop_map(V::ObjectId),
        1 => any::<bool>().prop_map(V::Boolean),
        1 => any::<i64>().prop_map(V::Date),
        1 => (0u32..3, 0u32..3).prop_map(|(seconds, increment)| V::Timestamp(seconds, increment)),
        1 => ("[ab]{0,2}", "[im]{0,2}").prop_map(|(pattern, options)| V::Regex(pattern, options)),
        1 => (bytes(), id()).prop_map(|(namespace, id)| V::DbPointer(namespace, id)),
        1 => bytes().prop_map(V::Code),
        1 => select(vec![V::MinKey, V::Undefined, V::Null, V::MaxKey]),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        let fields = || vec(("[ab]{0,2}", inner.clone()), 0..4);
        prop_oneof![
            3 => fields().prop_map(V::Object),
            2 => vec(inner.clone(), 0..4).prop_map(V::Array),
            1 => (vec(select(vec![0u8, b'a']), 0..3), fields()).prop_map(|(code, scope)| V::Scoped(code, scope)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn numbers_order_as_their_exact_values(a in numbers(), b in numbers()) {
        agree(&a, &b);
    }

    #[test]
    fn doubles_order_among_the_decimals_around_them((double, decimal) in neighbours()) {
        agree(&double, &decimal);
    }

    #[test]
    fn values_order_as_mongodb_compares_them(a in values(), b in values()) {
        agree(&a, &b);
    }

    /// Values that share much: the same shape with one leaf exchanged.
    #[test]
    fn nested_values_order_as_their_first_difference(
        shared in vec(("[ab]{0,2}", values()), 0..3), a in values(), b in values(), rest in values(),
    ) {
        let with = |value: &V| {
            let mut fields = shared.clone();
            fields.push(("x".to_owned(), value.clone()));
            fields.push(("y".to_owned(), rest.clone()));
            V::Object(fields)
        };
        agree(&with(&a), &with(&b));
        agree(&V::Array(vec![a.clone(), rest.clone()]), &V::Array(vec![b, rest.clone()]));
        agree(&V::Array(vec![a.clone()]), &V::Array(vec![a, rest]));
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind: u8, bytes in vec(any::<u8>(), 0..60)) {
        let mut out = vec![7];
        prop_assert!(push_id(&mut out, kind, &bytes).is_ok() || out == [7]);
        let whole = [&(bytes.len() as i32 + 5).to_le_bytes()[..], &bytes, &[0]].concat();
        let mut out = vec![7];
        prop_assert!(push_key(&mut out, &whole, &RowKey::new([3; 32])).is_ok() || out == [7]);
    }

    /// Bytes that were good before one of them changed.
    #[test]
    fn damaged_values_are_read_or_refused(value in values(), at in any::<prop::sample::Index>(), byte: u8) {
        let (kind, mut bytes) = value.bytes();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut out = vec![7];
        prop_assert!(push_id(&mut out, kind, &bytes).is_ok() || out == [7]);
    }
}
