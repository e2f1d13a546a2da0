//! Many keys that came in sorted batches, kept as they came.
//!
//! A *run* is a row of batches whose keys ascend, one batch behind the other. Batches of a bulk load
//! that follows the key make one run, however many they are; a batch that fits into no run begins a
//! new one, and there are never more than [`MOST_RUNS`]. So a lookup is a few binary searches, and a
//! key costs nothing beyond its place in its batch: no hash, no tree node.

use crate::kv::Key;

/// Runs searched in every lookup. Loads whose order has nothing to do with the key do not profit
/// from batches; they go key by key instead.
const MOST_RUNS: usize = 8;

/// A batch: its keys ascend, all different, at least one.
pub(crate) trait Batch {
    fn keys(&self) -> &[Key];
}

impl Batch for std::sync::Arc<[Key]> {
    fn keys(&self) -> &[Key] {
        self
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Runs<B> {
    runs: Vec<Vec<B>>,
    len: usize,
}

impl<B> Default for Runs<B> {
    fn default() -> Self {
        Runs {
            runs: Vec::new(),
            len: 0,
        }
    }
}

impl<B: Batch> Runs<B> {
    /// Keys in all batches.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a batch whose keys are not here yet, or gives it back if there are too many runs.
    pub(crate) fn add(&mut self, batch: B) -> Result<(), B> {
        let (Some(first), Some(last)) = (batch.keys().first(), batch.keys().last()) else {
            return Ok(());
        };
        let place = self.runs.iter().enumerate().find_map(|(number, run)| {
            let behind = run.partition_point(|other| last_of(other) < first);
            let fits = run.get(behind).is_none_or(|next| last < first_of(next));
            fits.then_some((number, behind))
        });
        if place.is_none() && self.runs.len() >= MOST_RUNS {
            return Err(batch);
        }
        self.len += batch.keys().len();
        match place {
            Some((number, behind)) => self.runs[number].insert(behind, batch),
            None => self.runs.push(vec![batch]),
        }
        Ok(())
    }

    /// Takes the batch out that begins with this key.
    pub(crate) fn remove(&mut self, first: &Key) -> Option<B> {
        let (number, at) = self.runs.iter().enumerate().find_map(|(number, run)| {
            let at = run.partition_point(|batch| first_of(batch) < first);
            (first_of(run.get(at)?) == first).then_some((number, at))
        })?;
        let batch = self.runs[number].remove(at);
        self.len -= batch.keys().len();
        if self.runs[number].is_empty() {
            self.runs.remove(number);
        }
        Some(batch)
    }

    /// The batch that holds `key`, and the key's place in it.
    pub(crate) fn find(&self, key: &[u8]) -> Option<(&B, usize)> {
        self.runs.iter().find_map(|run| {
            let batch = run.get(run.partition_point(|batch| &last_of(batch)[..] < key))?;
            let place = batch.keys().binary_search_by(|other| other[..].cmp(key));
            Some((batch, place.ok()?))
        })
    }

    pub(crate) fn holds_any(&self, keys: &[Key]) -> bool {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return false;
        };
        let meets = self.runs.iter().any(|run| {
            run.get(run.partition_point(|batch| last_of(batch) < first))
                .is_some_and(|batch| first_of(batch) <= last)
        });
        meets && keys.iter().any(|key| self.find(key).is_some())
    }

    /// The batches of each run, in key order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &[B]> {
        self.runs.iter().map(Vec::as_slice)
    }

    pub(crate) fn into_runs(self) -> Vec<Vec<B>> {
        self.runs
    }
}

fn first_of(batch: &impl Batch) -> &Key {
    &batch.keys()[0]
}

fn last_of(batch: &impl Batch) -> &Key {
    &batch.keys()[batch.keys().len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn key(n: u16) -> Key {
        Key::copy_from_slice(&n.to_be_bytes())
    }

    proptest! {
        #[test]
        fn finds_what_a_set_holds(
            batches in proptest::collection::vec(
                proptest::collection::btree_set(0..400u16, 1..20), 1..30),
            asked in proptest::collection::btree_set(0..400u16, 1..20),
        ) {
            let mut runs: Runs<Arc<[Key]>> = Runs::default();
            let mut set = BTreeSet::new();
            for batch in batches {
                let keys: Arc<[Key]> = batch.iter().map(|n| key(*n)).collect();
                let held = batch.iter().any(|n| set.contains(n));
                prop_assert_eq!(runs.holds_any(&keys), held);
                if !held && runs.add(keys).is_ok() {
                    set.extend(batch);
                }
            }
            prop_assert_eq!(runs.len(), set.len());
            prop_assert!(runs.runs().count() <= MOST_RUNS);
            for n in 0..400 {
                let found = runs.find(&key(n)).map(|(batch, place)| batch[place].clone());
                prop_assert_eq!(found, set.contains(&n).then(|| key(n)));
            }
            let keys: Vec<Key> = asked.iter().map(|n| key(*n)).collect();
            prop_assert_eq!(runs.holds_any(&keys), asked.iter().any(|n| set.contains(n)));
        }
    }

    #[test]
    fn batches_that_follow_each_other_are_one_run() {
        let mut runs: Runs<Arc<[Key]>> = Runs::default();
        for start in [0, 20, 40, 10, 30] {
            assert!(runs.add((start..start + 10).map(key).collect()).is_ok());
        }
        assert_eq!(runs.runs().count(), 1);
    }
}
