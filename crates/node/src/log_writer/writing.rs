//! The log's half of a turn: one batch of entries, votes and promises, its sync, and what is said before and after it.

use super::{LogWriter, leads_no_more};
use crate::liveness_record;
use crate::metrics::seconds;
use crate::outbox::Sender;
use crate::replica_record::Presence;
use consensus::{ReplicaId, wire};
use sharding::ShardId;
use std::sync::atomic::Ordering;
use storage::WriteBatch;
use types::{Error, Result};

enum WriteError {
    /// Nothing is written.
    Refused(storage::Error),
    Failed(Error),
}

impl LogWriter {
    /// Carries out what the groups ask for until they are silent.
    pub(super) fn write_effects(&mut self) -> Result<()> {
        loop {
            match self.write_round() {
                Ok(true) => {}
                Ok(false) => break,
                Err(WriteError::Failed(error)) => return Err(error),
                Err(WriteError::Refused(error)) => {
                    self.start_anew(&error.into())?;
                    break;
                }
            }
        }
        self.flush();
        Ok(())
    }

    /// One batch and its sync. `false`: there was nothing to write or send.
    fn write_round(&mut self) -> std::result::Result<bool, WriteError> {
        let readers_until = self.read_leases_end();
        let mut batch = WriteBatch::default();
        let mut must_sync = false;
        let mut busy = Vec::new();
        let mut early = Vec::new();
        for shard in &self.touched {
            let Some(member) = self.members.get_mut(shard) else {
                continue;
            };
            if !member.group.has_effects() {
                continue;
            }
            // Before any entry after it is acknowledged.
            member.replica.end_read_lease(member.group.last_index());
            let effects = member.group.effects(&mut batch);
            must_sync |= effects.must_sync;
            if effects.snapshot.is_some() {
                // The rows are in place, and now the log is.
                member.record.presence = Presence::Whole;
                member.has_parts = true;
                if let Some(descriptor) = member.arriving.take() {
                    member.record.descriptor = descriptor;
                }
                member.record.put(&mut batch);
                let descriptor = member.record.descriptor.clone();
                member.replica.set_descriptor(descriptor);
                // Those that it was not sent the entries of.
                member.assume_readers(readers_until);
            }
            early.push((*shard, effects.messages));
            busy.push(*shard);
        }
        let support = std::mem::take(&mut self.support);
        if let Some(record) = &support.record {
            liveness_record::put(record, &mut batch);
            must_sync = true;
        }
        if busy.is_empty() && support.record.is_none() && support.messages.is_empty() {
            return Ok(false);
        }
        if !batch.is_empty() {
            // Applying writes about as much again.
            batch.promised_bytes = batch.bytes();
            self.engine.write(batch).map_err(|error| match error {
                storage::Error::DiskFull(_) => WriteError::Refused(error),
                error => WriteError::Failed(error.into()),
            })?;
        }
        for (shard, messages) in early {
            self.post(shard, messages);
        }
        if must_sync {
            // Followers write at the same time.
            self.flush();
            self.sync().map_err(WriteError::Failed)?;
        }
        if let Some(record) = support.record {
            self.liveness.persisted(record);
        }
        support
            .messages
            .into_iter()
            .for_each(|message| self.outbox.liveness(message));
        for shard in busy {
            self.after_sync(shard).map_err(WriteError::Failed)?;
        }
        Ok(true)
    }

    fn after_sync(&mut self, shard: ShardId) -> Result<()> {
        let Some(member) = self.members.get_mut(&shard) else {
            return Ok(());
        };
        let persisted = member.group.persisted()?;
        let applied = member.group.log().applied();
        member.commit_ts = member.commit_ts.max(applied.commit_ts);
        let mut lost = Vec::new();
        for entry in persisted.committed {
            member.take_committed(entry, &mut lost)?;
        }
        if !lost.is_empty() {
            let now = self.env.clock.monotonic_nanos();
            member.replica.refuse(&lost, &leads_no_more(), now);
        }
        self.post(shard, persisted.messages);
        Ok(())
    }

    /// Puts messages of a group into the outbox; a snapshot goes its own way.
    fn post(&mut self, shard: ShardId, messages: Vec<consensus::Message>) {
        let Some(member) = self.members.get(&shard) else {
            return;
        };
        let now = self.env.clock.monotonic_nanos();
        let mut full = false;
        for message in messages {
            let Some(to) = member.home(ReplicaId(message.to)) else {
                continue;
            };
            if wire::kind(&message) == wire::Kind::Snapshot {
                self.snapshots.send(shard, to, message);
                continue;
            }
            let unheard = member.group.matched(ReplicaId(message.to)) == Some(0);
            let can_wait = !unheard
                && wire::brings_entries(&message)
                && member.can_do_without(to, &self.prompt);
            full |= if can_wait {
                self.outbox.later(to, shard, message, now)
            } else {
                let start = unheard.then_some(&member.record.descriptor.start);
                self.outbox.raft(to, shard, start, &message)
            };
        }
        if full {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let sender = Sender {
            time: self.clock.peek(),
            wall_millis: self.clock.wall_millis(),
            sync_millis: self.registry.shared.health.sync_millis(),
        };
        self.outbox.flush(&*self.transport, sender);
    }

    fn sync(&mut self) -> Result<()> {
        if self.options.skip_sync {
            return Ok(());
        }
        let started = self.env.clock.monotonic_nanos();
        // Whatever a failed sync says of its reason: nobody knows what is on disk now.
        self.engine.sync()?;
        let took = self.env.clock.monotonic_nanos().saturating_sub(started);
        self.metrics.syncs.increment(1);
        self.registry.shared.health.synced(took);
        let syncs = &self.registry.shared.syncs;
        syncs.fetch_add(1, Ordering::Relaxed);
        self.metrics.sync_seconds.record(seconds(took));
        Ok(())
    }
}
