//! When each table was last written.
//!
//! Commits are noted when they are given their timestamp, so before anybody can see them. A commit
//! that fails later stays noted: then a table counts as newer than it is, which costs its readers a
//! cached column and no correctness.

use rustc_hash::FxHashMap;
use types::Timestamp;
use types::key::split_index_prefix;

/// Tables remembered one by one; beyond that all that are not remembered count as written at the
/// newest commit forgotten. 16 bytes each.
const REMEMBERED_TABLES: usize = 65_536;

/// See the module.
pub(crate) struct TableCommits {
    last: FxHashMap<u32, Timestamp>,
    /// For tables that are not in the map.
    others: Timestamp,
}

impl TableCommits {
    /// What was committed before counts as committed at `opened`.
    pub(crate) fn new(opened: Timestamp) -> Self {
        TableCommits {
            last: FxHashMap::default(),
            others: opened,
        }
    }

    /// A commit at `at`, above all before it, writes `keys` (sorted, so a table's keys are neighbours).
    pub(crate) fn note<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>, at: Timestamp) {
        let mut noted = None;
        for key in keys {
            let Some((table, ..)) = split_index_prefix(key) else {
                continue;
            };
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

    pub(crate) fn last(&self, table: u32) -> Timestamp {
        self.last.get(&table).copied().unwrap_or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::key::index_prefix;

    #[test]
    fn tables_have_times_of_their_own() {
        let key = |table| index_prefix(table, 1);
        let at = Timestamp::from_millis;
        let mut commits = TableCommits::new(at(5));
        assert_eq!(commits.last(7), at(5));
        let keys = [key(7), key(7), key(9)];
        commits.note(keys.iter().map(|k| &k[..]), at(10));
        commits.note([&key(9)[..], b"x"].into_iter(), at(11));
        assert_eq!(
            [commits.last(7), commits.last(9), commits.last(8)],
            [at(10), at(11), at(5)]
        );
    }

    #[test]
    fn forgetting_makes_tables_newer_never_older() {
        let at = Timestamp::from_millis;
        let mut commits = TableCommits::new(at(1));
        for table in 0..=REMEMBERED_TABLES as u32 {
            let key = index_prefix(table, 1);
            commits.note(std::iter::once(&key[..]), at(2 + u64::from(table)));
        }
        assert!(commits.last.len() <= REMEMBERED_TABLES);
        assert!(commits.last(3) >= at(5));
    }
}
