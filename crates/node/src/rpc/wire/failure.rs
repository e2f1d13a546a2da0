//! Why there is no answer: refusals, and errors with all that a client is told.

use super::fields::*;
use crate::shard_server::{Failure, Refusal};
use sharding::ShardDescriptor;
use types::codec::{Reader, put_bytes, put_varint};
use types::error::ErrorFields;
use types::{Error, SqlState, StoreId};

/// Bytes that a descriptor takes at least.
const LEAST_DESCRIPTOR: usize = 6;

const NOT_LEASE_HOLDER: u8 = 1;
const MISMATCH: u8 = 2;
const UNREACHABLE: u8 = 3;
const FAILED: u8 = 4;

pub(crate) fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    match failure {
        Failure::Refused(Refusal::NotLeaseHolder { hint }) => {
            out.push(NOT_LEASE_HOLDER);
            put_option(out, hint.map(|store| store.0), put_varint);
        }
        Failure::Refused(Refusal::Mismatch { newer }) => {
            out.push(MISMATCH);
            put_varint(out, newer.len() as u64);
            for descriptor in newer {
                descriptor.put(out);
            }
        }
        Failure::Unreachable(perhaps_done) => {
            out.push(UNREACHABLE);
            out.push(u8::from(*perhaps_done));
        }
        Failure::Failed(error) => {
            out.push(FAILED);
            put_error(out, error);
        }
    }
}

pub(crate) fn failure(reader: &mut Reader, kind: u8) -> Option<Failure> {
    Some(match kind {
        NOT_LEASE_HOLDER => Failure::Refused(Refusal::NotLeaseHolder {
            hint: option(reader, Reader::varint)?.map(StoreId),
        }),
        MISMATCH => Failure::Refused(Refusal::Mismatch {
            newer: list(reader, LEAST_DESCRIPTOR, ShardDescriptor::read)?,
        }),
        UNREACHABLE => Failure::Unreachable(flag(reader)?),
        FAILED => Failure::Failed(error(reader)?),
        _ => return None,
    })
}

fn put_error(out: &mut Vec<u8>, error: &Error) {
    out.extend_from_slice(&error.state.0);
    put_text(out, &error.message);
    // Taken apart by name, so that a new field cannot be forgotten here.
    let ErrorFields {
        detail,
        hint,
        position,
        schema,
        table,
        column,
        data_type,
        constraint,
    } = &*error.fields;
    for text in [detail, hint, schema, table, column, data_type, constraint] {
        put_option(out, text.as_deref(), put_text);
    }
    put_option(out, position.map(u64::from), put_varint);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn error(reader: &mut Reader) -> Option<Error> {
    let state: [u8; 5] = reader.take(5)?[..].try_into().ok()?;
    if !state.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    Some(Error {
        state: SqlState(state),
        message: text(reader)?,
        fields: Box::new(ErrorFields {
            detail: option(reader, text)?,
            hint: option(reader, text)?,
            schema: option(reader, text)?,
            table: option(reader, text)?,
            column: option(reader, text)?,
            data_type: option(reader, text)?,
            constraint: option(reader, text)?,
            position: match option(reader, Reader::varint)? {
                Some(position) => Some(u32::try_from(position).ok()?),
                None => None,
            },
        }),
    })
}
