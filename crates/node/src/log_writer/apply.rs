//! The second half of a turn: what is committed is applied, in one batch with the applied positions; then
//! leases are brought up to date and committers are told.
//!
//! A large commit is finished in steps (see [`crate::parts`]). When a turn has applied [`TURN_BYTES`], or has taken
//! [`TURN_TIME`], the rest is left for the next one.

use super::births::{Changed, changed};
use super::{LogWriter, Outcome};
use crate::member::{Effect, Member};
use crate::metrics::seconds;
use crate::parts;
use crate::read_leases::Granted;
use crate::replica::not_split;
use crate::replica_record::{Presence, ReplicaRecord};
use consensus::group::AppliedRecord;
use consensus::log_store::Applied;
use consensus::{Commit, Finish, Position, Replaced};
use sharding::{ShardDescriptor, ShardId};
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::mvcc::{self, Applier};
use storage::{Engine, WriteBatch};
use types::Timestamp;

/// Bytes of large commits that half a turn applies, about: some tens of milliseconds, a part of the time in which
/// heartbeats must be answered.
const TURN_BYTES: u64 = 4 << 20;
/// The same on a slow machine.
const TURN_TIME: Duration = Duration::from_millis(50);

/// What of a shard's effects went into the batch.
#[derive(Default)]
struct Step {
    /// So many of them, from the first on, are done with it.
    done: usize,
    /// Written already, of one that is not done yet.
    bytes: u64,
}

impl LogWriter {
    pub(super) fn apply(&mut self, outcome: &mut Outcome) {
        if outcome.blocked || outcome.failure.is_some() {
            return;
        }
        let started = self.env.clock.monotonic_nanos();
        match self.write_applied_within(started) {
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

    /// Applies until nothing is left or it is enough for one turn. `false`: there was nothing to apply.
    fn write_applied_within(&mut self, started_nanos: u64) -> storage::Result<bool> {
        let mut any = false;
        let mut written = 0;
        while let Some(bytes) = self.write_applied()? {
            any = true;
            written += bytes;
            let now = self.env.clock.monotonic_nanos();
            let took = Duration::from_nanos(now.saturating_sub(started_nanos));
            let enough = written >= TURN_BYTES || took >= TURN_TIME;
            if enough && !self.recovering {
                break;
            }
        }
        Ok(any)
    }

    /// One batch. Returns how many bytes were written of large commits; `None`: there was nothing to apply.
    fn write_applied(&mut self) -> storage::Result<Option<u64>> {
        let mut batch = WriteBatch::default();
        let mut written: Vec<Written> = Vec::new();
        let mut damaged = Vec::new();
        let mut found = false;
        let mut bytes = 0;
        let now = self.clock.peek();
        for shard in self.touched.clone() {
            let Some(member) = self.members.get_mut(&shard) else {
                continue;
            };
            let Some(position) = member.committed_to.filter(|_| member.has_to_apply(now)) else {
                continue;
            };
            found = true;
            let writes = self.options.batch_writes;
            let all = member.committed.len();
            let mut effects = member.committed.iter();
            // Of a damaged replica nothing is applied, but what follows a read lease has to wait as well.
            let lease = effects.position(|(_, effect)| matches!(effect, Effect::ReadLease(_)));
            let mut step = Step {
                done: lease.map_or(all, |at| at + 1),
                bytes: 0,
            };
            if member.record.presence != Presence::Damaged {
                let before = batch.ops.len();
                match apply_effects(&*self.engine, &mut batch, shard, member, writes) {
                    Err(storage::Error::Corrupt(what)) if !member.is_alone() => {
                        // What it has written of this so far harms nobody: its rows are worth nothing now.
                        batch.ops.truncate(before);
                        member.record.presence = Presence::Damaged;
                        damaged.push((shard, what));
                    }
                    applied => step = applied?,
                }
            }
            bytes += step.bytes;
            if member.record.presence == Presence::Damaged {
                // With every position that has no rows, whatever became of the batch that said so first.
                member.record.put(&mut batch);
            }
            let position = match member.committed.get(step.done.wrapping_sub(1)) {
                // What follows it may have to wait, also what has no effect.
                Some((position, Effect::ReadLease(_))) => *position,
                _ if step.done == all => position,
                Some((position, _)) => *position,
                // Nothing yet.
                None => continue,
            };
            let done = member.committed.range(..step.done);
            let newest = done.clone().filter_map(|(_, effect)| match effect {
                Effect::Write(command) => Some(command.commit_ts),
                Effect::Finish(finish) => Some(finish.commit_ts),
                _ => None,
            });
            let commit_ts = member.commit_ts.max(newest.max().unwrap_or_default());
            let applied = Applied {
                position,
                commit_ts,
            };
            let changed = changed(&member.record.descriptor, done.map(|(_, effect)| effect));
            if let Some(changed) = &changed {
                after(&member.record, &changed.descriptor).put(&mut batch);
                self.put_births(shard, &changed.births, &mut batch);
            }
            let Some(member) = self.members.get_mut(&shard) else {
                continue;
            };
            let record = member.group.put_applied(applied, &mut batch)?;
            written.push(Written {
                shard,
                count: step.done,
                record,
                changed,
            });
            self.metrics.applied_index.set(position.index as f64);
            self.metrics
                .log_bytes
                .set(member.group.log().bytes() as f64);
        }
        if !written.is_empty() {
            write_promised(&*self.engine, batch)?;
        }
        for (shard, what) in damaged {
            self.set_damaged(shard, &what);
        }
        self.take_effect(written)?;
        Ok(found.then_some(bytes))
    }

    /// What was written counts.
    fn take_effect(&mut self, written: Vec<Written>) -> storage::Result<()> {
        let now = self.env.clock.monotonic_nanos();
        for Written {
            shard,
            count,
            record,
            changed,
        } in written
        {
            // Before the left shards hold less: who is sent on finds the right ones.
            for birth in changed.iter().flat_map(|changed| &changed.births) {
                self.clock.observe(birth.floor);
                self.bring_to_life(shard, birth)?;
            }
            if let Some(member) = self.members.get_mut(&shard) {
                member.commit_ts = member.commit_ts.max(record.commit_ts());
                self.clock.observe(member.commit_ts);
                let newest = &self.registry.shared.newest_commit;
                newest.fetch_max(member.commit_ts.0, Ordering::SeqCst);
                member.group.applied(record);
                let done = finish(member, count, changed);
                if self.options.skip_readers {
                    member.readers = Granted::default();
                }
                if member.committed_to == Some(record.position()) {
                    member.committed_to = None;
                }
                member.replica.complete(&done, now);
            }
            self.ask_for_support(shard);
        }
        Ok(())
    }

    /// Leases, who leads, what is to be done when; then the turn's replicas are silent.
    fn finish_turn(&mut self) {
        if self.lease_ends.refresh(&self.liveness) {
            // Leases stand on it, and so does who may be elected.
            let concerned = self.members.iter().filter(|(_, member)| !member.is_alone());
            self.touched.extend(concerned.map(|(shard, _)| *shard));
        }
        let now = self.clock.peek();
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
            let proposed = member.update_lease(liveness, ends, clock);
            member.replica.set_leader(member.leader_store());
            member.replica.set_peers(!member.is_alone());
            let outline = member.outline();
            if member.outline_reported != Some(outline) {
                member.outline_reported = Some(outline);
                member.revision = self.revisions.next();
            }
            if proposed || member.group.has_effects() || member.has_to_apply(now) {
                // The next turn goes on; the driver asks `is_busy`.
                self.touched.insert(shard);
            }
            self.hand_over(shard);
            self.plan_wake(shard);
        }
    }

    /// Whether a turn without work would do something.
    pub(super) fn is_busy(&self) -> bool {
        !self.touched.is_empty()
    }
}

/// A shard's effects that are written and are to count.
struct Written {
    shard: ShardId,
    /// So many.
    count: usize,
    record: AppliedRecord,
    changed: Option<Changed>,
}

/// Hands the first `count` effects over, which are applied. Returns the commits among them, in timestamp order.
fn finish(member: &mut Member, count: usize, changed: Option<Changed>) -> Vec<Timestamp> {
    let mut done = Vec::with_capacity(count);
    let mut splits = 0;
    for (position, effect) in member.committed.drain(..count) {
        match effect {
            Effect::Write(command) => {
                let writes = command.writes.iter();
                let bytes = writes.map(|(key, value)| {
                    value.as_ref().map_or(0, |value| key.len() + value.len()) as u64
                });
                member.replica.size.wrote(bytes.sum());
                done.push(command.commit_ts);
            }
            Effect::Part {
                name,
                number,
                record,
            } => {
                member.replica.size.wrote(record.len() as u64);
                member.replica.part_done(name, number, position.term);
            }
            Effect::Finish(finish) => {
                member.finished_parts = 0;
                done.push(finish.commit_ts);
            }
            Effect::Split(_) => splits += 1,
            Effect::ReadLease(lease) => {
                let holds = lease.holders.contains(&member.record.id)
                    && member.record.presence == Presence::Whole
                    && member.group.last_index() == position.index;
                let others = lease.holders.iter().copied();
                let others: Vec<_> = others.filter(|id| *id != member.record.id).collect();
                member.readers.grant(&others, position.index, lease.until);
                member
                    .replica
                    .read_lease_applied(&lease, position.index, holds);
            }
            Effect::Members(_) | Effect::Abandon(_) | Effect::Term => {}
        }
    }
    if let Some(Changed { descriptor, births }) = changed {
        member.record = after(&member.record, &descriptor);
        match births.is_empty() {
            true => member.replica.set_descriptor(descriptor),
            false => member.replica.split_done(descriptor),
        }
        splits -= births.len();
    }
    if splits > 0 {
        let error = not_split(member.replica.shard, "its descriptor has changed meanwhile");
        member.replica.split_failed(&error);
    }
    done
}

/// The record once the shard is what `descriptor` says.
fn after(record: &ReplicaRecord, descriptor: &ShardDescriptor) -> ReplicaRecord {
    let stays = descriptor.replicas.iter().any(|r| r.id == record.id.0);
    ReplicaRecord {
        id: record.id,
        presence: match stays {
            true => record.presence,
            false => Presence::Leaving,
        },
        descriptor: descriptor.clone(),
    }
}

/// What a shard's effects change, into the batch: as many of them as go together, or a step of one that goes apart.
fn apply_effects(
    engine: &dyn Engine,
    batch: &mut WriteBatch,
    shard: ShardId,
    member: &mut Member,
    batch_writes: usize,
) -> storage::Result<Step> {
    let effects = member.committed.make_contiguous();
    let together = effects.iter().position(|(_, effect)| effect.is_apart());
    let together = together.unwrap_or(effects.len());
    if together > 0 || effects.is_empty() {
        apply_commands(engine, batch, shard, &effects[..together], batch_writes)?;
        return Ok(Step {
            done: together,
            bytes: 0,
        });
    }
    let done = Step { done: 1, bytes: 0 };
    match &effects[0].1 {
        Effect::Part {
            name,
            number,
            record,
        } => {
            parts::remove(shard, Some(*name), engine, batch)?;
            let first = parts::key(shard, *name, *number);
            batch.ops.retain(|(_, key, _)| *key != first);
            parts::put(shard, *name, *number, record.clone(), batch);
            Ok(done)
        }
        Effect::Finish(finish) if member.finished_parts < finish.parts => {
            let part = parts::load(shard, finish.name, member.finished_parts, engine)?;
            let mut bytes = 0;
            for writes in part.writes.chunks(batch_writes) {
                let mut part = WriteBatch::default();
                mvcc::apply_sorted(engine, &mut part, writes, finish.commit_ts)?;
                bytes += part.bytes();
                write_promised(engine, part)?;
            }
            member.finished_parts += 1;
            Ok(Step { done: 0, bytes })
        }
        Effect::Finish(Finish { name, .. }) | Effect::Abandon(name) => {
            parts::remove(shard, Some(*name), engine, batch)?;
            Ok(done)
        }
        Effect::ReadLease(_) => Ok(done),
        _ => {
            parts::remove(shard, None, engine, batch)?;
            Ok(done)
        }
    }
}

/// Small commits together, a large one in pieces.
fn apply_commands(
    engine: &dyn Engine,
    batch: &mut WriteBatch,
    shard: ShardId,
    effects: &[(Position, Effect)],
    batch_writes: usize,
) -> storage::Result<()> {
    let small = batch_writes.saturating_mul(2);
    let is_large = |(_, effect): &(Position, Effect)| match effect {
        Effect::Write(command) => command.writes.len() > small,
        _ => false,
    };
    for group in effects.chunk_by(|a, b| !is_large(a) && !is_large(b)) {
        match group {
            [(_, Effect::Write(command))] if is_large(&group[0]) => {
                for part in command.writes.chunks(batch_writes) {
                    if !batch.is_empty() {
                        write_promised(engine, std::mem::take(batch))?;
                    }
                    mvcc::apply_sorted(engine, batch, part, command.commit_ts)?;
                }
            }
            _ => {
                let mut applier = Applier::new(engine, batch);
                for (_, effect) in group {
                    match effect {
                        Effect::Write(command) => {
                            apply_commit(command, &mut applier)?;
                        }
                        Effect::Part {
                            name,
                            number,
                            record,
                        } => {
                            let record = record.clone();
                            parts::put(shard, *name, *number, record, applier.batch());
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    Ok(())
}

fn apply_commit(commit: &Commit, applier: &mut Applier<dyn Engine>) -> storage::Result<()> {
    for (at, (key, value)) in commit.writes.iter().enumerate() {
        let value = value.as_ref();
        match commit.replaced.get(at).unwrap_or(&Replaced::Unsaid) {
            Replaced::Unsaid => applier.write(key, value, commit.commit_ts)?,
            Replaced::Nothing => applier.write_over(key, value, commit.commit_ts, None)?,
            Replaced::Version(timestamp, old) => {
                applier.write_over(key, value, commit.commit_ts, Some((*timestamp, old)))?;
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
