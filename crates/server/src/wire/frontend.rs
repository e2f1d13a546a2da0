//! What a client may say, decoded without copying from one frame's body.
//!
//! Layout: PostgreSQL manual, "Message Formats". A body that does not have its type's layout is an
//! error of state 08P01 and the connection goes on, since frames are told apart by their length.

use bytes::Bytes;
use types::{Error, Result, SqlState};

/// One message as it stands in the stream: its type byte and what follows the length.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub tag: u8,
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target<'a> {
    Statement(&'a str),
    Portal(&'a str),
}

#[derive(Debug, PartialEq)]
pub enum FrontendMessage<'a> {
    Query(&'a str),
    Parse {
        name: &'a str,
        sql: &'a str,
        parameter_oids: Vec<u32>,
    },
    Bind(Bind<'a>),
    Describe(Target<'a>),
    Execute {
        portal: &'a str,
        /// 0: no limit.
        max_rows: u32,
    },
    Close(Target<'a>),
    Flush,
    Sync,
    CopyData(Bytes),
    CopyDone,
    CopyFail(&'a str),
    FunctionCall,
    Terminate,
}

#[derive(Debug, PartialEq)]
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    /// None: all text. One: for all. Else one per parameter.
    pub parameter_formats: Vec<i16>,
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

/// Whether a type byte is one of the frontend's after startup.
pub fn is_known(tag: u8) -> bool {
    matches!(
        tag,
        b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' | b'd' | b'c' | b'f' | b'F' | b'X'
    )
}

/// Whether the message may be as long as its data.
pub fn may_be_long(tag: u8) -> bool {
    matches!(tag, b'Q' | b'P' | b'B' | b'd' | b'F')
}

/// Whether the message belongs to the extended protocol, so that an error in it skips to Sync.
pub fn is_extended(tag: u8) -> bool {
    matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
}

pub fn decode(frame: &Frame) -> Result<FrontendMessage<'_>> {
    let mut reader = Reader::new(&frame.body);
    let message = match frame.tag {
        b'Q' => FrontendMessage::Query(reader.text()?),
        b'P' => {
            let name = reader.text()?;
            let sql = reader.text()?;
            let count = usize::from(reader.u16()?);
            let parameter_oids = reader.array(count, 4, Reader::u32)?;
            FrontendMessage::Parse {
                name,
                sql,
                parameter_oids,
            }
        }
        b'B' => FrontendMessage::Bind(bind(&mut reader)?),
        b'D' => FrontendMessage::Describe(target(&mut reader, "DESCRIBE")?),
        b'C' => FrontendMessage::Close(target(&mut reader, "CLOSE")?),
        b'E' => FrontendMessage::Execute {
            portal: reader.text()?,
            // A negative count is "all", as in PostgreSQL.
            max_rows: u32::try_from(reader.u32()? as i32).unwrap_or(0),
        },
        b'H' => FrontendMessage::Flush,
        b'S' => FrontendMessage::Sync,
        b'd' => return Ok(FrontendMessage::CopyData(frame.body.clone())),
        b'c' => FrontendMessage::CopyDone,
        b'f' => FrontendMessage::CopyFail(reader.text()?),
        b'F' => return Ok(FrontendMessage::FunctionCall),
        b'X' => FrontendMessage::Terminate,
        other => return Err(invalid_type(other)),
    };
    reader.finish()?;
    Ok(message)
}

pub fn invalid_type(tag: u8) -> Error {
    Error::new(
        SqlState::PROTOCOL_VIOLATION,
        format!("invalid frontend message type {tag}"),
    )
}

fn bind<'a>(reader: &mut Reader<'a>) -> Result<Bind<'a>> {
    let portal = reader.text()?;
    let statement = reader.text()?;
    let formats = usize::from(reader.u16()?);
    let parameter_formats = reader.array(formats, 2, Reader::i16)?;
    let count = usize::from(reader.u16()?);
    if formats > 1 && formats != count {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("bind message has {formats} parameter formats but {count} parameters"),
        ));
    }
    let parameters = reader.array(count, 4, Reader::value)?;
    let results = usize::from(reader.u16()?);
    let result_formats = reader.array(results, 2, Reader::i16)?;
    Ok(Bind {
        portal,
        statement,
        parameter_formats,
        parameters,
        result_formats,
    })
}

fn target<'a>(reader: &mut Reader<'a>, message: &str) -> Result<Target<'a>> {
    let kind = reader.u8()?;
    let name = reader.text()?;
    match kind {
        b'S' => Ok(Target::Statement(name)),
        b'P' => Ok(Target::Portal(name)),
        other => Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("invalid {message} message subtype {other}"),
        )),
    }
}

/// Takes fields off the front of a body.
pub struct Reader<'a> {
    body: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(body: &'a Bytes) -> Self {
        Reader { body, rest: body }
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| {
            Error::new(
                SqlState::PROTOCOL_VIOLATION,
                "insufficient data left in message",
            )
        })?;
        self.rest = rest;
        Ok(head)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take_array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.take_array().map(u16::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16> {
        self.take_array().map(i16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.take_array().map(u32::from_be_bytes)
    }

    /// A NUL-terminated string, which must be UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        let end =
            self.rest.iter().position(|b| *b == 0).ok_or_else(|| {
                Error::new(SqlState::PROTOCOL_VIOLATION, "invalid string in message")
            })?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        std::str::from_utf8(text).map_err(|error| invalid_utf8(text, error))
    }

    /// A length and as many bytes; -1 is NULL.
    pub fn value(&mut self) -> Result<Option<Bytes>> {
        match self.u32()? as i32 {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| {
                    Error::new(
                        SqlState::PROTOCOL_VIOLATION,
                        "invalid parameter length in message",
                    )
                })?;
                let value = self.take(len)?;
                Ok(Some(self.body.slice_ref(value)))
            }
        }
    }

    /// `count` elements of at least `min_bytes` each: a count that the body cannot hold is refused
    /// before anything is allocated for it.
    fn array<T>(
        &mut self,
        count: usize,
        min_bytes: usize,
        element: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        if count * min_bytes > self.rest.len() {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                "insufficient data left in message",
            ));
        }
        (0..count).map(|_| element(self)).collect()
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                "invalid message format",
            ))
        }
    }
}

/// PostgreSQL's report of text that is not in the client's encoding.
pub fn invalid_utf8(text: &[u8], error: std::str::Utf8Error) -> Error {
    let bad = &text[error.valid_up_to()..];
    // The bytes of the broken sequence, as many as were read of it.
    let shown = error.error_len().unwrap_or(bad.len()).clamp(1, 4);
    let bytes: Vec<String> = bad
        .iter()
        .take(shown)
        .map(|b| format!("0x{b:02x}"))
        .collect();
    Error::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!(
            "invalid byte sequence for encoding \"UTF8\": {}",
            bytes.join(" ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Frame {
        Frame {
            tag,
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn decodes_bind() {
        let frame = frame(
            b'B',
            b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02hi\xff\xff\xff\xff\0\x02\0\0\0\x01",
        );
        let FrontendMessage::Bind(bind) = decode(&frame).expect("well formed") else {
            panic!("not a Bind");
        };
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
        assert_eq!(bind.parameter_formats, [1]);
        assert_eq!(bind.parameters, [Some(Bytes::from_static(b"hi")), None]);
        assert_eq!(bind.result_formats, [0, 1]);
    }

    #[test]
    fn refuses_what_is_not_whole() {
        for (tag, body) in [
            (b'Q', &b"no end"[..]),
            (b'Q', b"two\0strings\0"),
            (b'P', b"s\0select\0\xff\xff"),
            (b'B', b"\0\0\0\x02\0\0\0\0\0\x01\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"Xname\0"),
            (b'E', b"p\0\0"),
            (b'S', b"extra"),
        ] {
            let frame = frame(tag, body);
            let error = decode(&frame).expect_err("malformed");
            assert_eq!(error.state, SqlState::PROTOCOL_VIOLATION, "{body:?}");
        }
    }

    #[test]
    fn names_bytes_that_are_not_utf8() {
        let frame = frame(b'Q', b"select '\xc3\x28'\0");
        let error = decode(&frame).expect_err("not UTF-8");
        assert_eq!(error.state, SqlState::CHARACTER_NOT_IN_REPERTOIRE);
        assert_eq!(
            error.message,
            "invalid byte sequence for encoding \"UTF8\": 0xc3"
        );
    }
}
