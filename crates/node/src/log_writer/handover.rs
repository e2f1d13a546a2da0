//! Leases that this store gives up by itself: those of damaged replicas, and all while it is unfit.

use super::LogWriter;
use crate::health::Fitness;
use crate::replica_record::Presence;
use consensus::ReplicaId;
use sharding::ShardId;
use std::time::Duration;

/// How long an unfit store keeps a lease that nobody would take, until it tries again.
pub(super) const UNFIT_PAUSE: Duration = Duration::from_secs(10);
/// Entries that the next leader may lack: what it gets while it is asked.
const LACKING_ENTRIES: u64 = 64;

impl LogWriter {
    /// Leases and elections depend on it.
    pub(super) fn look_at_health(&mut self) {
        let fitness = self.registry.shared.health.fitness();
        if fitness != self.fitness {
            self.fitness = fitness;
            let concerned = self.members.iter().filter(|(_, member)| !member.is_alone());
            self.touched.extend(concerned.map(|(shard, _)| *shard));
        }
    }

    /// A leader that should not lead hands over: to who is up to date, and if that does not come about, to the
    /// next one.
    pub(super) fn hand_over(&mut self, shard: ShardId) {
        let now = self.env.clock.monotonic_nanos();
        let Some(member) = self.members.get_mut(&shard) else {
            return;
        };
        let damaged = member.record.presence == Presence::Damaged;
        let unfit = self.fitness != Fitness::Fit && now >= member.hand_over_after;
        let leads = member.group.is_leader() && !member.group.is_transferring();
        if !leads || !(damaged || unfit) {
            return;
        }
        let last = member.group.last_index();
        let voters = member.group.membership().voters.iter().copied();
        let mut able: Vec<ReplicaId> = voters
            .filter(|id| *id != member.record.id)
            .filter(|id| {
                member
                    .home(*id)
                    .is_some_and(|s| self.connected.contains(&s))
            })
            .filter(|id| {
                let matched = member.group.matched(*id).unwrap_or(0);
                damaged || matched + LACKING_ENTRIES >= last
            })
            .collect();
        able.sort_by_key(|id| std::cmp::Reverse(member.group.matched(*id)));
        if able.is_empty() {
            return;
        }
        let to = able[member.handovers % able.len()];
        member.handovers += 1;
        member.hand_over_after = now + UNFIT_PAUSE.as_nanos() as u64;
        // As in every handover: nothing is read or committed here in this term from now on.
        if let Some(ground) = &mut member.ground {
            ground.given_away = true;
        }
        member.replica.revoke();
        member.group.transfer_leader(to);
        self.touched.insert(shard);
    }
}
