//! COPY … FROM STDIN: bytes in arbitrary pieces to fields.
//!
//! [`Decoder::feed`] takes what the client sends; [`Decoder::next_record`] gives a record as soon as
//! all of it is there. Fields share one buffer that is reused, so a record costs no allocation.

use crate::statement::{CopyKind, CopyOptions};
use memchr::{memchr, memchr_iter};
use std::iter::once;
use types::{Error, Result, SqlState};

/// Longest record accepted, in bytes, as PostgreSQL's 1 GB limit on a line buffer would be too much
/// memory for one session here.
const MAX_RECORD_BYTES: usize = 256 << 20;

const BINARY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// One record's fields.
#[derive(Default)]
pub struct Fields {
    bytes: Vec<u8>,
    /// Start, end, and whether the field was quoted (CSV). `None`: NULL.
    places: Vec<Option<(usize, usize, bool)>>,
}

impl Fields {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The field's bytes; `None` for NULL.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (start, end, _) = (*self.places.get(index)?)?;
        Some(&self.bytes[start..end])
    }

    /// The field as text: 22021 if it is not UTF-8.
    pub fn text(&self, index: usize) -> Result<Option<&str>> {
        match self.get(index) {
            None => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| {
                Error::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\"",
                )
            }),
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }
}

pub struct Decoder {
    options: CopyOptions,
    buffer: Vec<u8>,
    /// Bytes of `buffer` before this are used up.
    at: usize,
    /// No more data will come.
    ended: bool,
    /// The end marker was read; what follows is ignored.
    finished: bool,
    started: bool,
    /// Records given so far, the header included: the line number of errors.
    line: u64,
}

impl Decoder {
    pub fn new(options: CopyOptions) -> Self {
        Decoder {
            options,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            finished: false,
            started: false,
            line: 0,
        }
    }

    pub fn feed(&mut self, data: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        if !self.finished {
            self.buffer.extend_from_slice(data);
        }
    }

    /// CopyDone: a last line without a newline counts.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// One-based line of the record given last.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// `false` when no whole record is here (yet).
    pub fn next_record(&mut self, fields: &mut Fields) -> Result<bool> {
        loop {
            fields.clear();
            if self.finished || self.at >= self.buffer.len() {
                return Ok(false);
            }
            if self.buffer.len() - self.at > MAX_RECORD_BYTES {
                return Err(Error::new(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    format!("COPY record of more than {MAX_RECORD_BYTES} bytes"),
                ));
            }
            if self.options.kind == CopyKind::Binary {
                return self.next_binary(fields);
            }
            let Some((end, next)) = self.record_end()? else {
                return Ok(false);
            };
            let record = self.at..end;
            self.at = next;
            self.line += 1;
            if self.line == 1 && self.options.header {
                continue;
            }
            if &self.buffer[record.clone()] == b"\\." {
                self.finished = true;
                return Ok(false);
            }
            match self.options.kind {
                CopyKind::Csv => split_csv(&self.buffer[record], &self.options, fields)?,
                _ => split_text(&self.buffer[record], &self.options, fields)?,
            }
            return Ok(true);
        }
    }

    /// Where the record that starts at `at` ends, and where the next one starts.
    fn record_end(&self) -> Result<Option<(usize, usize)>> {
        let csv = self.options.kind == CopyKind::Csv;
        let mut from = self.at;
        let mut in_quotes = false;
        loop {
            let Some(offset) = memchr(b'\n', &self.buffer[from..]) else {
                if !self.ended {
                    return Ok(None);
                }
                if csv && in_quotes != odd_quotes(&self.buffer[from..], &self.options) {
                    return Err(bad_format("unterminated CSV quoted field"));
                }
                return Ok(Some((self.buffer.len(), self.buffer.len())));
            };
            let newline = from + offset;
            let part = &self.buffer[from..newline];
            let goes_on = if csv {
                in_quotes ^= odd_quotes(part, &self.options);
                in_quotes
            } else {
                part.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
            };
            if !goes_on {
                let end = if newline > self.at && self.buffer[newline - 1] == b'\r' {
                    newline - 1
                } else {
                    newline
                };
                return Ok(Some((end, newline + 1)));
            }
            from = newline + 1;
        }
    }

    fn next_binary(&mut self, fields: &mut Fields) -> Result<bool> {
        if !self.started {
            let Some(header) = self.peek(self.at, BINARY_SIGNATURE.len() + 8) else {
                return self.incomplete();
            };
            if !header.starts_with(BINARY_SIGNATURE) {
                return Err(bad_format("COPY file signature not recognized"));
            }
            let extension = be_u32(&header[BINARY_SIGNATURE.len() + 4..]) as usize;
            let length = BINARY_SIGNATURE.len() + 8 + extension;
            if self.peek(self.at, length).is_none() {
                return self.incomplete();
            }
            self.at += length;
            self.started = true;
        }
        let mut at = self.at;
        let Some(count) = self.peek(at, 2) else {
            return self.incomplete();
        };
        let count = i16::from_be_bytes([count[0], count[1]]);
        at += 2;
        if count == -1 {
            self.finished = true;
            return Ok(false);
        }
        for _ in 0..count {
            let Some(length) = self.peek(at, 4) else {
                return self.incomplete();
            };
            let length = be_u32(length) as i32;
            at += 4;
            let Ok(length) = usize::try_from(length) else {
                fields.places.push(None);
                continue;
            };
            let Some(value) = self.buffer.get(at..at + length) else {
                return self.incomplete();
            };
            let start = fields.bytes.len();
            fields.bytes.extend_from_slice(value);
            fields.places.push(Some((start, fields.bytes.len(), false)));
            at += length;
        }
        self.at = at;
        self.line += 1;
        Ok(true)
    }

    fn peek(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.buffer.get(at..at.checked_add(length)?)
    }

    fn incomplete(&self) -> Result<bool> {
        if self.ended {
            Err(bad_format("unexpected EOF in COPY data"))
        } else {
            Ok(false)
        }
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn bad_format(message: &str) -> Error {
    Error::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

/// Whether the part turns "inside quotes" around. With an escape other than the quote, an escaped
/// quote does not count; a doubled quote counts twice.
fn odd_quotes(part: &[u8], options: &CopyOptions) -> bool {
    let mut odd = false;
    let mut bytes = part.iter();
    while let Some(&byte) = bytes.next() {
        if byte == options.escape && options.escape != options.quote && odd {
            bytes.next();
        } else if byte == options.quote {
            odd = !odd;
        }
    }
    odd
}

fn split_text(record: &[u8], options: &CopyOptions, fields: &mut Fields) -> Result<()> {
    let null = options.null.as_bytes();
    let mut at = 0;
    if memchr(b'\\', record).is_none() {
        // As most are: nothing to change, so one copy and one look for the delimiters.
        let before = fields.bytes.len();
        fields.bytes.extend_from_slice(record);
        for end in memchr_iter(options.delimiter, record).chain(once(record.len())) {
            let place = (before + at, before + end, false);
            fields
                .places
                .push((&record[at..end] != null).then_some(place));
            at = end + 1;
        }
        return Ok(());
    }
    loop {
        let rest = &record[at..];
        let mut length = 0;
        let mut escaped = false;
        while let Some(&byte) = rest.get(length) {
            if byte == options.delimiter {
                break;
            }
            if byte == b'\\' && length + 1 < rest.len() {
                escaped = true;
                length += 1;
            }
            length += 1;
        }
        let raw = &rest[..length];
        if raw == null {
            fields.places.push(None);
        } else {
            let start = fields.bytes.len();
            if escaped {
                unescape(raw, &mut fields.bytes);
            } else {
                fields.bytes.extend_from_slice(raw);
            }
            fields.places.push(Some((start, fields.bytes.len(), false)));
        }
        at += length + 1;
        if at > record.len() {
            return Ok(());
        }
    }
}

fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(&escaped) = raw.get(at) else {
            out.push(b'\\');
            return;
        };
        at += 1;
        match escaped {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                at -= 1;
                out.push(digits(raw, &mut at, 3, 8));
            }
            b'x' if raw.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                out.push(digits(raw, &mut at, 2, 16));
            }
            other => out.push(other),
        }
    }
}

/// Up to `most` digits of the radix; more than a byte wraps, as in PostgreSQL.
fn digits(raw: &[u8], at: &mut usize, most: usize, radix: u32) -> u8 {
    let mut value = 0u32;
    for _ in 0..most {
        let Some(digit) = raw
            .get(*at)
            .and_then(|byte| char::from(*byte).to_digit(radix))
        else {
            break;
        };
        value = value * radix + digit;
        *at += 1;
    }
    value as u8
}

fn split_csv(record: &[u8], options: &CopyOptions, fields: &mut Fields) -> Result<()> {
    let mut at = 0;
    loop {
        let start = fields.bytes.len();
        let mut quoted = false;
        let mut inside = false;
        while let Some(&byte) = record.get(at) {
            if inside {
                let next = record.get(at + 1).copied();
                let escapes = byte == options.escape
                    && next.is_some_and(|n| n == options.quote || n == options.escape);
                if escapes {
                    fields.bytes.extend(next);
                    at += 1;
                } else if byte == options.quote {
                    inside = false;
                } else {
                    fields.bytes.push(byte);
                }
            } else if byte == options.delimiter {
                break;
            } else if byte == options.quote {
                inside = true;
                quoted = true;
            } else {
                fields.bytes.push(byte);
            }
            at += 1;
        }
        if inside {
            return Err(bad_format("unterminated CSV quoted field"));
        }
        let end = fields.bytes.len();
        let is_null = !quoted && &fields.bytes[start..] == options.null.as_bytes();
        fields
            .places
            .push((!is_null).then_some((start, end, quoted)));
        at += 1;
        if at > record.len() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Statement;

    fn decoder(sql: &str) -> Decoder {
        match Statement::parse(sql) {
            Ok(Statement::Copy(copy)) => Decoder::new(copy.options),
            other => panic!("{other:?}"),
        }
    }

    /// Fed byte by byte, so that every boundary is tried.
    fn records(sql: &str, data: &[u8]) -> Vec<Vec<Option<String>>> {
        let mut decoder = decoder(sql);
        let mut fields = Fields::default();
        let mut records = Vec::new();
        for end in 0..=data.len() {
            match data.get(end) {
                Some(byte) => decoder.feed(&[*byte]),
                None => decoder.end(),
            }
            while decoder.next_record(&mut fields).unwrap() {
                let record = (0..fields.len())
                    .map(|i| fields.text(i).unwrap().map(str::to_string))
                    .collect();
                records.push(record);
            }
        }
        records
    }

    fn some(fields: &[&str]) -> Vec<Option<String>> {
        fields
            .iter()
            .map(|f| (*f != "NULL").then(|| (*f).to_string()))
            .collect()
    }

    #[test]
    fn text_escapes_nulls_and_end_marker() {
        let data = b"1\ta\\tb\t\\N\r\n2\t\\x41\\101\\\\\t\n\\.\nignored";
        let found = records("COPY t FROM STDIN", data);
        assert_eq!(
            found,
            [some(&["1", "a\tb", "NULL"]), some(&["2", "AA\\", ""])]
        );
    }

    #[test]
    fn text_without_escapes() {
        let found = records("COPY t FROM STDIN (NULL 'x')", b"1\t\tx\txx\n\n\t");
        assert_eq!(
            found,
            [some(&["1", "", "NULL", "xx"]), some(&[""]), some(&["", ""])]
        );
    }

    #[test]
    fn csv_quotes_newlines_and_nulls() {
        let data = b"h1,h2\n\"a,\"\"b\"\"\nc\",\n\"\",x";
        let found = records("COPY t FROM STDIN CSV HEADER", data);
        assert_eq!(found, [some(&["a,\"b\"\nc", "NULL"]), some(&["", "x"])]);
    }

    #[test]
    fn broken_input_is_22p04() {
        let mut decoder = decoder("COPY t FROM STDIN CSV");
        decoder.feed(b"\"open");
        decoder.end();
        let error = decoder.next_record(&mut Fields::default()).unwrap_err();
        assert_eq!(error.state, SqlState::BAD_COPY_FILE_FORMAT);
    }
}
