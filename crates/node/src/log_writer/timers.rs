//! What the loop does when time passes: elections, missing answers, commits whose fate stays unknown.

use super::LogWriter;
use super::handover::UNFIT_PAUSE;
use crate::health::Fitness;
use crate::member::WakeFor;
use crate::replica_record::Presence;
use consensus::Awaited;
use sharding::ShardId;
use std::time::Duration;

/// A replica that finds itself without a leader waits a random time below this before it stands, so that one
/// stands first: a round trip and a sync or two.
const STAGGER: Duration = Duration::from_millis(20);
/// After an election that nobody won, twice as long each time, up to the second.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// A leader that has had no answer for so long asks again.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);
/// A leader tells followers what is committed if for so long there was no entry to tell it with. They need it for
/// nothing that is waited for, only to be near when they take over.
const NEWS_PATIENCE: Duration = Duration::from_millis(20);
/// A handover that has not come about in this time has failed.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(1);
/// How much longer an unfit store waits before it stands for election: an election takes less, so if nobody leads
/// then, nobody who is fitter can.
const UNFIT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a leader looks whether those who wait for commits in flight wait in vain.
const WAITING_LOOK: Duration = Duration::from_secs(1);

impl LogWriter {
    /// How long nothing is to be done without work. `None`: for ever.
    pub(super) fn pause(&self) -> Option<Duration> {
        let now = self.env.clock.monotonic_nanos();
        let member = self.wakes.first().map(|(at, _)| at.saturating_sub(now));
        let member = member.map(Duration::from_nanos);
        let later = self.outbox.next_due().map(|at| at.saturating_sub(now));
        let later = later.map(Duration::from_nanos);
        let liveness = match self.is_awake() {
            true => self.liveness.next_wake(),
            false => Some(self.wakes_at),
        };
        let liveness = liveness.map(|at| {
            let millis = at.millis().saturating_sub(self.clock.peek().millis());
            // One more: a wake within this millisecond would turn in circles until it is over.
            Duration::from_millis(millis + 1)
        });
        [member, later, liveness].into_iter().flatten().min()
    }

    /// Sets when a replica is to be looked at next, if at all.
    pub(super) fn plan_wake(&mut self, shard: ShardId) {
        let now = self.env.clock.monotonic_nanos();
        let Some(member) = self.members.get_mut(&shard) else {
            return;
        };
        let connected = &self.connected;
        let wait = if member.should_campaign(self.store, &self.liveness) {
            if member.is_alone() {
                Some((WakeFor::Election, Duration::ZERO))
            } else {
                let most = match member.attempts {
                    0 => STAGGER,
                    n => RETRY.saturating_mul(1 << n.min(8)).min(RETRY_MOST),
                };
                let least = most / 2 * u32::from(member.attempts > 0);
                let spread = (most - least).as_nanos() as u64;
                // Whoever is fit and can be reached stands first.
                let others = member.record.descriptor.replicas.iter();
                let others = others.filter(|replica| replica.store != self.store);
                let reachable = others.filter(|replica| connected.contains(&replica.store));
                let least = match self.fitness {
                    Fitness::Fit => least,
                    _ if reachable.count() == 0 => least,
                    _ => least + UNFIT_PATIENCE,
                };
                let wait = least + Duration::from_nanos(self.env.rng.next_u64() % spread.max(1));
                Some((WakeFor::Election, wait))
            }
        } else {
            member.attempts = 0;
            if let Some(wait) = member.waits_for_readers(self.clock.peek()) {
                Some((WakeFor::Readers, wait.min(ANSWER_PATIENCE)))
            } else if member.group.is_transferring() {
                Some((WakeFor::Transfer, TRANSFER_PATIENCE))
            } else if let Some(awaited) = member.awaited(|store| connected.contains(&store)) {
                Some(match awaited {
                    Awaited::Entries => (WakeFor::Answers, ANSWER_PATIENCE),
                    Awaited::Commit => (WakeFor::News, NEWS_PATIENCE),
                })
            } else if !member.is_alone() && member.replica.has_waiting() {
                Some((WakeFor::Orphans, WAITING_LOOK))
            } else if self.fitness != Fitness::Fit && member.group.is_leader() && !member.is_alone()
            {
                Some((WakeFor::Handover, UNFIT_PAUSE))
            } else {
                None
            }
        };
        let Some((wake_for, wait)) = wait else {
            return self.set_wake(shard, None);
        };
        if member.wake_at.is_some() && member.wake_for == wake_for && !wait.is_zero() {
            // Whoever is patient anew at every turn of a busy store is so for ever.
            return;
        }
        member.wake_for = wake_for;
        self.set_wake(shard, Some(now + wait.as_nanos() as u64));
    }

    fn set_wake(&mut self, shard: ShardId, at: Option<u64>) {
        let Some(member) = self.members.get_mut(&shard) else {
            return;
        };
        if let Some(before) = member.wake_at {
            self.wakes.remove(&(before, shard));
        }
        member.wake_at = at;
        if let Some(at) = at {
            self.wakes.insert((at, shard));
        }
    }

    /// Looks at the replicas whose time has come.
    pub(super) fn stand_for_elections(&mut self) {
        let now = self.env.clock.monotonic_nanos();
        while let Some((at, shard)) = self.wakes.first().copied()
            && at <= now
        {
            self.set_wake(shard, None);
            self.touched.insert(shard);
            let Some(member) = self.members.get_mut(&shard) else {
                continue;
            };
            if member.has_lease_in_vain(self.clock.peek()) {
                // Without support there is no lease, and without a quorum nobody who would depose this leader.
                // Who reads asks elsewhere; whose commits are in flight is told after some time.
                member.give_lease_up();
            }
            let patience = self.options.patience.as_nanos() as u64;
            let before = now.saturating_sub(patience);
            let connected = &self.connected;
            let missing = || member.missing(self.store, |store| connected.contains(&store));
            let committed = |at| member.is_committed(at);
            member.replica.give_up_orphans(before, committed, missing);
            if member.should_campaign(self.store, &self.liveness) {
                member.attempts += 1;
                // It fails only for a replica that has no vote.
                let _ = member.group.campaign();
            } else if member.group.is_transferring() {
                member.group.abort_transfer();
                if member.record.presence == Presence::Damaged {
                    // It holds no lease, and the next one is asked.
                    continue;
                }
                // Nobody knows whether the other one leads: begin a term in which there is no doubt.
                member.group.step_down();
                let _ = member.group.campaign();
            } else if member.group.is_leader() {
                member.group.ping();
            }
        }
    }

    pub(super) fn forget_wake(&mut self, shard: ShardId) {
        self.set_wake(shard, None);
    }
}
