//! How the replicas of a store stand, and which of them have changed since somebody last asked.
//!
//! The cluster manager asks every second. Thousands of replicas mostly stand as they stood, so each change of what it
//! plans by is given a number, its *revision*, and an answer holds what is above the revision that the asker
//! knows. Revisions begin at the time at which the store opened, so one of an earlier life is below all of the present.

use super::LogWriter;
use crate::manager::ReplicaReport;
use crate::member::Member;
use sharding::ShardId;
use std::collections::BTreeMap;

/// Replicas that have gone are remembered up to this many; who asks from before is told everything.
const GONE_KEPT: usize = 10_000;

/// What has changed on a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The newest change that this tells of.
    pub(crate) revision: u64,
    /// These are all replicas; others have gone.
    pub(crate) complete: bool,
    pub(crate) replicas: Vec<ReplicaReport>,
    /// Shards of which there was a replica.
    pub(crate) gone: Vec<ShardId>,
}

/// The revisions of a store.
pub(super) struct Revisions {
    newest: u64,
    /// Who knows less than this is told everything.
    complete_since: u64,
    gone: BTreeMap<u64, ShardId>,
}

impl Revisions {
    pub(super) fn new(start: u64) -> Self {
        Revisions {
            newest: start,
            complete_since: start,
            gone: BTreeMap::new(),
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    pub(super) fn gone(&mut self, shard: ShardId) {
        let revision = self.next();
        self.gone.insert(revision, shard);
        if self.gone.len() > GONE_KEPT
            && let Some((forgotten, _)) = self.gone.pop_first()
        {
            self.complete_since = forgotten;
        }
    }
}

impl LogWriter {
    /// `since`: the revision that is known; 0: none.
    pub(super) fn survey(&self, since: u64) -> Survey {
        let now = self.clock.peek();
        let complete = since < self.revisions.complete_since;
        let is_news = |member: &&Member| complete || member.revision > since;
        let gone = self.revisions.gone.range(since + 1..);
        Survey {
            revision: self.revisions.newest,
            complete,
            replicas: self
                .members
                .values()
                .filter(is_news)
                .map(|member| member.report(now))
                .collect(),
            gone: match complete {
                true => Vec::new(),
                false => gone
                    .map(|(_, shard)| *shard)
                    .filter(|shard| !self.members.contains_key(shard))
                    .collect(),
            },
        }
    }
}
