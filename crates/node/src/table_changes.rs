//! What recent commits have written, by table: for those who keep rows that they have read.
//!
//! Of every table the last commit is known. Of tables that somebody has asked about lately
//! (*watched* ones) also the keys written since then, up to a bound; a table that is written but no
//! longer asked about is not watched any more, so that writers pay for readers that exist.
//!
//! Commits are noted when they are given their timestamp, so before anybody can see them. A commit
//! that fails later stays noted: then a row counts as newer than it is, which costs its readers a
//! look at the store and no correctness.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use txn::kv::{Changes, Key, Span};
use types::Timestamp;
use types::key::split_index_prefix;

/// Tables whose last commit is remembered one by one; beyond that all that are not remembered count
/// as written at the newest commit forgotten. 16 bytes each.
const REMEMBERED_TABLES: usize = 65_536;
/// Watched tables; one more, and the one that was asked about longest ago goes.
const WATCHED_TABLES: usize = 32;
/// Keys remembered of a watched table: some 100 bytes each, so 25 MB if all tables are written a lot.
/// After as many that nobody asked about, the table is not watched any more.
const WATCHED_KEYS: usize = 8192;

/// See the module.
pub(crate) struct TableChanges {
    last: FxHashMap<u32, Timestamp>,
    /// For tables that are not in the map.
    others: Timestamp,
    watched: FxHashMap<u32, Watched>,
    /// Counts questions, to know which table was asked about longest ago.
    questions: u64,
}

struct Watched {
    /// All keys written above this timestamp are in `keys`, in the order of the commits.
    since: Timestamp,
    keys: VecDeque<(Timestamp, Key)>,
    /// Keys noted since the last question.
    unasked: usize,
    question: u64,
}

impl TableChanges {
    /// What was committed before counts as committed at `opened`.
    pub(crate) fn new(opened: Timestamp) -> Self {
        TableChanges {
            last: FxHashMap::default(),
            others: opened,
            watched: FxHashMap::default(),
            questions: 0,
        }
    }

    /// A commit at `at`, above all before it, writes `keys` (sorted, so a table's keys are neighbours).
    pub(crate) fn note<'k>(&mut self, keys: impl Iterator<Item = &'k Key>, at: Timestamp) {
        let mut noted = None;
        for key in keys {
            let Some((table, ..)) = split_index_prefix(key) else {
                continue;
            };
            if !self.watched.is_empty() {
                self.note_key(table, key, at);
            }
            if noted == Some(table) {
                continue;
            }
            noted = Some(table);
            if self.last.len() >= REMEMBERED_TABLES && !self.last.contains_key(&table) {
                self.last.clear();
                self.others = at;
            }
            self.last.insert(table, at);
        }
    }

    /// A commit at `at`, above all before it, writes so much of these tables that nobody wants to know the keys.
    pub(crate) fn note_tables(&mut self, tables: &[u32], at: Timestamp) {
        for table in tables {
            self.watched.remove(table);
            if self.last.len() >= REMEMBERED_TABLES && !self.last.contains_key(table) {
                self.last.clear();
                self.others = at;
            }
            self.last.insert(*table, at);
        }
    }

    fn note_key(&mut self, table: u32, key: &Key, at: Timestamp) {
        let Some(watched) = self.watched.get_mut(&table) else {
            return;
        };
        if watched.unasked >= WATCHED_KEYS {
            self.watched.remove(&table);
            return;
        }
        watched.unasked += 1;
        watched.keys.push_back((at, key.clone()));
        if watched.keys.len() > WATCHED_KEYS
            && let Some((forgotten, _)) = watched.keys.pop_front()
        {
            watched.since = forgotten;
        }
    }

    /// See [`txn::kv::Shards::changes`]. The table is watched from now on.
    pub(crate) fn between(&mut self, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        let Some((table, ..)) = split_index_prefix(&span.start) else {
            return Changes::Unknown;
        };
        let last = self.last.get(&table).copied().unwrap_or(self.others);
        self.questions += 1;
        if self.watched.len() >= WATCHED_TABLES && !self.watched.contains_key(&table) {
            let watched = self.watched.iter();
            let oldest = watched
                .min_by_key(|(_, w)| w.question)
                .map(|(table, _)| *table);
            oldest.map(|oldest| self.watched.remove(&oldest));
        }
        let watched = self.watched.entry(table).or_insert_with(|| Watched {
            since: last,
            keys: VecDeque::new(),
            unasked: 0,
            question: 0,
        });
        watched.unasked = 0;
        watched.question = self.questions;
        if last <= after {
            return Changes::Keys(Vec::new());
        }
        if after < watched.since {
            return Changes::Unknown;
        }
        let newer = watched.keys.partition_point(|(at, _)| *at <= after);
        let keys = watched.keys.range(newer..);
        let keys = keys.take_while(|(at, _)| *at <= upto);
        let keys = keys.filter(|(_, key)| span.start <= *key && *key < span.end);
        Changes::Keys(keys.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::key::index_prefix;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn key(table: u32, row: u16) -> Key {
        let mut key = index_prefix(table, 1).to_vec();
        key.extend_from_slice(&row.to_be_bytes());
        Bytes::from(key)
    }

    fn rows(table: u32, from: u16, to: u16) -> Span {
        Span {
            start: key(table, from),
            end: key(table, to),
        }
    }

    fn none() -> Changes {
        Changes::Keys(Vec::new())
    }

    #[test]
    fn before_the_first_question_only_the_last_commit_is_known() {
        let mut changes = TableChanges::new(at(5));
        let span = rows(7, 0, 100);
        assert_eq!(changes.between(&span, at(4), at(9)), Changes::Unknown);
        assert_eq!(changes.between(&span, at(5), at(9)), none());
        changes.note([key(8, 1)].iter(), at(10));
        assert_eq!(
            changes.between(&rows(8, 0, 9), at(9), at(20)),
            Changes::Unknown
        );
        assert_eq!(changes.between(&rows(8, 0, 9), at(10), at(20)), none());
    }

    #[test]
    fn a_watched_table_tells_which_keys_of_a_span_and_a_time_were_written() {
        let mut changes = TableChanges::new(at(5));
        assert_eq!(changes.between(&rows(7, 0, 100), at(5), at(5)), none());
        changes.note([key(6, 3), key(7, 3), key(7, 50)].iter(), at(10));
        changes.note([key(7, 4)].iter(), at(20));
        let found = |keys: &[(u64, u16)]| {
            Changes::Keys(keys.iter().map(|(t, row)| (at(*t), key(7, *row))).collect())
        };
        assert_eq!(
            changes.between(&rows(7, 0, 9), at(5), at(30)),
            found(&[(10, 3), (20, 4)])
        );
        assert_eq!(
            changes.between(&rows(7, 0, 100), at(5), at(19)),
            found(&[(10, 3), (10, 50)])
        );
        assert_eq!(
            changes.between(&rows(7, 0, 100), at(10), at(20)),
            found(&[(20, 4)])
        );
        assert_eq!(
            changes.between(&rows(7, 0, 100), at(4), at(20)),
            Changes::Unknown
        );
    }

    #[test]
    fn of_a_large_commit_only_the_tables_are_known() {
        let mut changes = TableChanges::new(at(5));
        let span = rows(7, 0, 100);
        assert_eq!(changes.between(&span, at(5), at(5)), none());
        changes.note_tables(&[6, 7], at(10));
        assert_eq!(changes.between(&span, at(9), at(20)), Changes::Unknown);
        assert_eq!(changes.between(&span, at(10), at(20)), none());
    }

    #[test]
    fn too_many_keys_are_forgotten_from_the_oldest() {
        let mut changes = TableChanges::new(at(0));
        let span = rows(7, 0, u16::MAX);
        changes.between(&span, at(0), at(0));
        for n in 1..=WATCHED_KEYS as u64 {
            changes.note([key(7, 1)].iter(), at(n));
        }
        let all = changes.between(&span, at(0), at(u64::from(u32::MAX)));
        assert!(matches!(all, Changes::Keys(keys) if keys.len() == WATCHED_KEYS));
        changes.note([key(7, 1)].iter(), at(1 + WATCHED_KEYS as u64));
        assert_eq!(changes.between(&span, at(0), at(2)), Changes::Unknown);
        assert!(
            matches!(changes.between(&span, at(1), at(2)), Changes::Keys(keys) if keys.len() == 1)
        );
        for n in 0..=WATCHED_KEYS as u64 {
            changes.note([key(7, 1)].iter(), at(20_000 + n));
        }
        assert!(changes.watched.is_empty());
    }

    #[test]
    fn forgetting_makes_tables_newer_never_older() {
        let mut changes = TableChanges::new(at(1));
        for table in 0..=REMEMBERED_TABLES as u32 {
            changes.note([key(table, 0)].iter(), at(2 + u64::from(table)));
        }
        assert!(changes.last.len() <= REMEMBERED_TABLES);
        let span = rows(3, 0, 9);
        assert_eq!(changes.between(&span, at(4), at(4)), Changes::Unknown);
        for table in 0..=WATCHED_TABLES as u32 {
            changes.between(&rows(table, 0, 9), at(0), at(0));
        }
        assert_eq!(changes.watched.len(), WATCHED_TABLES);
    }
}
