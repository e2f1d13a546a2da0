//! What a transaction has written, in key order: single writes in a map, and batches of new rows
//! beside it. Where both have a key, the map's write is the later one.

use crate::fresh::FreshRows;
use crate::kv::{Key, ScanPage, Span, Value};
use crate::merge::merge;
use crate::runs::Runs;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

type Writing<'a> = (&'a Key, Option<&'a Value>);
type Source<'a> = Peekable<Box<dyn Iterator<Item = Writing<'a>> + 'a>>;

/// See the module. `None` deletes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    map: BTreeMap<Key, Option<Value>>,
    fresh: Runs<FreshRows>,
}

impl Writes {
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty() && self.fresh.is_empty()
    }

    /// Keys written; one that came in a batch and was written again counts twice.
    pub(crate) fn len(&self) -> usize {
        self.map.len() + self.fresh.len()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&Value>> {
        if !self.map.is_empty()
            && let Some(value) = self.map.get(key)
        {
            return Some(value.as_ref());
        }
        let (rows, place) = self.fresh.find(key)?;
        Some(Some(rows.value(place)))
    }

    /// Returns what the map had for the key before.
    pub(crate) fn insert(&mut self, key: Key, value: Option<Value>) -> Option<Option<Value>> {
        self.map.insert(key, value)
    }

    /// Takes a write out of the map; what a batch has for the key shows again.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Option<Value>> {
        self.map.remove(key)
    }

    pub(crate) fn holds_any(&self, keys: &[Key]) -> bool {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return false;
        };
        self.map.range::<Key, _>(first..=last).next().is_some() && {
            keys.iter().any(|key| self.map.contains_key(key))
        } || self.fresh.holds_any(keys)
    }

    /// Adds rows whose keys are not here yet.
    pub(crate) fn add(&mut self, rows: FreshRows) {
        if let Err(rows) = self.fresh.add(rows) {
            let rows = rows.rows().map(|(k, v)| (k.clone(), Some(v.clone())));
            self.map.extend(rows);
        }
    }

    /// The last rows added that are not taken back yet, and of whose keys no later write is left.
    pub(crate) fn take_back(&mut self, rows: &FreshRows) {
        let first = rows.keys().first();
        if first.is_some_and(|first| self.fresh.remove(first).is_none()) {
            for key in rows.keys().iter() {
                self.map.remove(key);
            }
        }
    }

    /// The first writes of the span in scan order, as many as one page can need, and the key of the
    /// last of them if there are more.
    pub(crate) fn page(
        &self,
        span: &Span,
        reverse: bool,
        limit: usize,
        limit_bytes: usize,
    ) -> (Vec<(Key, Option<Value>)>, Option<Key>) {
        if self.is_empty() || span.start >= span.end {
            return (Vec::new(), None);
        }
        let range = (Bound::Included(&span.start), Bound::Excluded(&span.end));
        let map = self.map.range::<Key, _>(range);
        let map = map.map(|(key, value)| (key, value.as_ref()));
        if self.fresh.is_empty() {
            return match reverse {
                true => take_page(map.rev(), limit, limit_bytes),
                false => take_page(map, limit, limit_bytes),
            };
        }
        let mut sources = vec![source(map, reverse)];
        for run in self.fresh.runs() {
            let from = run.partition_point(|batch| batch.keys().last() < Some(&span.start));
            let to = run.partition_point(|batch| batch.keys().first() < Some(&span.end));
            let rows = run[from..to.max(from)]
                .iter()
                .flat_map(|batch| batch.range(&span.start, &span.end))
                .map(|(key, value)| (key, Some(value)));
            sources.push(source(rows, reverse));
        }
        take_page(Merged { sources, reverse }, limit, limit_bytes)
    }

    /// All writes, sorted by key, one for each.
    pub(crate) fn into_sorted(self) -> Vec<(Key, Option<Value>)> {
        let mut sorted = Vec::with_capacity(self.len());
        let mut map = self.map;
        let mut runs = self.fresh.into_runs();
        if runs.len() > 1 {
            // Out of order, and a map brings them into it.
            for rows in runs.drain(..).flatten() {
                for (key, value) in rows.rows() {
                    if let Entry::Vacant(place) = map.entry(key.clone()) {
                        place.insert(Some(value.clone()));
                    }
                }
            }
        }
        let mut map = map.into_iter().peekable();
        for rows in runs.into_iter().flatten() {
            for (key, value) in rows.rows() {
                while let Some(single) = map.next_if(|(other, _)| other < key) {
                    sorted.push(single);
                }
                // The map's write of the same key comes with the next turn.
                if map.peek().is_none_or(|(other, _)| other != key) {
                    sorted.push((key.clone(), Some(value.clone())));
                }
            }
        }
        sorted.extend(map);
        sorted
    }
}

fn source<'a>(
    writes: impl DoubleEndedIterator<Item = Writing<'a>> + 'a,
    reverse: bool,
) -> Source<'a> {
    let writes: Box<dyn Iterator<Item = Writing<'a>> + 'a> = match reverse {
        true => Box::new(writes.rev()),
        false => Box::new(writes),
    };
    writes.peekable()
}

/// Sources in scan order as one; of equal keys the first source's wins.
struct Merged<'a> {
    sources: Vec<Source<'a>>,
    reverse: bool,
}

impl<'a> Iterator for Merged<'a> {
    type Item = Writing<'a>;

    fn next(&mut self) -> Option<Writing<'a>> {
        let heads = self.sources.iter_mut().filter_map(|s| Some(s.peek()?.0));
        let next = if self.reverse {
            heads.max()?
        } else {
            heads.min()?
        };
        let mut found = None;
        for source in &mut self.sources {
            let same = source.next_if(|(key, _)| *key == next);
            found = found.or(same);
        }
        found
    }
}

fn take_page<'a>(
    mut writes: impl Iterator<Item = Writing<'a>>,
    limit: usize,
    limit_bytes: usize,
) -> (Vec<(Key, Option<Value>)>, Option<Key>) {
    let mut page = Vec::new();
    let mut bytes = 0;
    for (key, value) in writes.by_ref() {
        bytes += key.len() + value.map_or(0, |value| value.len());
        page.push((key.clone(), value.cloned()));
        if page.len() >= limit.max(1) || bytes >= limit_bytes {
            break;
        }
    }
    let more = writes.next().is_some();
    let last = page.last().map(|(key, _)| key.clone());
    (page, last.filter(|_| more))
}

/// A transaction's unsaved writes as one statement sees them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Overlay(pub(crate) Arc<Writes>);

impl Overlay {
    /// `Some(None)`: deleted.
    pub fn get(&self, key: &[u8]) -> Option<Option<Value>> {
        self.0.get(key).map(|value| value.cloned())
    }

    /// Whether a key of the span was written.
    pub fn touches(&self, span: &Span) -> bool {
        !self.0.page(span, false, 1, usize::MAX).0.is_empty()
    }

    /// The page with the writes merged in, within the same limits: it may reach less far than the
    /// committed page, and may be empty with a `resume`.
    pub fn merge(
        &self,
        page: ScanPage,
        span: &Span,
        reverse: bool,
        limit: usize,
        limit_bytes: usize,
    ) -> ScanPage {
        let (own, own_last) = self.0.page(span, reverse, limit, limit_bytes);
        merge(own, own_last, page, reverse, limit, limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fresh::FreshBuilder;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key(n: u8) -> Key {
        Key::copy_from_slice(&[n])
    }

    fn fresh(keys: &BTreeSet<u8>) -> FreshRows {
        let mut builder = FreshBuilder::default();
        for n in keys {
            builder.bytes().push(*n);
            builder.end_key();
            builder.bytes().push(*n);
            builder.end_value();
        }
        builder.finish().expect("a set's keys differ")
    }

    proptest! {
        #[test]
        fn what_is_taken_back_was_never_there(
            kept in proptest::collection::vec(proptest::collection::btree_set(any::<u8>(), 1..9), 0..20),
            undone in proptest::collection::vec(proptest::collection::btree_set(any::<u8>(), 1..9), 0..20),
        ) {
            let mut writes = Writes::default();
            let mut add = |sets: Vec<BTreeSet<u8>>| {
                let mut added = Vec::new();
                for set in sets {
                    let rows = fresh(&set);
                    if !writes.holds_any(rows.keys()) {
                        writes.add(rows.clone());
                        added.push(rows);
                    }
                }
                (added, writes.clone())
            };
            let (_, before) = add(kept);
            let (added, mut writes) = add(undone);
            for rows in added.iter().rev() {
                writes.take_back(rows);
                prop_assert!(!writes.holds_any(rows.keys()));
            }
            prop_assert_eq!(writes.len(), before.len());
            prop_assert_eq!(writes.into_sorted(), before.into_sorted());
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u8, Option<u8>),
        Add(BTreeSet<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any::<u8>(), any::<Option<u8>>()).prop_map(|(k, v)| Step::Write(k, v)),
            proptest::collection::btree_set(any::<u8>(), 1..12).prop_map(Step::Add),
        ]
    }

    proptest! {
        #[test]
        fn map_and_batches_are_one_map(
            steps in proptest::collection::vec(step(), 0..40),
            a in any::<u8>(), b in any::<u8>(), limit in 1..20usize, reverse in any::<bool>(),
        ) {
            let mut writes = Writes::default();
            let mut model: BTreeMap<Key, Option<Value>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write(k, v) => {
                        let value = v.map(key);
                        writes.insert(key(k), value.clone());
                        model.insert(key(k), value);
                    }
                    Step::Add(keys) => {
                        let rows = fresh(&keys);
                        let known = keys.iter().any(|k| model.contains_key(&key(*k)));
                        prop_assert_eq!(writes.holds_any(rows.keys()), known);
                        if !known {
                            writes.add(rows);
                            model.extend(keys.iter().map(|k| (key(*k), Some(key(*k)))));
                        }
                    }
                }
            }
            for n in 0..=255 {
                let found = writes.get(&key(n)).map(|value| value.cloned());
                prop_assert_eq!(found, model.get(&key(n)).cloned());
            }
            let span = Span { start: key(a.min(b)), end: key(a.max(b)) };
            let (page, last) = writes.page(&span, reverse, limit, usize::MAX);
            let mut expected: Vec<_> = model.range(span.start..span.end).collect();
            if reverse {
                expected.reverse();
            }
            let more = expected.len() > limit;
            expected.truncate(limit);
            prop_assert_eq!(last.is_some(), more);
            prop_assert_eq!(page.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>(), expected);
            let all: Vec<_> = model.into_iter().collect();
            prop_assert_eq!(writes.into_sorted(), all);
        }
    }
}
