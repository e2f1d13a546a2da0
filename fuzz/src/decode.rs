//! What is read back from disk and what clients send as values. The first bytes choose the decoder
//! and the types, the rest is what it gets.
//!
//! A decoded value is also written again in every form: a decoder must not give what an encoder
//! cannot take.

use crate::Target;
use bytes::Bytes;
use consensus::Command;
use std::sync::LazyLock;
use types::FormatContext;
use types::{Datum, Jsonb, SqlType, key};
use types::{RowLayout, RowView};

/// Every type that is stored.
pub static TYPES: LazyLock<Vec<SqlType>> = LazyLock::new(|| {
    let array = |element: SqlType| SqlType::Array(Box::new(element));
    vec![
        SqlType::Bool,
        SqlType::Int2,
        SqlType::Int4,
        SqlType::Int8,
        SqlType::Float4,
        SqlType::Float8,
        SqlType::Numeric(None),
        SqlType::Numeric(Some((12, 2))),
        SqlType::Numeric(Some((30, 5))),
        SqlType::Text,
        SqlType::Varchar(Some(5)),
        SqlType::Char(4),
        SqlType::Bytea,
        SqlType::Date,
        SqlType::Time,
        SqlType::Timestamp,
        SqlType::TimestampTz,
        SqlType::Interval,
        SqlType::Uuid,
        SqlType::Json,
        SqlType::Jsonb,
        SqlType::Oid,
        SqlType::Name,
        SqlType::InternalChar,
        SqlType::Int2Vector,
        SqlType::OidVector,
        array(SqlType::Int4),
        array(SqlType::Text),
        array(SqlType::Numeric(None)),
        array(SqlType::Jsonb),
        array(SqlType::Interval),
    ]
});

/// What the first byte chooses.
pub const DECODERS: u8 = 8;

pub struct DecodeTarget;

impl Target for DecodeTarget {
    fn run(&mut self, input: &[u8]) {
        let [decoder, first, second, rest @ ..] = input else {
            return;
        };
        let types = &*TYPES;
        let sql_type = &types[usize::from(*first) % types.len()];
        let other = &types[usize::from(*second) % types.len()];
        match decoder % DECODERS {
            0 => stored_key(rest, sql_type, other),
            1 => row(rest, &[sql_type.clone(), other.clone()]),
            2 => row(rest, types),
            3 => {
                let _ = Command::decode(&Bytes::copy_from_slice(rest));
            }
            4 => {
                // A checksum that fits, so that what is behind it is reached.
                let mut sealed = rest.to_vec();
                sealed.extend_from_slice(&crc32fast::hash(rest).to_le_bytes());
                if let Ok(command) = Command::decode(&Bytes::from(sealed)) {
                    command.encode();
                }
            }
            5 => {
                if let Ok(value) = Jsonb::decode(rest) {
                    rewrite(&Datum::Jsonb(value), &SqlType::Jsonb);
                }
            }
            6 => {
                if let Ok(datum) = Datum::parse_binary(rest, sql_type) {
                    rewrite(&datum, sql_type);
                }
            }
            _ => {
                let context = FormatContext::default();
                let text = String::from_utf8_lossy(rest);
                if let Ok(datum) = Datum::parse_text(&text, sql_type, &context) {
                    rewrite(&datum, sql_type);
                }
            }
        }
    }
}

fn stored_key(mut bytes: &[u8], first: &SqlType, second: &SqlType) {
    let mut skipped = bytes;
    for (sql_type, descending) in [(first, false), (second, true)] {
        let decoded = key::decode(&mut bytes, sql_type, descending);
        let skip = key::skip(&mut skipped, sql_type, descending);
        match decoded {
            Ok(datum) => rewrite(&datum, sql_type),
            Err(_) => return,
        }
        if skip.is_err() {
            return;
        }
    }
    let _ = key::split_index_prefix(bytes);
    let _ = key::prefix_end(bytes);
}

fn row(bytes: &[u8], types: &[SqlType]) {
    let layout = RowLayout::new(types);
    let Ok(view) = RowView::new(bytes, &layout) else {
        return;
    };
    for (column, sql_type) in types.iter().enumerate() {
        let _ = view.bytes(column);
        let _ = view.str(column);
        let _ = view.decimal128(column);
        if let Ok(datum) = view.datum(column) {
            rewrite(&datum, sql_type);
        }
    }
    if let Ok(row) = view.to_row() {
        let _ = layout.encode(&row, &mut Vec::new());
    }
}

/// Writes a value in every form there is.
fn rewrite(datum: &Datum, sql_type: &SqlType) {
    let mut out = Vec::new();
    key::encode(&mut out, datum, false, false);
    key::encode(&mut out, datum, true, true);
    if !datum.is_null() {
        datum.write_text(sql_type, &FormatContext::default(), &mut out);
        datum.write_binary(sql_type, &mut out);
    }
    let _ = types::row::encode(
        std::slice::from_ref(sql_type),
        std::slice::from_ref(datum),
        &mut out,
    );
}
