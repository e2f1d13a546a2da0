//! The second half of a turn: all that is committed is applied, in one batch with the applied positions; then
//! leases are brought up to date and committers are told.

use super::{LogWriter, Outcome};
use crate::member::{Effect, Member};
use crate::metrics::seconds;
use crate::replica_record::Presence;
use consensus::group::AppliedRecord;
use consensus::log_store::Applied;
use sharding::ShardId;
use std::sync::atomic::Ordering;
use storage::mvcc::{self, Applier};
use storage::{Engine, WriteBatch};
use types::Timestamp;

impl LogWriter {
    pub(super) fn apply(&mut self, outcome: &mut Outcome) {
        if outcome.blocked || outcome.failure.is_some() {
            return;
        }
        let started = self.env.clock.monotonic_nanos();
        match self.write_applied() {
            Ok(false) => {}
            Ok(true) => {
                let took = self.env.clock.monotonic_nanos().saturating_sub(started);
                self.metrics.apply_seconds.record(seconds(took));
            }
            Err(storage::Error::DiskFull(_)) => {
                outcome.blocked = true;
                return;
            }
            Err(error) => {
                outcome.failure = Some(error.into());
                return;
            }
        }
        self.finish_turn();
    }

    /// `false`: there was nothing to apply.
    fn write_applied(&mut self) -> storage::Result<bool> {
        let mut batch = WriteBatch::default();
        let mut records: Vec<(ShardId, AppliedRecord)> = Vec::new();
        let mut damaged = Vec::new();
        for shard in &self.touched {
            let Some(member) = self.members.get_mut(shard) else {
                continue;
            };
            let Some(position) = member.committed_to else {
                continue;
            };
            let writes = self.options.batch_writes;
            if member.record.presence != Presence::Damaged {
                let before = batch.ops.len();
                match apply_commands(&*self.engine, &mut batch, &member.committed, writes) {
                    Err(storage::Error::Corrupt(what)) if !member.is_alone() => {
                        // What it has written of this so far harms nobody: its rows are worth nothing now.
                        batch.ops.truncate(before);
                        member.record.presence = Presence::Damaged;
                        damaged.push((*shard, what));
                    }
                    applied => applied?,
                }
            }
            if member.record.presence == Presence::Damaged {
                // With every position that has no rows, whatever became of the batch that said so first.
                member.record.put(&mut batch);
            }
            let newest = member.committed.iter().filter_map(|effect| match effect {
                Effect::Write(command) => Some(command.commit_ts),
                Effect::Members(_) => None,
            });
            let commit_ts = member.commit_ts.max(newest.max().unwrap_or_default());
            let applied = Applied {
                position,
                commit_ts,
            };
            if let Some(descriptor) = newest_descriptor(&member.committed) {
                let mut record = member.record.clone();
                record.descriptor = descriptor.clone();
                if descriptor.replicas.iter().all(|r| r.id != record.id.0) {
                    record.presence = Presence::Leaving;
                }
                record.put(&mut batch);
            }
            records.push((*shard, member.group.put_applied(applied, &mut batch)?));
            self.metrics.applied_index.set(position.index as f64);
            self.metrics
                .log_bytes
                .set(member.group.log().bytes() as f64);
        }
        if records.is_empty() {
            return Ok(false);
        }
        write_promised(&*self.engine, batch)?;
        for (shard, what) in damaged {
            self.set_damaged(shard, &what);
        }
        let now = self.env.clock.monotonic_nanos();
        for (shard, record) in records {
            if let Some(member) = self.members.get_mut(&shard) {
                member.commit_ts = member.commit_ts.max(record.commit_ts());
                self.clock.observe(member.commit_ts);
                let newest = &self.registry.shared.newest_commit;
                newest.fetch_max(member.commit_ts.0, Ordering::SeqCst);
                member.group.applied(record);
                member.committed_to = None;
                let done = finish(member);
                member.replica.complete(&done, now);
            }
            self.ask_for_support(shard);
        }
        Ok(true)
    }

    /// Leases, who leads, what is to be done when; then the turn's replicas are silent.
    fn finish_turn(&mut self) {
        if self.lease_ends.refresh(&self.liveness) {
            // Leases stand on it, and so does who may be elected.
            let concerned = self.members.iter().filter(|(_, member)| !member.is_alone());
            self.touched.extend(concerned.map(|(shard, _)| *shard));
        }
        for shard in std::mem::take(&mut self.touched) {
            let Some(member) = self.members.get_mut(&shard) else {
                continue;
            };
            if member.record.presence == Presence::Leaving {
                self.remove_member(shard);
                continue;
            }
            let clock = &self.clock;
            let (liveness, ends) = (&self.liveness, &mut self.lease_ends);
            let proposed = member.update_lease(liveness, ends, || clock.now());
            member.replica.set_leader(member.leader_store());
            member.replica.set_peers(!member.is_alone());
            let standing = member.standing();
            if member.standing_reported != Some(standing) {
                member.standing_reported = Some(standing);
                member.revision = self.revisions.next();
            }
            if proposed || member.group.has_effects() {
                // The next turn goes on; the driver asks `is_busy`.
                self.touched.insert(shard);
            }
            self.hand_over_if_damaged(shard);
            self.plan_wake(shard);
        }
    }

    /// Whether a turn without work would do something.
    pub(super) fn is_busy(&self) -> bool {
        !self.touched.is_empty()
    }
}

/// Hands the applied effects over. Returns the commits among them, in timestamp order.
fn finish(member: &mut Member) -> Vec<Timestamp> {
    let mut done = Vec::with_capacity(member.committed.len());
    for effect in member.committed.drain(..) {
        match effect {
            Effect::Write(command) => done.push(command.commit_ts),
            Effect::Members(descriptor) => {
                let own = member.record.id.0;
                if descriptor.replicas.iter().all(|replica| replica.id != own) {
                    member.record.presence = Presence::Leaving;
                }
                member.record.descriptor = descriptor.clone();
                member.replica.set_descriptor(descriptor);
            }
        }
    }
    done
}

fn newest_descriptor(effects: &[Effect]) -> Option<&sharding::ShardDescriptor> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Members(descriptor) => Some(descriptor),
        Effect::Write(_) => None,
    })
}

/// Small commits together, a large one in pieces.
fn apply_commands(
    engine: &dyn Engine,
    batch: &mut WriteBatch,
    effects: &[Effect],
    batch_writes: usize,
) -> storage::Result<()> {
    let small = batch_writes.saturating_mul(2);
    let is_large = |effect: &Effect| match effect {
        Effect::Write(command) => command.writes.len() > small,
        Effect::Members(_) => false,
    };
    for group in effects.chunk_by(|a, b| !is_large(a) && !is_large(b)) {
        match group {
            [Effect::Write(command)] if is_large(&group[0]) => {
                for part in command.writes.chunks(batch_writes) {
                    if !batch.is_empty() {
                        write_promised(engine, std::mem::take(batch))?;
                    }
                    mvcc::apply_sorted(engine, batch, part, command.commit_ts)?;
                }
            }
            _ => {
                let mut applier = Applier::new(engine, batch);
                for effect in group {
                    if let Effect::Write(command) = effect {
                        for (key, value) in &command.writes {
                            applier.write(key, value.as_ref(), command.commit_ts)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Writes effects of log entries: of what is committed, so a part of the disk is kept for it.
fn write_promised(engine: &dyn Engine, mut batch: WriteBatch) -> storage::Result<()> {
    batch.keeps_promise = true;
    engine.write(batch)
}
