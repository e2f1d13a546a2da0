//! Reading and writing of small checksummed records: numbers little-endian, a CRC-32 at the end.
//!
//! Two shapes stand on it. A record whose layout is fixed by its version byte is written field after field.
//! A record that programs of different versions exchange is a row of [`put_field`]s: a number that names the
//! field for ever, a length, the value. Who does not know a field steps over it.

use bytes::Bytes;

/// Of a record, at its end.
pub const CHECKSUM_BYTES: usize = 4;

/// Appends the checksum of what `record` holds from `start` on.
pub fn seal(record: &mut Vec<u8>, start: usize) {
    let sum = crc32fast::hash(&record[start..]);
    record.extend_from_slice(&sum.to_le_bytes());
}

/// The record without its checksum, or `None` if that is wrong.
pub fn unseal(record: &Bytes) -> Option<Bytes> {
    let body = record.len().checked_sub(CHECKSUM_BYTES)?;
    let sum: [u8; CHECKSUM_BYTES] = record[body..].try_into().ok()?;
    (crc32fast::hash(&record[..body]) == u32::from_le_bytes(sum)).then(|| record.slice(..body))
}

/// LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a named field. Read back with [`Reader::field`].
pub fn put_field(out: &mut Vec<u8>, name: u64, value: &[u8]) {
    put_varint(out, name);
    put_bytes(out, value);
}

/// A named field that holds one number.
pub fn put_number_field(out: &mut Vec<u8>, name: u64, value: u64) {
    let mut number = Vec::with_capacity(10);
    put_varint(&mut number, value);
    put_field(out, name, &number);
}

/// Appends 0 for nothing, or length + 1 and the bytes.
pub fn put_optional_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            put_varint(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

/// Takes fields off the front. Every method is `None` at the end of the bytes, never a panic.
pub struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    /// Of a whole record, or of what [`unseal`] left of it.
    pub fn new(bytes: Bytes) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Bytes not taken yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        let value = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Option<u64> {
        let end = self.at.checked_add(8)?;
        let field: [u8; 8] = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(u64::from_le_bytes(field))
    }

    /// LEB128, at most 64 bits.
    pub fn varint(&mut self) -> Option<u64> {
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
    pub fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }

    /// The next named field and its value.
    pub fn field(&mut self) -> Option<(u64, Reader)> {
        let name = self.varint()?;
        Some((name, Reader::new(self.bytes()?)))
    }

    /// Everything that is left, if it is text.
    pub fn rest_as_text(&mut self) -> Option<String> {
        let rest = self.take(self.left())?;
        String::from_utf8(rest.to_vec()).ok()
    }

    /// Everything that is left, if it is one number.
    pub fn rest_as_number(&mut self) -> Option<u64> {
        let value = self.varint()?;
        (self.left() == 0).then_some(value)
    }

    /// So many bytes, shared with the record.
    pub fn take(&mut self, len: usize) -> Option<Bytes> {
        if len > self.left() {
            return None;
        }
        let field = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Some(field)
    }

    /// 0 for nothing, or length + 1 and the bytes.
    pub fn optional_bytes(&mut self) -> Option<Option<Bytes>> {
        match self.varint()? {
            0 => Some(None),
            len => Some(Some(self.take(usize::try_from(len - 1).ok()?)?)),
        }
    }
}
