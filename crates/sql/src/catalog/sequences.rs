//! Sequences: numbers given once, outside of transactions.
//!
//! A sequence's state row says from where to go on after a crash. It runs ahead of the values given:
//! one write reserves [`LOG_AHEAD`] values, which are then served from memory, so a crash skips at most
//! that many and a rolled back transaction leaves a gap, as in PostgreSQL.
//!
//! ```text
//! state row        last given        end of the reservation
//! (durable)  ───────────┼──────────────────────┤
//!                       └── served from memory ─┘
//! ```
//!
//! `CACHE n` is remembered and shown but reserves nothing of its own: values are given in order to all
//! sessions.

use super::descriptor::{ObjectId, Sequence};
use super::store::{sequence_key, span_of};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use txn::kv::{LockMode, ReadScope, WaitPolicy};
use txn::{Coordinator, Isolation, LockedRow, Transaction};
use types::{Error, MaybeReady, Result, SqlState};

/// Values reserved by one durable write; PostgreSQL's `SEQ_LOG_VALS`.
pub const LOG_AHEAD: u32 = 32;

/// Where a sequence stands: the value, and whether it was given already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    last: i64,
    called: bool,
}

const POSITION_BYTES: usize = 9;

impl Position {
    fn start(sequence: &Sequence) -> Self {
        Position {
            last: sequence.restart.unwrap_or(sequence.start),
            called: false,
        }
    }

    /// The next value, or PostgreSQL's error at a bound.
    fn step(self, sequence: &Sequence) -> Result<Position> {
        if !self.called {
            return Ok(Position {
                called: true,
                ..self
            });
        }
        let next = self.last.checked_add(sequence.increment);
        let next = next.filter(|next| {
            if sequence.increment > 0 {
                *next <= sequence.max
            } else {
                *next >= sequence.min
            }
        });
        let last = match next {
            Some(next) => next,
            None if sequence.cycle && sequence.increment > 0 => sequence.min,
            None if sequence.cycle => sequence.max,
            None => return Err(exhausted(sequence)),
        };
        Ok(Position { last, called: true })
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(POSITION_BYTES);
        bytes.extend_from_slice(&self.last.to_be_bytes());
        bytes.push(u8::from(self.called));
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Position> {
        match bytes.split_first_chunk::<8>() {
            Some((last, [called])) => Ok(Position {
                last: i64::from_be_bytes(*last),
                called: *called != 0,
            }),
            _ => Err(Error::corrupt("a sequence's state row is not readable")),
        }
    }
}

fn exhausted(sequence: &Sequence) -> Error {
    let (bound, value) = if sequence.increment > 0 {
        ("maximum", sequence.max)
    } else {
        ("minimum", sequence.min)
    };
    Error::new(
        SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED,
        format!(
            "nextval: reached {bound} value of sequence \"{}\" ({value})",
            sequence.name
        ),
    )
}

#[derive(Debug)]
struct State {
    /// The descriptor's version for which `left` was computed.
    version: u64,
    /// `None` until read from the store.
    at: Option<Position>,
    /// What the state row says, as far as this instance knows.
    durable: Option<Position>,
    /// Values that can be given without another write.
    left: u32,
}

#[derive(Debug)]
struct Entry {
    state: Mutex<State>,
    /// Held while the state row is written.
    writing: tokio::sync::Mutex<()>,
}

impl Entry {
    /// A value of the reservation, if one is left.
    fn take(&self, sequence: &Sequence) -> Option<i64> {
        let mut state = self.state.lock();
        if state.left == 0 || state.version != sequence.version {
            return None;
        }
        let next = state.at?.step(sequence).ok()?;
        state.at = Some(next);
        state.left -= 1;
        Some(next.last)
    }
}

/// By object and generation.
type Entries = FxHashMap<(ObjectId, u32), Arc<Entry>>;

/// One per instance; cheap to clone.
#[derive(Clone)]
pub struct Sequences {
    coordinator: Coordinator,
    entries: Arc<Mutex<Entries>>,
}

impl Sequences {
    pub fn new(coordinator: Coordinator) -> Self {
        Sequences {
            coordinator,
            entries: Arc::default(),
        }
    }

    pub fn nextval(&self, sequence: &Arc<Sequence>) -> MaybeReady<Result<i64>> {
        let entry = self.entry(sequence);
        if let Some(value) = entry.take(sequence) {
            return MaybeReady::ready(Ok(value));
        }
        let this = self.clone();
        let sequence = Arc::clone(sequence);
        MaybeReady::pending(async move {
            let _writing = entry.writing.lock().await;
            if let Some(value) = entry.take(&sequence) {
                return Ok(value);
            }
            this.reserve(&entry, &sequence).await
        })
    }

    /// Sets the value; `is_called` false makes it the next one to be given.
    pub fn setval(
        &self,
        sequence: &Arc<Sequence>,
        value: i64,
        is_called: bool,
    ) -> MaybeReady<Result<i64>> {
        if value < sequence.min || value > sequence.max {
            return MaybeReady::ready(Err(Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!(
                    "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                    sequence.name, sequence.min, sequence.max
                ),
            )));
        }
        let entry = self.entry(sequence);
        let this = self.clone();
        let sequence = Arc::clone(sequence);
        MaybeReady::pending(async move {
            let _writing = entry.writing.lock().await;
            let position = Position {
                last: value,
                called: is_called,
            };
            let (mut txn, _) = this.locked(&sequence).await?;
            // From here on nothing is served until the new position is durable.
            entry.state.lock().left = 0;
            txn.put(
                sequence_key(sequence.oid, sequence.generation),
                position.encode(),
            )?;
            txn.commit().await?;
            let mut state = entry.state.lock();
            state.at = Some(position);
            state.durable = Some(position);
            state.left = 0;
            Ok(value)
        })
    }

    /// The last value given (or to be given next, with `false`).
    pub async fn state(&self, sequence: &Arc<Sequence>) -> Result<(i64, bool)> {
        if let Some(known) = self.known_state(sequence) {
            return Ok(known);
        }
        let key = sequence_key(sequence.oid, sequence.generation);
        let row = [span_of(&key)];
        let at = self
            .coordinator
            .read_timestamp(ReadScope::Spans(&row))
            .await?;
        let found = self.coordinator.shards().get(&key, at).await?;
        let position = match found {
            Some((value, _)) => Position::decode(&value)?,
            None => Position::start(sequence),
        };
        Ok((position.last, position.called))
    }

    /// The same, when this instance has it in memory.
    pub fn known_state(&self, sequence: &Sequence) -> Option<(i64, bool)> {
        let entry = self
            .entries
            .lock()
            .get(&(sequence.oid, sequence.generation))
            .cloned()?;
        let at = entry.state.lock().at?;
        Some((at.last, at.called))
    }

    /// Frees what is remembered of a dropped sequence.
    pub fn forget(&self, oid: ObjectId) {
        self.entries.lock().retain(|(of, _), _| *of != oid);
    }

    fn entry(&self, sequence: &Sequence) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        let entry = entries
            .entry((sequence.oid, sequence.generation))
            .or_insert_with(|| {
                Arc::new(Entry {
                    state: Mutex::new(State {
                        version: sequence.version,
                        at: None,
                        durable: None,
                        left: 0,
                    }),
                    writing: tokio::sync::Mutex::new(()),
                })
            });
        Arc::clone(entry)
    }

    /// A transaction that holds the state row, and what the row says.
    async fn locked(&self, sequence: &Sequence) -> Result<(Transaction, Option<Position>)> {
        let key = sequence_key(sequence.oid, sequence.generation);
        let policy = WaitPolicy::Wait {
            deadline_nanos: None,
        };
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, false);
        let found = match txn.lock_and_get(&key, LockMode::Update, policy).await? {
            LockedRow::Unchanged(Some(value)) | LockedRow::Changed(Some(value)) => {
                Some(Position::decode(&value)?)
            }
            _ => None,
        };
        Ok((txn, found))
    }

    /// Reserves the next values durably and gives the first of them.
    async fn reserve(&self, entry: &Entry, sequence: &Sequence) -> Result<i64> {
        let (mut txn, durable) = self.locked(sequence).await?;
        let from = {
            let state = entry.state.lock();
            match (state.at, durable) {
                // Nobody else has moved the row since: go on from the last value given.
                (Some(at), _) if durable == state.durable => at,
                (_, Some(durable)) => durable,
                (_, None) => Position::start(sequence),
            }
        };
        let first = from.step(sequence)?;
        let mut end = first;
        let mut left = 0;
        while left < LOG_AHEAD {
            match end.step(sequence) {
                Ok(next) => end = next,
                Err(_) => break,
            }
            left += 1;
        }
        txn.put(
            sequence_key(sequence.oid, sequence.generation),
            end.encode(),
        )?;
        txn.commit().await?;
        let mut state = entry.state.lock();
        state.version = sequence.version;
        state.at = Some(first);
        state.durable = Some(end);
        state.left = left;
        Ok(first.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SqlType;

    fn sequence(increment: i64, min: i64, max: i64, cycle: bool) -> Sequence {
        Sequence {
            oid: 20000,
            database: 6,
            schema: 2200,
            name: "s".into(),
            owner: 10,
            version: 1,
            sql_type: SqlType::Int8,
            start: if increment > 0 { min } else { max },
            increment,
            min,
            max,
            cache: 1,
            cycle,
            owned_by: None,
            comment: None,
            generation: 0,
            restart: None,
        }
    }

    fn steps(sequence: &Sequence, count: usize) -> Vec<Result<i64, String>> {
        let mut at = Position::start(sequence);
        let mut out = Vec::new();
        for _ in 0..count {
            match at.step(sequence) {
                Ok(next) => {
                    at = next;
                    out.push(Ok(next.last));
                }
                Err(error) => out.push(Err(error.message)),
            }
        }
        out
    }

    #[test]
    fn bounds_and_cycles() {
        let up = sequence(2, 1, 4, false);
        assert_eq!(
            steps(&up, 3),
            [
                Ok(1),
                Ok(3),
                Err("nextval: reached maximum value of sequence \"s\" (4)".into())
            ]
        );
        let down = sequence(-1, -2, -1, false);
        assert_eq!(
            steps(&down, 3),
            [
                Ok(-1),
                Ok(-2),
                Err("nextval: reached minimum value of sequence \"s\" (-2)".into())
            ]
        );
        assert_eq!(steps(&sequence(1, 1, 2, true), 3), [Ok(1), Ok(2), Ok(1)]);
        let far = sequence(i64::MAX, 1, i64::MAX, false);
        assert!(steps(&far, 2)[1].is_err());
    }

    #[test]
    fn positions_return() {
        for at in [
            Position {
                last: -5,
                called: true,
            },
            Position {
                last: i64::MAX,
                called: false,
            },
        ] {
            assert_eq!(Position::decode(&at.encode()), Ok(at));
        }
        assert!(Position::decode(b"short").is_err());
    }
}
