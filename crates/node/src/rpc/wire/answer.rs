//! What is answered.

use super::failure::{failure, put_failure};
use super::fields::*;
use super::request::{lease, put_lease};
use crate::shard_server::{Failure, Granted, OpenAnswer};
use bytes::Bytes;
use txn::kv::{Committed, Opened, ScanPage, Value, Version};
use types::Timestamp;
use types::codec::{Reader, put_bytes, put_varint};

const OK: u8 = 0;

const TIMESTAMP: u8 = 1;
const VERSION: u8 = 2;
const NEWEST: u8 = 3;
const PAGE: u8 = 4;
const GRANTED: u8 = 5;
const CONFIRMED: u8 = 6;
const COMMITTED: u8 = 7;
const DONE: u8 = 8;
const OPENED: u8 = 9;

/// Bytes that a row of a page takes at least: two lengths and a timestamp.
const LEAST_ROW: usize = 10;

/// What every answer says of the answering store: see [`crate::node_clock::NodeClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub now: Timestamp,
    pub catalog_changed: Timestamp,
}

#[derive(Debug)]
pub enum Response {
    Timestamp(Timestamp),
    Version(Option<(Value, Timestamp)>),
    Newest(Option<Timestamp>),
    Page(ScanPage),
    Granted(Granted),
    Confirmed(bool),
    Committed(Committed),
    Done,
    Opened(OpenAnswer),
}

pub type Outcome = Result<Response, Failure>;

pub fn encode_answer(stamp: Stamp, outcome: &Outcome) -> Bytes {
    let mut out = Vec::with_capacity(room(outcome));
    put_timestamp(&mut out, stamp.now);
    put_timestamp(&mut out, stamp.catalog_changed);
    match outcome {
        Ok(response) => {
            out.push(OK);
            put_response(&mut out, response);
        }
        Err(failure) => put_failure(&mut out, failure),
    }
    out.into()
}

/// Keys and values share the frame's memory. `None`: malformed.
pub fn decode_answer(frame: Bytes) -> Option<(Stamp, Outcome)> {
    let mut reader = Reader::new(frame);
    let stamp = Stamp {
        now: timestamp(&mut reader)?,
        catalog_changed: timestamp(&mut reader)?,
    };
    let outcome = match reader.u8()? {
        OK => Ok(response(&mut reader)?),
        kind => Err(failure(&mut reader, kind)?),
    };
    (reader.left() == 0).then_some((stamp, outcome))
}

fn room(outcome: &Outcome) -> usize {
    let variable: usize = match outcome {
        Ok(Response::Page(page)) => page
            .rows
            .iter()
            .map(|(key, value, _)| key.len() + value.len() + LEAST_ROW + 4)
            .sum(),
        Ok(Response::Version(Some((value, _)))) => value.len(),
        Ok(Response::Opened(answer)) => value_bytes(answer),
        _ => 0,
    };
    variable + 64
}

fn put_response(out: &mut Vec<u8>, response: &Response) {
    match response {
        Response::Timestamp(at) => {
            out.push(TIMESTAMP);
            put_timestamp(out, *at);
        }
        Response::Version(version) => {
            out.push(VERSION);
            put_option(out, version.as_ref(), |out, (value, at)| {
                put_bytes(out, value);
                put_timestamp(out, *at);
            });
        }
        Response::Newest(at) => {
            out.push(NEWEST);
            put_option(out, *at, put_timestamp);
        }
        Response::Page(page) => {
            out.push(PAGE);
            put_page(out, page);
        }
        Response::Granted(granted) => {
            out.push(GRANTED);
            out.push(u8::from(granted.granted));
            put_lease(out, granted.lease);
        }
        Response::Confirmed(confirmed) => {
            out.push(CONFIRMED);
            out.push(u8::from(*confirmed));
        }
        Response::Committed(committed) => {
            out.push(COMMITTED);
            put_timestamp(out, committed.at);
            put_timestamp(out, committed.catalog_before);
        }
        Response::Done => out.push(DONE),
        Response::Opened(answer) => {
            out.push(OPENED);
            put_opened(out, answer);
        }
    }
}

fn response(reader: &mut Reader) -> Option<Response> {
    Some(match reader.u8()? {
        TIMESTAMP => Response::Timestamp(timestamp(reader)?),
        VERSION => Response::Version(option(reader, |reader| {
            Some((reader.bytes()?, timestamp(reader)?))
        })?),
        NEWEST => Response::Newest(option(reader, timestamp)?),
        PAGE => Response::Page(page(reader)?),
        GRANTED => Response::Granted(Granted {
            granted: flag(reader)?,
            lease: lease(reader)?,
        }),
        CONFIRMED => Response::Confirmed(flag(reader)?),
        COMMITTED => Response::Committed(Committed {
            at: timestamp(reader)?,
            catalog_before: timestamp(reader)?,
        }),
        DONE => Response::Done,
        OPENED => Response::Opened(opened(reader)?),
        _ => return None,
    })
}

fn value_bytes(answer: &OpenAnswer) -> usize {
    let point = answer.opened.point.as_ref();
    point
        .and_then(|row| row.value.as_ref())
        .map_or(0, Value::len)
}

fn put_opened(out: &mut Vec<u8>, answer: &OpenAnswer) {
    put_varint(out, answer.leases.len() as u64);
    for lease in &answer.leases {
        put_lease(out, *lease);
    }
    put_timestamp(out, answer.opened.at);
    put_option(out, answer.opened.point.as_ref(), |out, row| {
        put_option(out, row.value.as_deref(), put_bytes);
        put_option(out, row.at, put_timestamp);
    });
}

fn opened(reader: &mut Reader) -> Option<OpenAnswer> {
    Some(OpenAnswer {
        leases: list(reader, 2, lease)?,
        opened: Opened {
            at: timestamp(reader)?,
            point: option(reader, |reader| {
                Some(Version {
                    value: option(reader, Reader::bytes)?,
                    at: option(reader, timestamp)?,
                })
            })?,
        },
    })
}

fn put_page(out: &mut Vec<u8>, page: &ScanPage) {
    put_varint(out, page.rows.len() as u64);
    for (key, value, at) in &page.rows {
        put_bytes(out, key);
        put_bytes(out, value);
        put_timestamp(out, *at);
    }
    put_option(out, page.resume.as_deref(), put_bytes);
}

fn page(reader: &mut Reader) -> Option<ScanPage> {
    Some(ScanPage {
        rows: list(reader, LEAST_ROW, |reader| {
            Some((reader.bytes()?, reader.bytes()?, timestamp(reader)?))
        })?,
        resume: option(reader, Reader::bytes)?,
    })
}
