//! Reading and writing of small checksummed records: numbers little-endian, a CRC-32 at the end.

use bytes::Bytes;

pub(crate) const CHECKSUM_BYTES: usize = 4;

/// Appends the checksum of what `record` holds from `start` on.
pub(crate) fn seal(record: &mut Vec<u8>, start: usize) {
    let sum = crc32fast::hash(&record[start..]);
    record.extend_from_slice(&sum.to_le_bytes());
}

/// The record without its checksum, or `None` if that is wrong.
pub(crate) fn unseal(record: &Bytes) -> Option<Bytes> {
    let body = record.len().checked_sub(CHECKSUM_BYTES)?;
    let sum: [u8; CHECKSUM_BYTES] = record[body..].try_into().ok()?;
    (crc32fast::hash(&record[..body]) == u32::from_le_bytes(sum)).then(|| record.slice(..body))
}

/// LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes fields off the front. Every method is `None` at the end of the bytes, never a panic.
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let value = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let end = self.at.checked_add(8)?;
        let field: [u8; 8] = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(u64::from_le_bytes(field))
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A length and that many bytes, shared with the record.
    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<Bytes> {
        if len > self.left() {
            return None;
        }
        let field = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Some(field)
    }
}
