//! The fields that frames are made of. Everything that reads is `None` where the bytes are malformed.

use bytes::Bytes;
use sharding::ShardId;
use txn::kv::{Key, Span, TxnId};
use types::Timestamp;
use types::codec::{Reader, put_bytes, put_varint};

pub(super) fn put_timestamp(out: &mut Vec<u8>, at: Timestamp) {
    out.extend_from_slice(&at.0.to_le_bytes());
}

pub(super) fn timestamp(reader: &mut Reader) -> Option<Timestamp> {
    reader.u64().map(Timestamp)
}

pub(super) fn put_txn(out: &mut Vec<u8>, txn: TxnId) {
    out.extend_from_slice(&txn.0.to_le_bytes());
}

pub(super) fn txn(reader: &mut Reader) -> Option<TxnId> {
    let low = u128::from(reader.u64()?);
    let high = u128::from(reader.u64()?);
    Some(TxnId(high << 64 | low))
}

pub(super) fn shard(reader: &mut Reader) -> Option<ShardId> {
    reader.varint().map(ShardId)
}

pub(super) fn size(reader: &mut Reader) -> Option<usize> {
    usize::try_from(reader.varint()?).ok()
}

pub(super) fn flag(reader: &mut Reader) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

pub(super) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn option<T>(
    reader: &mut Reader,
    read: impl FnOnce(&mut Reader) -> Option<T>,
) -> Option<Option<T>> {
    Some(match flag(reader)? {
        true => Some(read(reader)?),
        false => None,
    })
}

/// A list whose items take at least `least` bytes each, so that a wrong count cannot ask for much memory.
pub(super) fn list<T>(
    reader: &mut Reader,
    least: usize,
    mut read: impl FnMut(&mut Reader) -> Option<T>,
) -> Option<Vec<T>> {
    let count = size(reader)?;
    if count > reader.left() / least {
        return None;
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Some(items)
}

pub(super) fn put_keys(out: &mut Vec<u8>, keys: &[Key]) {
    put_varint(out, keys.len() as u64);
    for key in keys {
        put_bytes(out, key);
    }
}

pub(super) fn keys(reader: &mut Reader) -> Option<Vec<Key>> {
    list(reader, 1, Reader::bytes)
}

pub(super) fn put_span(out: &mut Vec<u8>, span: &Span) {
    put_bytes(out, &span.start);
    put_bytes(out, &span.end);
}

pub(super) fn span(reader: &mut Reader) -> Option<Span> {
    Some(Span {
        start: reader.bytes()?,
        end: reader.bytes()?,
    })
}

pub(super) fn text(reader: &mut Reader) -> Option<String> {
    let bytes: Bytes = reader.bytes()?;
    String::from_utf8(bytes.to_vec()).ok()
}
