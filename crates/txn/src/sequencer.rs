//! The order of commits at one lease holder.
//!
//! # What it is
//! The lease holder gives each commit its timestamp, at the moment it is proposed, from its own
//! hybrid logical clock. The sequencer remembers the commits whose outcome is open (*in flight*) and
//! a tail of those that are done, all in timestamp order:
//!
//! ```text
//!      forgotten │ done  done  done │ open  done  open │  the next commit
//!   ─────────────┼──────────────────┼──────────────────┼──────────────────► time
//!       remembers_since       safe_timestamp      last given
//! ```
//!
//! # What it guarantees, and why
//! **Reads at the safe timestamp are repeatable.** No open commit has a timestamp at or below it, and
//! later commits are given timestamps above all that were given before. So what a read at or below it
//! saw never changes. A store that keeps a *timestamp cache* needs one because there commit
//! timestamps are chosen by the gateway, and may fall below a read that was already served. Here they
//! come from the clock of the very holder that served those reads, after it has served them; nothing
//! per key has to be remembered.
//!
//! **A read sees every commit that was acknowledged before it began.** Commits are acknowledged in
//! timestamp order: a commit that is done early waits for those open before it. So everything
//! acknowledged is at or below the safe timestamp, and a read at the safe timestamp sees it. The
//! price is small: commits become durable in batches, in log order, which is timestamp order.
//!
//! **SERIALIZABLE by validation at commit.** A transaction read a snapshot at `read_at`. If no other
//! commit between `read_at` and its own commit timestamp wrote into the spans it read, then all its
//! reads would give the same answers at the commit timestamp: the whole transaction could have run at
//! that one instant, and the order of commit timestamps is a serial order. Those commits are found in
//! two places: applied versions newer than `read_at`, and commits in flight, which have lower timestamps
//! because the own one is not given yet. Both are in the remembered tail, so usually no disk is asked.
//! Checking and giving the timestamp is one step under one lock; there is no gap for a third commit.
//!
//! **A read-only SERIALIZABLE transaction needs no validation.** It runs at the instant `read_at`, at which
//! the state is that of all commits up to it and of none after.
//!
//! # What it does not do
//! It does not see writes that fail later: a commit that is aborted after it has been validated against
//! can cost another transaction a needless 40001.

use crate::kv::{Key, Span, Value};
use std::collections::VecDeque;
use types::Timestamp;

/// Commits remembered for validation after they are done. More saves disk reads for long SERIALIZABLE
/// transactions, and costs a longer check under the commit lock (about 10 ns a commit and key).
const REMEMBERED_COMMITS: usize = 4096;
/// Keys of the remembered commits, a bound on memory.
const REMEMBERED_KEYS: usize = 32_768;
/// A commit of more keys is remembered by ranges of keys.
const MOST_SINGLE_KEYS: usize = 64;
/// Keys in one range, at least, and ranges of one commit, about.
const RANGE_KEYS: usize = 16;
const COMMIT_RANGES: usize = 1024;

/// Where a commit writes.
#[derive(Debug)]
pub enum Footprint {
    Keys(Box<[Key]>),
    /// First and last of some keys that follow each other: a transaction that read between them takes
    /// it for a conflict, a needless 40001.
    Ranges(Box<[(Key, Key)]>),
}

impl Default for Footprint {
    /// Nowhere.
    fn default() -> Self {
        Footprint::Keys(Box::default())
    }
}

impl Footprint {
    /// Of writes sorted by key.
    pub fn of(writes: &[(Key, Option<Value>)]) -> Self {
        if writes.len() <= MOST_SINGLE_KEYS {
            return Footprint::Keys(writes.iter().map(|(key, _)| key.clone()).collect());
        }
        // Copies, so that the writes' own memory is not kept.
        let copy = |key: &Key| Key::copy_from_slice(key);
        let ranges = writes.chunks((writes.len() / COMMIT_RANGES).max(RANGE_KEYS));
        Footprint::Ranges(
            ranges
                .filter_map(|range| Some((copy(&range.first()?.0), copy(&range.last()?.0))))
                .collect(),
        )
    }

    /// Keys that it takes to remember it.
    fn len(&self) -> usize {
        match self {
            Footprint::Keys(keys) => keys.len(),
            Footprint::Ranges(ranges) => 2 * ranges.len(),
        }
    }

    /// Whether it meets one of the spans (sorted by start, disjoint).
    fn meets(&self, spans: &[Span]) -> bool {
        match self {
            Footprint::Keys(keys) => keys.iter().any(|key| meets(spans, key, key)),
            Footprint::Ranges(ranges) => ranges.iter().any(|(a, b)| meets(spans, a, b)),
        }
    }
}

struct Commit<W> {
    at: Timestamp,
    footprint: Footprint,
    /// Whoever is to be told; taken when acknowledged or aborted.
    waiter: Option<W>,
    open: bool,
}

/// See the module. `W` is whatever the caller needs to wake the committer.
pub struct Sequencer<W> {
    /// The highest timestamp given or observed.
    last: Timestamp,
    commits: VecDeque<Commit<W>>,
    /// Commits at the front that are done and acknowledged.
    settled: usize,
    keys: usize,
    /// Every commit above this is in `commits`.
    remembers_since: Timestamp,
}

impl<W> Sequencer<W> {
    /// All timestamps given will be above `last`, the newest known from the log.
    pub fn new(last: Timestamp) -> Self {
        Sequencer {
            last,
            commits: VecDeque::new(),
            settled: 0,
            keys: 0,
            remembers_since: last,
        }
    }

    /// Opens a commit at `at`, fresh from the lease holder's clock: above all given and observed before.
    pub fn begin(&mut self, at: Timestamp, footprint: Footprint, waiter: W) {
        debug_assert!(at > self.last);
        self.last = at;
        self.keys += footprint.len();
        self.commits.push_back(Commit {
            at,
            footprint,
            waiter: Some(waiter),
            open: true,
        });
    }

    /// A read at `at` is served: all commits from now on are given timestamps above it.
    pub fn observe(&mut self, at: Timestamp) {
        self.last = self.last.max(at);
    }

    /// The commit is applied. Returns who can be acknowledged now, in timestamp order.
    pub fn complete(&mut self, at: Timestamp) -> Vec<(Timestamp, W)> {
        if let Some(commit) = self.open_commit(at) {
            commit.open = false;
        }
        self.settle()
    }

    /// The commit will never be applied. Returns its waiter, and who can be acknowledged now.
    pub fn abort(&mut self, at: Timestamp) -> (Option<W>, Vec<(Timestamp, W)>) {
        let mut waiter = None;
        if let Some(commit) = self.open_commit(at) {
            commit.open = false;
            waiter = commit.waiter.take();
            let nothing = Footprint::Keys(Box::default());
            let footprint = std::mem::replace(&mut commit.footprint, nothing);
            self.keys -= footprint.len();
        }
        (waiter, self.settle())
    }

    /// Gives up all commits that are not acknowledged: their outcome is unknown here. Returns their waiters.
    pub fn abandon(&mut self) -> Vec<(Timestamp, W)> {
        let open = self.commits.iter_mut().skip(self.settled);
        open.filter_map(|commit| Some((commit.at, commit.waiter.take()?)))
            .collect()
    }

    /// The newest timestamp such that no open commit is at or below it.
    pub fn safe_timestamp(&self) -> Timestamp {
        match self.commits.get(self.settled) {
            Some(first_open) => first_open.at.prev(),
            None => self.last,
        }
    }

    /// Every commit above this is remembered; validation of older snapshots must ask the disk.
    pub fn remembers_since(&self) -> Timestamp {
        self.remembers_since
    }

    /// The first remembered commit above `after`, open or done, that writes into one of `spans`
    /// (sorted by start, disjoint).
    pub fn conflict(&self, spans: &[Span], after: Timestamp) -> Option<Timestamp> {
        let newer = self.commits.partition_point(|commit| commit.at <= after);
        self.commits
            .range(newer..)
            .find(|commit| commit.footprint.meets(spans))
            .map(|commit| commit.at)
    }

    pub fn in_flight(&self) -> usize {
        self.commits.len() - self.settled
    }

    fn open_commit(&mut self, at: Timestamp) -> Option<&mut Commit<W>> {
        let place = self.commits.binary_search_by_key(&at, |commit| commit.at);
        self.commits.get_mut(place.ok()?).filter(|c| c.open)
    }

    fn settle(&mut self) -> Vec<(Timestamp, W)> {
        let mut acknowledged = Vec::new();
        while let Some(commit) = self.commits.get_mut(self.settled)
            && !commit.open
        {
            acknowledged.extend(commit.waiter.take().map(|waiter| (commit.at, waiter)));
            self.settled += 1;
        }
        while self.settled > 0
            && (self.settled > REMEMBERED_COMMITS || self.keys > REMEMBERED_KEYS)
            && let Some(commit) = self.commits.pop_front()
        {
            self.settled -= 1;
            self.keys -= commit.footprint.len();
            self.remembers_since = commit.at;
        }
        acknowledged
    }
}

/// Whether one of the spans (sorted by start, disjoint) holds a key from `first` to `last`.
fn meets(spans: &[Span], first: &Key, last: &Key) -> bool {
    let after = spans.partition_point(|span| span.start <= *last);
    after > 0 && *first < spans[after - 1].end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> Key {
        Key::copy_from_slice(&[n])
    }

    fn one(n: u8) -> Footprint {
        Footprint::Keys([key(n)].into())
    }

    /// The next timestamp of a clock that shows these milliseconds.
    fn begin<W>(s: &mut Sequencer<W>, millis: u64, footprint: Footprint, waiter: W) -> Timestamp {
        let at = Timestamp::from_millis(millis).max(s.last.next());
        s.begin(at, footprint, waiter);
        at
    }

    fn span(start: u8, end: u8) -> Span {
        Span {
            start: key(start),
            end: key(end),
        }
    }

    #[test]
    fn acknowledges_in_timestamp_order() {
        let mut s = Sequencer::new(Timestamp::from_millis(5));
        assert_eq!(s.safe_timestamp(), Timestamp::from_millis(5));
        let a = begin(&mut s, 3, one(1), "a");
        let b = begin(&mut s, 3, one(2), "b");
        let c = begin(&mut s, 3, one(3), "c");
        assert!(Timestamp::from_millis(5) < a && a < b && b < c);
        assert_eq!(s.safe_timestamp(), a.prev());
        assert_eq!(s.complete(b), vec![]);
        assert_eq!(s.safe_timestamp(), a.prev());
        assert_eq!(s.complete(a), vec![(a, "a"), (b, "b")]);
        assert_eq!(s.safe_timestamp(), c.prev());
        assert_eq!(s.abort(c), (Some("c"), vec![]));
        assert_eq!(s.safe_timestamp(), c);
        assert_eq!(s.in_flight(), 0);
    }

    #[test]
    fn an_abort_releases_those_behind_it() {
        let mut s = Sequencer::new(Timestamp::ZERO);
        let a = begin(&mut s, 1, one(1), "a");
        let b = begin(&mut s, 1, one(1), "b");
        assert_eq!(s.complete(b), vec![]);
        assert_eq!(s.abort(a), (Some("a"), vec![(b, "b")]));
    }

    #[test]
    fn finds_conflicts_open_or_done_but_not_aborted_or_old() {
        let mut s = Sequencer::new(Timestamp::ZERO);
        let a = begin(&mut s, 1, one(10), ());
        let b = begin(&mut s, 1, one(20), ());
        let c = begin(&mut s, 1, one(30), ());
        s.complete(a);
        s.abort(c);
        let spans = [span(5, 11), span(20, 21), span(29, 31)];
        assert_eq!(s.conflict(&spans, Timestamp::ZERO), Some(a));
        assert_eq!(s.conflict(&spans, a), Some(b));
        assert_eq!(s.conflict(&spans, b), None);
        assert_eq!(s.conflict(&[span(11, 20)], Timestamp::ZERO), None);
    }

    #[test]
    fn a_large_commit_is_remembered_by_ranges() {
        let writes: Vec<_> = (0..200u8).map(|n| (key(n / 100 * 50 + n), None)).collect();
        let mut s = Sequencer::new(Timestamp::ZERO);
        let at = begin(&mut s, 1, Footprint::of(&writes), ());
        assert!(s.keys < writes.len());
        for (key, _) in &writes {
            let mut end = key.to_vec();
            end.push(0);
            let span = Span {
                start: key.clone(),
                end: end.into(),
            };
            assert_eq!(s.conflict(&[span], Timestamp::ZERO), Some(at));
        }
        assert_eq!(s.conflict(&[span(251, 255)], Timestamp::ZERO), None);
        s.abort(at);
        assert_eq!(
            (s.keys, s.conflict(&[span(0, 255)], Timestamp::ZERO)),
            (0, None)
        );
    }

    #[test]
    fn forgets_the_oldest_that_are_done() {
        let mut s = Sequencer::new(Timestamp::ZERO);
        let first = begin(&mut s, 1, one(1), ());
        for _ in 0..2 * REMEMBERED_COMMITS {
            let at = begin(&mut s, 1, one(2), ());
            s.complete(at);
        }
        // Nothing open, or behind something open, is forgotten.
        assert_eq!(s.remembers_since(), Timestamp::ZERO);
        assert_eq!(s.conflict(&[span(1, 2)], Timestamp::ZERO), Some(first));
        s.complete(first);
        assert!(s.remembers_since() > first);
        assert!(s.commits.len() <= REMEMBERED_COMMITS);
    }

    proptest! {
        #[test]
        fn safe_timestamp_is_below_the_open_and_above_the_acknowledged(
            steps in proptest::collection::vec((0..3u8, any::<prop::sample::Index>()), 1..100)
        ) {
            let mut s = Sequencer::new(Timestamp::ZERO);
            let mut open: Vec<Timestamp> = Vec::new();
            let mut acknowledged: Vec<Timestamp> = Vec::new();
            for (step, index) in steps {
                let before = s.safe_timestamp();
                if step == 0 || open.is_empty() {
                    open.push(begin(&mut s, 1, one(1), ()));
                } else {
                    let at = open.remove(index.index(open.len()));
                    let acks = if step == 1 { s.complete(at) } else { s.abort(at).1 };
                    acknowledged.extend(acks.into_iter().map(|(at, ())| at));
                }
                let safe = s.safe_timestamp();
                prop_assert!(before <= safe);
                prop_assert!(open.iter().all(|at| *at > safe));
                prop_assert!(acknowledged.iter().all(|at| *at <= safe));
                prop_assert!(acknowledged.is_sorted());
                prop_assert_eq!(s.in_flight() == 0, open.is_empty());
            }
        }
    }
}
