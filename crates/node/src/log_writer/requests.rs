//! What others ask of the loop.

use super::{LogWriter, Outcome};
use crate::inbox::{Inspection, Request};
use crate::member::Member;
use crate::parts;
use crate::replica_record::{Presence, ReplicaRecord};
use bytes::Bytes;
use consensus::{Change, GroupId, LogStore, ReplicaId};
use futures::channel::oneshot;
use sharding::{ShardDescriptor, ShardId};
use storage::WriteBatch;
use types::{Error, Result, SqlState, StoreId};

/// How long no read lease is offered after its group's members were to change.
const READERS_PAUSE_MILLIS: u64 = 2_000;

impl LogWriter {
    pub(super) fn handle_all(&mut self, requests: Vec<Request>, outcome: &mut Outcome) {
        for request in requests {
            if let Err(error) = self.handle(request) {
                outcome.failure = Some(error);
                return;
            }
        }
    }

    fn handle(&mut self, request: Request) -> Result<()> {
        match request {
            Request::TransferLease { shard, to } => self.transfer(shard, to),
            Request::ChangeMembers {
                shard,
                changes,
                descriptor,
                reply,
            } => {
                let _ = reply.send(self.change_members(shard, &changes, &descriptor));
            }
            Request::Survey { since, reply } => {
                let _ = reply.send(self.survey(since));
            }
            Request::Inspect { shard, reply } => {
                let _ = reply.send(self.inspect(shard));
            }
            Request::Damaged { shard, what } => {
                self.mark_damaged(|member| member.record.descriptor.id == shard, &what)?;
            }
            Request::Differs {
                shard,
                replica,
                what,
            } => {
                let is_it = |member: &Member| {
                    member.record.descriptor.id == shard && member.record.id.0 == replica
                };
                self.mark_damaged(is_it, &what)?;
            }
            Request::DamagedTable { damage, reply } => {
                let marked =
                    self.mark_damaged(|member| member.has_keys_in(&damage), &damage.what)?;
                let _ = reply.send(marked);
            }
            Request::Connected { peer, connected } => self.set_connected(peer, connected),
            Request::SnapshotSent { shard, to, arrived } => {
                if let Some(member) = self.members.get_mut(&shard) {
                    member.group.snapshot_sent(to, arrived);
                    self.touched.insert(shard);
                }
            }
            Request::PrepareSnapshot {
                record,
                index,
                reply,
            } => {
                let ready = self.prepare_snapshot(record, index)?;
                let _ = reply.send(ready);
            }
            Request::SnapshotArrived {
                shard,
                from,
                head,
                reply,
            } => self.install(shard, from, head, reply),
        }
        Ok(())
    }

    fn transfer(&mut self, shard: ShardId, to: StoreId) {
        let Some(member) = self.members.get_mut(&shard) else {
            return;
        };
        let Some(target) = member.record.descriptor.replica_on(to) else {
            return;
        };
        if !member.group.is_leader() || to == self.store {
            return;
        }
        // From now on nothing is read or committed here in this term, whatever becomes of it. What is in flight
        // is finished by the successor.
        if let Some(ground) = &mut member.ground {
            ground.given_away = true;
        }
        member.replica.revoke();
        member.group.transfer_leader(ReplicaId(target.id));
        self.touched.insert(shard);
    }

    fn change_members(
        &mut self,
        shard: ShardId,
        changes: &[Change],
        descriptor: &ShardDescriptor,
    ) -> Result<()> {
        let refused = |why: &str| {
            Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the members of shard {} cannot be changed: {why}", shard.0),
            )
        };
        let now = self.clock.peek();
        let Some(member) = self.members.get_mut(&shard) else {
            return Err(refused("it is not on this store"));
        };
        if member.is_splitting() || member.record.descriptor.generation + 1 != descriptor.generation
        {
            return Err(Error::new(
                SqlState::SERIALIZATION_FAILURE,
                format!("the descriptor of shard {} has changed meanwhile", shard.0),
            ));
        }
        if changes.contains(&Change::Remove(member.record.id)) {
            // See `mover.rs`.
            return Err(refused("its leader goes last"));
        }
        if member.ends_read_leases(now, READERS_PAUSE_MILLIS) {
            self.touched.insert(shard);
            return Err(Error::new(
                SqlState::SERIALIZATION_FAILURE,
                format!("read leases of shard {} have to end first", shard.0),
            ));
        }
        let mut attached = Vec::new();
        descriptor.put(&mut attached);
        for replica in &descriptor.replicas {
            member.met(ReplicaId(replica.id), replica.store);
        }
        if member
            .group
            .propose_membership(changes, &attached)
            .is_none()
        {
            return Err(refused(
                "this store does not lead it, or a change is under way",
            ));
        }
        self.touched.insert(shard);
        Ok(())
    }

    fn inspect(&self, shard: ShardId) -> Result<Inspection> {
        let member = self.members.get(&shard).ok_or_else(|| {
            let message = format!("there is no replica of shard {} here", shard.0);
            Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        })?;
        let descriptor = member.record.descriptor.clone();
        let ids = descriptor.replicas.iter().map(|r| ReplicaId(r.id));
        Ok(Inspection {
            leads: member.group.is_leader(),
            membership: member.group.membership().clone(),
            committed: member.group.committed(),
            applied: member.group.log().applied().position.index,
            whole: member.record.presence == Presence::Whole,
            matched: ids
                .filter_map(|id| Some((id, member.group.matched(id)?)))
                .collect(),
            descriptor,
        })
    }

    fn set_connected(&mut self, peer: StoreId, connected: bool) {
        let known = match connected {
            true => !self.connected.insert(peer),
            false => !self.connected.remove(&peer),
        };
        if known {
            return;
        }
        self.prompt.connected(peer, connected);
        for (shard, member) in &mut self.members {
            if !member.group.is_leader() {
                continue;
            }
            let Some(replica) = member.record.descriptor.replica_on(peer) else {
                continue;
            };
            match connected {
                true => member.group.reconnected(ReplicaId(replica.id)),
                false => member.group.unreachable(ReplicaId(replica.id)),
            }
            self.touched.insert(*shard);
        }
    }

    /// Makes room for a snapshot up to `index`, whose descriptor is that of `record`. The answer is a shard whose
    /// rows have to go before it comes; `None`: it is not wanted.
    ///
    /// The replica forgets its log. That loses nothing: all of it lies below `index`, and what lies there and is
    /// committed is on the disks of a quorum that does without this replica, because its log does not reach
    /// up to the committed entry at `index`.
    fn prepare_snapshot(
        &mut self,
        record: ReplicaRecord,
        index: u64,
    ) -> Result<Option<ShardDescriptor>> {
        let shard = record.descriptor.id;
        if self.holds_keys_of(&record.descriptor) {
            return Ok(None);
        }
        if self.is_unknown(shard, record.id)
            && let Err(error) = self.create_joining(shard, record.id, 0, 0)
        {
            return unless_full(error);
        }
        let Some(member) = self.members.get_mut(&shard) else {
            return Ok(None);
        };
        let wanted = member.record.id == record.id
            && index > member.group.last_index()
            && member.committed_to.is_none()
            && !member.group.is_leader();
        if !wanted {
            return Ok(None);
        }
        // Until the copy is whole the record tells of all keys of which rows may be here: those that the replica had
        // before, too. If the copy breaks off, the next one removes them.
        let arriving = record.descriptor.clone();
        let mut record = record;
        record.presence = Presence::Partial;
        record.descriptor = spanning(&member.record.descriptor, arriving.clone());
        let mut batch = WriteBatch::default();
        record.put(&mut batch);
        member.group.log().put_reset(&mut batch);
        parts::remove(shard, None, &*self.engine, &mut batch)?;
        if let Err(error) = self.engine.write(batch) {
            return unless_full(error.into());
        }
        member.record = record;
        member.arriving = Some(arriving);
        // The rows that are about to be written may reach the disk before this does.
        self.engine.sync()?;
        let record = member.record.clone();
        let group = self.load_group(&record)?;
        if let Some(member) = self.members.get_mut(&shard) {
            member.group = group;
            member.proposed.clear();
            member.replica.revoke();
            member.replica.set_descriptor(record.descriptor.clone());
        }
        self.touched.insert(shard);
        self.ask_for_support(shard);
        Ok(Some(record.descriptor))
    }

    /// Whether replicas of other shards here have keys of this one. They are older and know of fewer splits, or the
    /// copy is: one of the two has to be brought up to date first.
    fn holds_keys_of(&self, descriptor: &ShardDescriptor) -> bool {
        let mut others = self.members.values().map(|other| &other.record.descriptor);
        others.any(|other| other.id != descriptor.id && other.overlaps(descriptor))
    }

    /// Whether a message to this replica is the first that the store hears of it.
    pub(super) fn is_unknown(&mut self, shard: ShardId, replica: ReplicaId) -> bool {
        match self.members.get(&shard) {
            // An earlier replica that has not heard that it was removed: it goes, and the next message finds
            // nothing here.
            Some(member) if member.record.id < replica => {
                self.leave(shard);
                false
            }
            Some(_) => false,
            None => {
                self.former.get(&shard).is_none_or(|id| *id < replica)
                    && !self.snapshots.is_removing(shard)
            }
        }
    }

    /// A replica without anything, of no keys, until a snapshot comes.
    pub(super) fn create_joining(
        &mut self,
        shard: ShardId,
        id: ReplicaId,
        term: u64,
        leader: u64,
    ) -> Result<()> {
        let record = ReplicaRecord {
            id,
            presence: Presence::Partial,
            descriptor: ShardDescriptor {
                id: shard,
                start: Bytes::new(),
                end: Some(Bytes::new()),
                replicas: Vec::new(),
                next_replica: 0,
                generation: 0,
            },
        };
        let mut batch = WriteBatch::default();
        record.put(&mut batch);
        // The record that says that a replica leaves may be on the disk without the removal of its log.
        LogStore::remove_remains(GroupId(shard.0), &*self.engine, &mut batch)?;
        LogStore::create_joining(GroupId(shard.0), term, leader, &mut batch);
        self.engine.write(batch)?;
        self.open_member(record)
    }

    /// This store's replica is no member of its group any more.
    fn leave(&mut self, shard: ShardId) {
        if let Some(member) = self.members.get_mut(&shard) {
            member.record.presence = Presence::Leaving;
            self.touched.insert(shard);
        }
    }

    fn install(
        &mut self,
        shard: ShardId,
        from: StoreId,
        head: consensus::Message,
        reply: oneshot::Sender<bool>,
    ) {
        let Some(member) = self.members.get_mut(&shard) else {
            let _ = reply.send(false);
            return;
        };
        if member.record.presence != Presence::Partial || head.to != member.record.id.0 {
            let _ = reply.send(false);
            return;
        }
        member.met(ReplicaId(head.from), from);
        member.group.step(head);
        self.touched.insert(shard);
        let _ = reply.send(true);
    }

    /// A replica that has left its group: its log goes now, its rows are removed in the background.
    pub(super) fn remove_member(&mut self, shard: ShardId) {
        self.forget_wake(shard);
        let Some(member) = self.members.remove(&shard) else {
            return;
        };
        self.registry.remove(shard);
        self.revisions.gone(shard);
        member.replica.loop_ended();
        self.former.insert(shard, member.record.id);
        let mut batch = WriteBatch::default();
        member.record.put(&mut batch);
        member.group.log().put_removal(&mut batch);
        // Those that can't be read are in nobody's way either.
        let _ = parts::remove(shard, None, &*self.engine, &mut batch);
        if let Err(error) = self.engine.write(batch) {
            // Its records are in nobody's way.
            tracing::warn!(%error, shard = shard.0, "the log of a removed replica stays");
        }
        self.snapshots.remove_rows(member.record);
    }
}

/// `descriptor` with all keys that `known` has, too. They touch, or one of them has no keys.
///
/// If that is more than `descriptor` says, it is as old as `known`: as of the newer generation those keys are
/// another shard's, and whoever routes by generations would ask here for them.
fn spanning(known: &ShardDescriptor, descriptor: ShardDescriptor) -> ShardDescriptor {
    if !known.overlaps(&descriptor) {
        return descriptor;
    }
    let end = known.end.clone().zip(descriptor.end.clone());
    let start = known.start.clone().min(descriptor.start.clone());
    let end = end.map(|(known, new)| known.max(new));
    let is_more = (&start, &end) != (&descriptor.start, &descriptor.end);
    ShardDescriptor {
        start,
        end,
        generation: match is_more {
            true => known.generation,
            false => descriptor.generation,
        },
        ..descriptor
    }
}

/// On a full disk nothing is written, and a snapshot can be offered again. Any other failure ends the store.
fn unless_full<T>(error: Error) -> Result<Option<T>> {
    match error.state == SqlState::DISK_FULL {
        true => Ok(None),
        false => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sharding::{Replica, ShardMap};

    #[test]
    fn a_copy_that_passes_over_a_split_is_no_news_of_the_keys_that_went() {
        let replica = Replica {
            store: StoreId(1),
            id: 1,
        };
        let before = ShardMap::single(replica).shards()[0].clone();
        let (left, _) = before
            .split(Bytes::from_static(b"m"), ShardId(2))
            .expect("m is inside");
        let partial = spanning(&before, left.clone());
        assert_eq!((&partial.start, &partial.end), (&before.start, &before.end));
        assert_eq!(partial.generation, before.generation);
        assert_eq!(spanning(&left, left.clone()), left);
        let mut map = ShardMap::new(vec![before]).expect("a map");
        map.learn(std::slice::from_ref(&left)).expect("a map");
        let known = map.clone();
        map.learn(&[partial]).expect("a map");
        assert_eq!(
            map, known,
            "it taught a router that all keys are the left shard's"
        );
    }
}
