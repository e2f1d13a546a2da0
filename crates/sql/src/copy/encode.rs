//! COPY … TO STDOUT: rows to bytes.

use crate::statement::{CopyKind, CopyOptions};
use types::text::FormatContext;
use types::{Datum, Result, SqlType};

pub const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
pub const BINARY_TRAILER: &[u8] = &[0xff, 0xff];

pub struct Encoder {
    options: CopyOptions,
    names: Vec<String>,
    types: Vec<SqlType>,
    force_quote: Vec<bool>,
    field: Vec<u8>,
}

impl Encoder {
    pub fn new(options: CopyOptions, names: Vec<String>, types: Vec<SqlType>) -> Self {
        let forced = |name: &String| options.force_quote_all || options.force_quote.contains(name);
        let force_quote = names.iter().map(forced).collect();
        Encoder {
            options,
            names,
            types,
            force_quote,
            field: Vec::new(),
        }
    }

    pub fn is_binary(&self) -> bool {
        self.options.kind == CopyKind::Binary
    }

    /// What comes before the rows.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if self.options.kind == CopyKind::Binary {
            out.extend_from_slice(BINARY_HEADER);
        } else if self.options.header {
            for index in 0..self.names.len() {
                self.field.clear();
                self.field.extend_from_slice(self.names[index].as_bytes());
                self.write_field(index, false, out);
            }
            out.push(b'\n');
        }
    }

    pub fn row(&mut self, row: &[Datum], ctx: &FormatContext, out: &mut Vec<u8>) -> Result<()> {
        if self.options.kind == CopyKind::Binary {
            return self.binary_row(row, out);
        }
        for (index, datum) in row.iter().enumerate() {
            self.field.clear();
            let is_null = matches!(datum, Datum::Null);
            if is_null {
                if index > 0 {
                    out.push(self.options.delimiter);
                }
                out.extend_from_slice(self.options.null.as_bytes());
                continue;
            }
            datum.write_text(&self.types[index], ctx, &mut self.field);
            self.write_field(index, self.force_quote[index], out);
        }
        out.push(b'\n');
        Ok(())
    }

    /// What comes after the rows.
    pub fn end(&self, out: &mut Vec<u8>) {
        if self.options.kind == CopyKind::Binary {
            out.extend_from_slice(BINARY_TRAILER);
        }
    }

    fn binary_row(&mut self, row: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&(row.len() as i16).to_be_bytes());
        for (datum, sql_type) in row.iter().zip(&self.types) {
            if matches!(datum, Datum::Null) {
                out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            }
            self.field.clear();
            datum.write_binary(sql_type, &mut self.field);
            out.extend_from_slice(&(self.field.len() as i32).to_be_bytes());
            out.extend_from_slice(&self.field);
        }
        Ok(())
    }

    /// Writes the field that stands in `self.field`, with its delimiter before it.
    fn write_field(&self, index: usize, force_quote: bool, out: &mut Vec<u8>) {
        if index > 0 {
            out.push(self.options.delimiter);
        }
        if self.options.kind == CopyKind::Csv {
            self.write_csv(force_quote, out);
        } else {
            self.write_escaped(out);
        }
    }

    fn write_escaped(&self, out: &mut Vec<u8>) {
        for &byte in &self.field {
            let letter = match byte {
                b'\\' => b'\\',
                8 => b'b',
                12 => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                11 => b'v',
                other if other == self.options.delimiter => other,
                plain => {
                    out.push(plain);
                    continue;
                }
            };
            out.extend_from_slice(&[b'\\', letter]);
        }
    }

    fn write_csv(&self, force_quote: bool, out: &mut Vec<u8>) {
        let o = &self.options;
        let special = |byte: &u8| {
            *byte == o.delimiter || *byte == o.quote || *byte == b'\n' || *byte == b'\r'
        };
        let needs_quotes = force_quote
            || self.field == o.null.as_bytes()
            || self.field == b"\\."
            || self.field.iter().any(special);
        if !needs_quotes {
            out.extend_from_slice(&self.field);
            return;
        }
        out.push(o.quote);
        for &byte in &self.field {
            if byte == o.quote || byte == o.escape {
                out.push(o.escape);
            }
            out.push(byte);
        }
        out.push(o.quote);
    }
}
