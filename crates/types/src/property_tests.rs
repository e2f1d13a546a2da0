//! Properties of the encodings over random values of every type.

use crate::array::{ArrayDim, ArrayDims};
use crate::row::{RowLayout, RowView};
use crate::text::FormatContext;
use crate::{Array, Datum, Interval, Jsonb, Numeric, SqlType, key};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use std::cmp::Ordering;
use std::sync::Arc;

fn text() -> BoxedStrategy<Arc<str>> {
    prop_oneof![
        "[ab\u{1}\u{2}é]{0,4}".prop_map(Arc::from),
        "\\PC{0,12}".prop_map(Arc::from),
    ]
    .boxed()
}

fn numeric() -> BoxedStrategy<Numeric> {
    prop_oneof![
        8 => (-1000i128..1000, 0u16..4).prop_map(|(m, s)| Numeric::from_i128(m, s)),
        4 => (any::<i128>(), 0u16..60).prop_map(|(m, s)| Numeric::from_i128(m, s)),
        4 => (any::<i64>(), 0u16..30).prop_map(|(m, s)| Numeric::from_i128(m.into(), s)),
        2 => ("-?[1-9][0-9]{30,60}", 0u16..80).prop_map(|(digits, s)| {
            Numeric::from_bigint(digits.parse().unwrap(), s)
        }),
        1 => Just(Numeric::NAN),
        1 => Just(Numeric::INFINITY),
        1 => Just(Numeric::NEG_INFINITY),
    ]
    .boxed()
}

fn f64s() -> BoxedStrategy<f64> {
    prop_oneof![
        any::<f64>(),
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY)
    ]
    .boxed()
}

fn jsonb() -> BoxedStrategy<Jsonb> {
    let leaf = prop_oneof![
        Just(Jsonb::Null),
        any::<bool>().prop_map(Jsonb::Bool),
        numeric()
            .prop_filter("JSON numbers are finite", Numeric::is_finite)
            .prop_map(Jsonb::Number),
        text().prop_map(Jsonb::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Jsonb::array),
            prop::collection::vec((text(), inner), 0..4).prop_map(Jsonb::object),
        ]
    })
    .boxed()
}

fn interval() -> BoxedStrategy<Interval> {
    prop_oneof![
        (any::<i32>(), any::<i32>(), any::<i64>()),
        (-3i32..3, -90i32..90, -200_000_000_000i64..200_000_000_000),
    ]
    .prop_map(|(m, d, u)| Interval::new(m, d, u))
    .boxed()
}

/// Scalar values of a type, never NULL.
fn scalar(sql_type: &SqlType) -> BoxedStrategy<Datum> {
    match sql_type {
        SqlType::Bool => any::<bool>().prop_map(Datum::Bool).boxed(),
        SqlType::Int2 => any::<i16>().prop_map(Datum::Int2).boxed(),
        SqlType::Int4 => any::<i32>().prop_map(Datum::Int4).boxed(),
        SqlType::Int8 => any::<i64>().prop_map(Datum::Int8).boxed(),
        SqlType::Oid => any::<u32>().prop_map(Datum::Oid).boxed(),
        SqlType::Float4 => f64s().prop_map(|v| Datum::Float4(v as f32)).boxed(),
        SqlType::Float8 => f64s().prop_map(Datum::Float8).boxed(),
        SqlType::Numeric(_) => numeric().prop_map(Datum::Numeric).boxed(),
        SqlType::Text => text().prop_map(Datum::Text).boxed(),
        SqlType::Bytea => prop::collection::vec(prop_oneof![0u8..3, any::<u8>()], 0..6)
            .prop_map(|v| Datum::Bytea(Bytes::from(v)))
            .boxed(),
        SqlType::Date => any::<i32>().prop_map(Datum::Date).boxed(),
        SqlType::Time => (0i64..86_400_000_000).prop_map(Datum::Time).boxed(),
        SqlType::Timestamp => any::<i64>().prop_map(Datum::Timestamp).boxed(),
        SqlType::TimestampTz => any::<i64>().prop_map(Datum::TimestampTz).boxed(),
        SqlType::Interval => interval().prop_map(Datum::Interval).boxed(),
        SqlType::Uuid => any::<[u8; 16]>().prop_map(Datum::Uuid).boxed(),
        SqlType::Jsonb => jsonb().prop_map(Datum::Jsonb).boxed(),
        SqlType::Array(element) => {
            let element = (**element).clone();
            let values = prop::collection::vec(nullable(&element), 0..5);
            (values, 0i32..3)
                .prop_map(move |(elements, lower_bound)| {
                    let mut dims = ArrayDims::new();
                    if elements.len() == 4 {
                        dims.push(ArrayDim {
                            len: 2,
                            lower_bound: 1,
                        });
                        dims.push(ArrayDim {
                            len: 2,
                            lower_bound,
                        });
                    } else if !elements.is_empty() {
                        let len = elements.len() as i32;
                        dims.push(ArrayDim { len, lower_bound });
                    }
                    Datum::Array(Arc::new(Array {
                        element_type: element.clone(),
                        dims,
                        elements,
                    }))
                })
                .boxed()
        }
        other => unreachable!("no strategy for {other}"),
    }
}

fn nullable(sql_type: &SqlType) -> BoxedStrategy<Datum> {
    prop_oneof![1 => Just(Datum::Null), 6 => scalar(sql_type)].boxed()
}

fn types() -> Vec<SqlType> {
    vec![
        SqlType::Bool,
        SqlType::Int2,
        SqlType::Int4,
        SqlType::Int8,
        SqlType::Oid,
        SqlType::Float4,
        SqlType::Float8,
        SqlType::Numeric(None),
        SqlType::Text,
        SqlType::Bytea,
        SqlType::Date,
        SqlType::Time,
        SqlType::Timestamp,
        SqlType::TimestampTz,
        SqlType::Interval,
        SqlType::Uuid,
        SqlType::Jsonb,
        SqlType::array_of(SqlType::Int4),
        SqlType::array_of(SqlType::Text),
        SqlType::array_of(SqlType::Numeric(None)),
    ]
}

fn any_type() -> BoxedStrategy<SqlType> {
    prop::sample::select(types()).boxed()
}

/// Two values of one type, often close to each other.
fn pair() -> BoxedStrategy<(SqlType, Datum, Datum)> {
    any_type()
        .prop_flat_map(|t| (Just(t.clone()), nullable(&t), nullable(&t)))
        .boxed()
}

/// The order of one key column.
fn column_order(a: &Datum, b: &Datum, descending: bool, nulls_first: bool) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) if nulls_first => Ordering::Less,
        (true, false) => Ordering::Greater,
        (false, true) if nulls_first => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if descending => a.compare(b).reverse(),
        (false, false) => a.compare(b),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn key_order_is_sql_order(
        (_, a, b) in pair(),
        descending: bool,
        nulls_first: bool,
    ) {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        key::encode(&mut x, &a, descending, nulls_first);
        key::encode(&mut y, &b, descending, nulls_first);
        prop_assert_eq!(x.cmp(&y), column_order(&a, &b, descending, nulls_first));
    }

    #[test]
    fn joined_columns_keep_order(
        (_, a1, b1) in pair(),
        (_, a2, b2) in pair(),
        same_first: bool,
        descending: (bool, bool),
    ) {
        let b1 = if same_first { a1.clone() } else { b1 };
        let (mut x, mut y) = (Vec::new(), Vec::new());
        key::encode(&mut x, &a1, descending.0, false);
        key::encode(&mut x, &a2, descending.1, true);
        key::encode(&mut y, &b1, descending.0, false);
        key::encode(&mut y, &b2, descending.1, true);
        let expected = column_order(&a1, &b1, descending.0, false)
            .then(column_order(&a2, &b2, descending.1, true));
        prop_assert_eq!(x.cmp(&y), expected);
    }

    #[test]
    fn keys_give_back_equal_values((t, a, b) in pair(), descending: bool) {
        let mut bytes = Vec::new();
        key::encode(&mut bytes, &a, descending, true);
        key::encode(&mut bytes, &b, !descending, false);
        let mut rest = &bytes[..];
        let x = key::decode(&mut rest, &t, descending).unwrap();
        let y = key::decode(&mut rest, &t, !descending).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert!(x.sql_eq(&a), "{:?} became {:?}", a, x);
        prop_assert!(y.sql_eq(&b), "{:?} became {:?}", b, y);
    }

    #[test]
    fn any_bytes_are_refused_or_read(
        t in any_type(),
        bytes in prop::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..40),
        descending: bool,
    ) {
        let mut marked = vec![1u8];
        marked.extend_from_slice(&bytes);
        let _ = key::decode(&mut &marked[..], &t, descending);
        let _ = key::decode(&mut &bytes[..], &t, descending);
        let _ = Datum::parse_binary(&bytes, &t);
        let _ = Jsonb::decode(&bytes);
    }

    #[test]
    fn equal_values_hash_alike((_, a, b) in pair()) {
        use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
        let hash = |d: &Datum| {
            let mut h = BuildHasherDefault::<rustc_hash::FxHasher>::default().build_hasher();
            d.hash_into(&mut h);
            h.finish()
        };
        if a.sql_eq(&b) {
            prop_assert_eq!(hash(&a), hash(&b));
        }
    }

    #[test]
    fn text_and_binary_return((t, a, _) in pair()) {
        // Dates and timestamps beyond SQL's range have no text.
        let in_range = match &a {
            Datum::Date(d) => crate::datetime::check_date((*d).into()).is_ok(),
            Datum::Timestamp(m) | Datum::TimestampTz(m) => {
                crate::datetime::check_timestamp(*m).is_ok()
            }
            Datum::Text(s) => !s.contains('\0'),
            Datum::Null => false,
            _ => true,
        };
        prop_assume!(in_range);
        let ctx = FormatContext::default();
        let shown = a.to_text(&t, &ctx);
        let back = Datum::parse_text(&shown, &t, &ctx);
        prop_assert!(
            back.as_ref().is_ok_and(|b| b.to_text(&t, &ctx) == shown && b.sql_eq(&a)),
            "{} came back as {:?}", shown, back
        );
        let mut bytes = Vec::new();
        a.write_binary(&t, &mut bytes);
        let back = Datum::parse_binary(&bytes, &t);
        prop_assert!(
            back.as_ref().is_ok_and(|b| b.to_text(&t, &ctx) == shown),
            "{} came back as {:?}", shown, back
        );
    }

    #[test]
    fn any_text_is_refused_or_read(t in any_type(), s in "\\PC{0,24}|[0-9:+. -]{0,20}|[-{}\\[\\]\",0-9a:=]{0,16}") {
        let _ = Datum::parse_text(&s, &t, &FormatContext::default());
        let _ = Datum::parse_text(&s, &SqlType::Json, &FormatContext::default());
    }
}

/// Text made of the pieces that dates, times, intervals and templates are made of.
fn pieces() -> BoxedStrategy<String> {
    let piece = prop::sample::select(vec![
        "jan",
        "1999",
        "-",
        "/",
        ":",
        "12",
        "5",
        "bc",
        "pm",
        "T",
        "+",
        "now",
        "infinity",
        "j",
        ".",
        " ",
        "99999999999999999999",
        "america/new_york",
        "e",
        "z",
        "day",
        "mons",
        "ago",
        "P",
        "1Y",
        "20240229",
        "235959",
        "2147483647",
        "YYYY",
        "MM",
        "DD",
        "HH24",
        "FM",
        "IW",
        "J",
        "9",
        "0",
        "V",
        "S",
        "PR",
        "EEEE",
        "RN",
        "\"",
        "\\",
        "{",
        "}",
        ",",
        "null",
        "[1:2]=",
        "th",
        "\u{e9}",
        "-5",
        "0.5",
        "TZH",
        "US",
        "D",
        "G",
        "MI",
        "AM",
        "Month",
        "RM",
        "OF",
        "SSSSS",
    ]);
    prop::collection::vec(piece, 0..9)
        .prop_map(|p| p.concat())
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn odd_text_is_refused_or_read(t in any_type(), s in pieces()) {
        let ctx = FormatContext::default();
        if let Ok(datum) = Datum::parse_text(&s, &t, &ctx) {
            // What was read can be shown and read again.
            let shown = datum.to_text(&t, &ctx);
            let again = Datum::parse_text(&shown, &t, &ctx);
            prop_assert!(again.is_ok_and(|a| a.sql_eq(&datum)), "{} became {}", s, shown);
        }
    }

    #[test]
    fn odd_templates_are_refused_or_used(
        text in pieces(),
        template in pieces(),
        n in numeric(),
        i in interval(),
        micros in -200_000_000_000_000_000i64..9_000_000_000_000_000_000,
    ) {
        use crate::{TimeZone, from_char, to_char, to_char_number};
        let _ = from_char::to_date(&text, &template);
        let _ = from_char::to_timestamp(&text, &template, &TimeZone::Utc);
        let _ = to_char::timestamp_to_char(micros, &template);
        let _ = to_char::interval_to_char(&i, &template);
        let _ = to_char_number::number_to_char(&n, &template);
        let _ = to_char_number::to_number(&text, &template);
    }

    #[test]
    fn time_functions_never_panic(
        a in any::<i64>(),
        b in any::<i64>(),
        i in interval(),
        f in prop::num::f64::ANY,
        days in any::<i32>(),
    ) {
        use crate::{TimeZone, datetime as d, datetime_fn as g, extract as x};
        let in_range = |v: i64| v.clamp(d::MIN_TIMESTAMP, d::MAX_TIMESTAMP);
        let (a, b) = (in_range(a), in_range(b));
        let zone = TimeZone::parse("America/New_York").unwrap();
        for field in ["epoch", "julian", "week", "century", "day", "hour", "decade", "millennium", "isoyear", "quarter"] {
            let _ = x::extract_timestamp(field, a);
            let _ = x::extract_timestamptz(field, a, &zone);
            let _ = x::extract_interval(field, &i);
            let _ = x::trunc_timestamp(field, a);
            let _ = x::trunc_timestamptz(field, a, &zone);
            let _ = x::trunc_interval(field, &i);
            let _ = x::extract_date(field, days);
        }
        let _ = (g::age(a, b), g::timestamp_minus_timestamp(a, b), g::date_bin(&i, a, b));
        let _ = (g::timestamp_plus_interval(a, &i), g::timestamptz_minus_interval(a, &i, &zone));
        let _ = (i.checked_mul(f), i.checked_div(f), i.justify_interval(), i.justify_days(), i.justify_hours());
        let _ = (g::date_plus_days(days, a), g::timestamp_from_epoch(f), g::time_plus_interval(a.rem_euclid(86_400_000_000), &i));
    }

    #[test]
    fn numeric_arithmetic_agrees_with_itself(a in numeric(), b in numeric()) {
        prop_assume!(a.is_finite() && b.is_finite());
        let sum = a.add(&b).unwrap();
        prop_assert_eq!(sum.sub(&b).unwrap(), a.clone());
        if !b.is_zero() {
            // a = trunc(a / b) * b + a % b
            let q = a.div_trunc(&b).unwrap();
            let r = a.rem(&b).unwrap();
            prop_assert_eq!(q.mul(&b).unwrap().add(&r).unwrap(), a.clone());
            prop_assert!(r.abs() < b.abs());
            let _ = a.div(&b).unwrap();
        }
        let _ = (a.floor(), a.ceil(), a.sqrt(), a.round(-3), a.apply_typmod(10, 2));
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    }
}

/// A table's column types and one row of it.
fn row() -> BoxedStrategy<(Vec<SqlType>, Vec<Datum>)> {
    prop::collection::vec(any_type(), 0..12)
        .prop_flat_map(|types| {
            let row: Vec<_> = types.iter().map(nullable).collect();
            (Just(types), row)
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn rows_give_back_their_values((types, row) in row(), added in prop::collection::vec(any_type(), 0..3)) {
        let mut bytes = Vec::new();
        RowLayout::new(&types).encode(&row, &mut bytes).unwrap();
        // Read with columns that were added since.
        let mut later = types.clone();
        later.extend(added);
        let layout = RowLayout::new(&later);
        let view = RowView::new(&bytes, &layout).unwrap();
        let ctx = FormatContext::default();
        for (i, datum) in row.iter().enumerate() {
            prop_assert!(!view.is_absent(i));
            prop_assert_eq!(view.is_null(i), datum.is_null());
            let back = view.datum(i).unwrap();
            prop_assert_eq!(format!("{:?}", back), format!("{:?}", datum));
            prop_assert_eq!(back.to_text(&types[i], &ctx), datum.to_text(&types[i], &ctx));
        }
        for i in row.len()..later.len() {
            prop_assert!(view.is_absent(i) && !view.is_null(i));
            prop_assert_eq!(view.datum(i), Ok(Datum::Null));
        }
    }

    #[test]
    fn broken_rows_never_panic(
        (types, row) in row(),
        at in any::<prop::sample::Index>(),
        value: u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let layout = RowLayout::new(&types);
        let mut bytes = Vec::new();
        layout.encode(&row, &mut bytes).unwrap();
        let i = at.index(bytes.len());
        bytes[i] = value;
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(view) = RowView::new(&bytes, &layout) {
            for i in 0..types.len() {
                let _ = (view.datum(i), view.str(i), view.i64(i), view.decimal128(i), view.bytes(i));
            }
        }
    }
}

#[test]
fn wide_rows_use_long_offsets() {
    let types = [SqlType::Text, SqlType::Int4, SqlType::Text];
    let row = [
        Datum::Text("x".repeat(70_000).into()),
        Datum::Int4(5),
        Datum::Text("end".into()),
    ];
    let layout = RowLayout::new(&types);
    let mut bytes = b"before".to_vec();
    layout.encode(&row, &mut bytes).unwrap();
    let view = RowView::new(&bytes[6..], &layout).unwrap();
    assert_eq!(view.to_row().unwrap(), row);
    assert_eq!((view.i32(1), view.str(2)), (Ok(5), Ok("end")));
}

#[test]
fn short_numerics_are_mantissas() {
    let types = [
        SqlType::Numeric(Some((15, 2))),
        SqlType::Numeric(Some((38, 10))),
    ];
    let layout = RowLayout::new(&types);
    let value = |s: &str| Datum::Numeric(Numeric::parse(s).unwrap());
    let mut bytes = Vec::new();
    layout
        .encode(&[value("12.50"), value("-0.0000000001")], &mut bytes)
        .unwrap();
    let view = RowView::new(&bytes, &layout).unwrap();
    assert_eq!(view.decimal128(0), Ok(Some(1250)));
    assert_eq!(view.decimal128(1), Ok(Some(-1)));
    let mut bytes = Vec::new();
    layout
        .encode(&[value("NaN"), value("NaN")], &mut bytes)
        .unwrap();
    let view = RowView::new(&bytes, &layout).unwrap();
    assert_eq!(
        (view.decimal128(0), view.decimal128(1)),
        (Ok(None), Ok(None))
    );
    assert_eq!(view.datum(0), Ok(value("NaN")));
}

#[test]
fn prefixes() {
    let prefix = key::index_prefix(7, 2);
    assert!(prefix.starts_with(&key::table_prefix(7)));
    let mut k = prefix.to_vec();
    key::encode(&mut k, &Datum::Int4(1), false, false);
    assert_eq!(
        key::split_index_prefix(&k).map(|(t, i, _)| (t, i)),
        Some((7, 2))
    );
    assert_eq!(
        key::prefix_end(&prefix),
        Some(key::index_prefix(7, 3).to_vec())
    );
    assert_eq!(key::prefix_end(&[1, 0xff]), Some(vec![2]));
    assert_eq!(key::prefix_end(&[0xff, 0xff]), None);
}
