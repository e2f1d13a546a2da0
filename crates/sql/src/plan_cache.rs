//! Plans shared by all sessions of an instance, found by statement text.

use crate::session::prepared::Prepared;
use parking_lot::RwLock;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Plans kept. A plan takes some tens of kilobytes at most; an application has some hundreds of
/// statements. When full, the cache starts anew rather than keep track of uses on every hit.
const MAX_PLANS: usize = 2048;

/// Longer texts are planned each time: they are generated, and seldom come twice.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// What a plan is found by.
#[derive(Clone, Copy)]
pub struct PlanKey<'a> {
    /// Database, role and search path, as [`PlanCache::space`] of them.
    pub space: u64,
    pub text: &'a str,
}

#[derive(Default)]
pub struct PlanCache {
    plans: RwLock<FxHashMap<u64, Entry>>,
    hasher: FxBuildHasher,
    made: AtomicU64,
}

struct Entry {
    space: u64,
    text: Box<str>,
    plan: Arc<Prepared>,
}

impl PlanCache {
    /// Statements mean the same in sessions with the same of these.
    pub fn space(&self, database: u32, user: &str, search_path: &[String]) -> u64 {
        self.hasher.hash_one((database, user, search_path))
    }

    pub fn get(&self, key: PlanKey<'_>) -> Option<Arc<Prepared>> {
        let plans = self.plans.read();
        let entry = plans.get(&self.hash(key))?;
        // Two keys may share a hash: then the later one has replaced the earlier.
        let same = entry.space == key.space && *entry.text == *key.text;
        same.then(|| Arc::clone(&entry.plan))
    }

    pub fn put(&self, key: PlanKey<'_>, plan: Arc<Prepared>) {
        if key.text.len() > MAX_TEXT_BYTES {
            return;
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let mut plans = self.plans.write();
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        let entry = Entry {
            space: key.space,
            text: key.text.into(),
            plan,
        };
        plans.insert(self.hash(key), entry);
    }

    /// How many plans were put so far. It stands still while the same statements run on the same catalog.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn hash(&self, key: PlanKey<'_>) -> u64 {
        self.hasher.hash_one((key.space, key.text))
    }
}
