//! What the server says, written straight into the connection's one write buffer.
//!
//! A message is opened by [`Output::begin`] and closed by [`Output::end`], which fills in its
//! length. [`Output::discard_open`] takes back a message whose making failed half-way, so the
//! stream never holds part of one.

use crate::wire::limits::KEPT_BUFFER_BYTES;
use sql::response::{CopyFormat, Notice, ResultColumn, TransactionStatus};
use types::{Error, SqlState, SqlType};

/// How grave an ErrorResponse is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the connection goes on.
    Error,
    /// The connection ends.
    Fatal,
}

#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// Where the open message starts.
    open: Option<usize>,
    /// As many bytes have left already.
    sent: usize,
    /// Bytes before this offset answer a Sync or a Flush: the client waits for them.
    awaited: usize,
}

impl Output {
    /// What is still to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All was sent.
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BUFFER_BYTES * 2 {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
        self.sent = 0;
        self.awaited = 0;
    }

    /// The client waits for all that was said up to here.
    pub fn mark_awaited(&mut self) {
        self.awaited = self.bytes.len();
    }

    /// What the client waits for and has not been sent.
    pub fn awaited(&self) -> &[u8] {
        self.bytes.get(self.sent..self.awaited).unwrap_or_default()
    }

    /// Some of the awaited bytes left.
    pub fn advance(&mut self, sent: usize) {
        self.sent = (self.sent + sent).min(self.bytes.len());
    }

    // ---- frames -----------------------------------------------------------------------------

    #[inline]
    pub fn begin(&mut self, tag: u8) {
        self.open = Some(self.bytes.len());
        self.bytes.extend_from_slice(&[tag, 0, 0, 0, 0]);
    }

    #[inline]
    pub fn end(&mut self) {
        if let Some(start) = self.open.take() {
            let len = (self.bytes.len() - start - 1) as u32;
            self.bytes[start + 1..start + 5].copy_from_slice(&len.to_be_bytes());
        }
    }

    /// Takes back the message that was begun and not ended.
    pub fn discard_open(&mut self) {
        if let Some(start) = self.open.take() {
            self.bytes.truncate(start);
        }
    }

    /// The buffer itself, for writing the open message's body.
    #[inline]
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn put_i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// NUL-terminated; a NUL inside would end the string early and is left out.
    fn put_text(&mut self, text: &str) {
        if text.as_bytes().contains(&0) {
            self.bytes.extend(text.bytes().filter(|b| *b != 0));
        } else {
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.bytes.push(0);
    }

    fn empty_message(&mut self, tag: u8) {
        self.bytes.extend_from_slice(&[tag, 0, 0, 0, 4]);
    }

    // ---- startup ----------------------------------------------------------------------------

    /// The one-byte answer to an encryption request.
    pub fn encryption_answer(&mut self, accepted: bool) {
        self.bytes.push(if accepted { b'S' } else { b'N' });
    }

    pub fn negotiate_protocol_version(&mut self, newest_minor: i32, unknown: &[String]) {
        self.begin(b'v');
        self.put_i32(newest_minor);
        self.put_i32(unknown.len() as i32);
        for name in unknown {
            self.put_text(name);
        }
        self.end();
    }

    pub fn authentication_ok(&mut self) {
        self.authentication(0, &[]);
    }

    /// The SASL mechanisms on offer.
    pub fn authentication_sasl(&mut self, mechanisms: &[&str]) {
        self.begin(b'R');
        self.put_i32(10);
        for mechanism in mechanisms {
            self.put_text(mechanism);
        }
        self.bytes.push(0);
        self.end();
    }

    pub fn authentication_sasl_continue(&mut self, data: &[u8]) {
        self.authentication(11, data);
    }

    pub fn authentication_sasl_final(&mut self, data: &[u8]) {
        self.authentication(12, data);
    }

    fn authentication(&mut self, code: i32, data: &[u8]) {
        self.begin(b'R');
        self.put_i32(code);
        self.bytes.extend_from_slice(data);
        self.end();
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.begin(b'S');
        self.put_text(name);
        self.put_text(value);
        self.end();
    }

    pub fn backend_key_data(&mut self, pid: i32, secret: i32) {
        self.begin(b'K');
        self.put_i32(pid);
        self.put_i32(secret);
        self.end();
    }

    // ---- answers ----------------------------------------------------------------------------

    pub fn ready_for_query(&mut self, status: TransactionStatus) {
        let status = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InBlock => b'T',
            TransactionStatus::Failed => b'E',
        };
        self.bytes.extend_from_slice(&[b'Z', 0, 0, 0, 5, status]);
    }

    /// `formats` holds one code per column, or none: all text.
    pub fn row_description(&mut self, columns: &[ResultColumn], formats: &[i16]) {
        self.begin(b'T');
        self.put_i16(columns.len() as i16);
        for (at, column) in columns.iter().enumerate() {
            self.put_text(&column.name);
            self.put_i32(column.table as i32);
            self.put_i16(column.attribute);
            self.put_i32(column.sql_type.oid() as i32);
            self.put_i16(column.sql_type.typlen());
            self.put_i32(column.sql_type.typmod());
            self.put_i16(formats.get(at).copied().unwrap_or(0));
        }
        self.end();
    }

    pub fn parameter_description(&mut self, types: &[SqlType]) {
        self.begin(b't');
        self.put_i16(types.len() as i16);
        for sql_type in types {
            self.put_i32(sql_type.oid() as i32);
        }
        self.end();
    }

    pub fn no_data(&mut self) {
        self.empty_message(b'n');
    }

    pub fn parse_complete(&mut self) {
        self.empty_message(b'1');
    }

    pub fn bind_complete(&mut self) {
        self.empty_message(b'2');
    }

    pub fn close_complete(&mut self) {
        self.empty_message(b'3');
    }

    pub fn portal_suspended(&mut self) {
        self.empty_message(b's');
    }

    pub fn empty_query(&mut self) {
        self.empty_message(b'I');
    }

    pub fn command_complete(&mut self, tag: &str) {
        self.begin(b'C');
        self.put_text(tag);
        self.end();
    }

    // ---- COPY -------------------------------------------------------------------------------

    pub fn copy_in_response(&mut self, format: CopyFormat) {
        self.copy_response(b'G', format);
    }

    pub fn copy_out_response(&mut self, format: CopyFormat) {
        self.copy_response(b'H', format);
    }

    fn copy_response(&mut self, tag: u8, format: CopyFormat) {
        self.begin(tag);
        self.bytes.push(u8::from(format.binary));
        self.put_i16(format.columns as i16);
        for _ in 0..format.columns {
            self.put_i16(i16::from(format.binary));
        }
        self.end();
    }

    pub fn copy_data(&mut self, data: &[u8]) {
        self.begin(b'd');
        self.bytes.extend_from_slice(data);
        self.end();
    }

    pub fn copy_done(&mut self) {
        self.empty_message(b'c');
    }

    // ---- errors -----------------------------------------------------------------------------

    pub fn error(&mut self, severity: Severity, error: &Error) {
        let word = match severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        self.report(b'E', word, error);
    }

    pub fn notice(&mut self, notice: &Notice) {
        self.report(b'N', notice.severity, &notice.body);
    }

    fn report(&mut self, tag: u8, severity: &str, error: &Error) {
        self.begin(tag);
        // `S` may be translated, `V` never is; here both are English.
        for field in [b'S', b'V'] {
            self.bytes.push(field);
            self.put_text(severity);
        }
        self.field(b'C', Some(state_text(&error.state)));
        self.field(b'M', Some(&error.message));
        let fields = &error.fields;
        self.field(b'D', fields.detail.as_deref());
        self.field(b'H', fields.hint.as_deref());
        if let Some(position) = fields.position {
            self.field(b'P', Some(&position.to_string()));
        }
        self.field(b's', fields.schema.as_deref());
        self.field(b't', fields.table.as_deref());
        self.field(b'c', fields.column.as_deref());
        self.field(b'd', fields.data_type.as_deref());
        self.field(b'n', fields.constraint.as_deref());
        self.bytes.push(0);
        self.end();
    }

    fn field(&mut self, code: u8, text: Option<&str>) {
        if let Some(text) = text {
            self.bytes.push(code);
            self.put_text(text);
        }
    }
}

fn state_text(state: &SqlState) -> &str {
    std::str::from_utf8(&state.0).unwrap_or("XX000")
}
