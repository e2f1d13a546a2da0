//! Replicas whose rows are damaged on this store's disk.
//!
//! ```text
//!   a read, the scrub ──► marked, durably ──► its lease is handed over ──► the manager has it removed
//!                              │                                            and adds a new one: a copy
//!                              └──► the damaged table is taken out of use (`snapshots::discard`)
//! ```
//! Its log and its vote are sound, so it stays a member until it can be spared: it acknowledges entries, follows
//! changes of the members, and applies nothing to its rows. A replica of a group of one voter cannot be copied
//! from anywhere: then the store stops.

use super::LogWriter;
use crate::member::Member;
use crate::replica_record::Presence;
use sharding::ShardId;
use storage::WriteBatch;
use types::Result;

impl LogWriter {
    /// Whether any replica of this store has others to be copied from.
    pub(super) fn has_peers(&self) -> bool {
        self.members.values().any(|member| !member.is_alone())
    }

    /// Marks the replicas concerned, durably, also those that were found to be damaged before. `false`: the disk is full. An error: the only copy is damaged.
    pub(super) fn mark_damaged(
        &mut self,
        is_concerned: impl Fn(&Member) -> bool,
        what: &str,
    ) -> Result<bool> {
        let mut batch = WriteBatch::default();
        let mut marked = Vec::new();
        for (shard, member) in &self.members {
            let is_whole = matches!(member.record.presence, Presence::Whole | Presence::Partial);
            if !is_whole || !is_concerned(member) {
                continue;
            }
            if member.is_alone() {
                return Err(storage::Error::Corrupt(what.to_owned()).into());
            }
            let mut record = member.record.clone();
            record.presence = Presence::Damaged;
            record.put(&mut batch);
            marked.push(*shard);
        }
        match self.engine.write(batch) {
            Err(storage::Error::DiskFull(_)) => return Ok(false),
            written => written?,
        }
        self.engine.sync()?;
        for shard in marked {
            self.set_damaged(shard, what);
        }
        Ok(true)
    }

    /// The record that says so is in the batch that is written next, or durable.
    pub(super) fn set_damaged(&mut self, shard: ShardId, what: &str) {
        let Some(member) = self.members.get_mut(&shard) else {
            return;
        };
        tracing::error!(
            shard = shard.0,
            replica = member.record.id.0,
            what,
            "a replica is damaged; it is to be copied again from its peers"
        );
        self.metrics.damaged_replicas.increment(1);
        member.record.presence = Presence::Damaged;
        member.ground = None;
        member.replica.revoke();
        self.touched.insert(shard);
        self.registry.damage_seen.notify_one();
    }
}

impl Member {
    /// Whether some of its rows may be in a damaged table.
    pub(crate) fn has_keys_in(&self, damage: &storage::Damage) -> bool {
        let descriptor = &self.record.descriptor;
        storage::mvcc::is_damaged(&descriptor.start, descriptor.end.as_deref(), damage)
    }
}
