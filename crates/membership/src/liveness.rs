//! Store liveness: who supports whom, and until when.
//!
//! # What it is
//! Every store asks the stores with which it shares shards for *support*. A supporter promises not to
//! help anybody take over from the asking store before an expiry. A leader whose followers' stores
//! support its own therefore holds its lease until the expiry that a quorum of them has promised,
//! with no message per shard: the cost grows with pairs of stores, not with shards.
//!
//! ```text
//!   requester                                   supporter
//!   epoch 3, clock 100                          gives 1: epoch 3 until 103
//!      │── heartbeat: epoch 3, until 106 ──────►│  extends, makes it durable
//!      │◄───── reply: epoch 3, until 106 ───────│
//!      ┆        (a cut)                         ┆
//!      │                                        │  its clock passes 106: withdraws, epoch 4
//!      │── heartbeat: epoch 3, until 112 ──────►│  refuses
//!      │◄───── reply: epoch 4, until 0 ─────────│
//!   epoch 4                                     │
//! ```
//!
//! # What it guarantees
//! **Durable support.** If a requester holds a reply that promises epoch E until X, the supporter keeps
//! E until its own clock has passed X, over crashes of either side. So the requester may rely on the
//! promise while its own clock is below X less the bound on clock skew.
//!
//! **One life, one epoch.** A requester that restarts asks in a new epoch: promises made to its earlier
//! life do not serve the new one.
//!
//! **One supporter's withdrawal is its own.** The epoch that follows is asked for from all, and who answers before its
//! promise of the old epoch has run out never withdrew: its support goes on, in the same *spell*. So a follower that
//! is late takes nothing from a leader that the others support.
//!
//! **A stalled disk loses its support by itself**, because no heartbeat leaves before the write that
//! allows it is durable.
//!
//! # What the driver does
//! Each call answers with [`Effects`]: write the record and sync it, call [`Liveness::persisted`], and
//! only then send the messages. The clock is an argument; it is the store's hybrid logical clock, which
//! has observed [`Record::clock_floor`] after a restart.

use crate::liveness::record::Record;
use std::collections::BTreeMap;
use types::{StoreId, Timestamp};

pub mod record;

#[cfg(test)]
mod tests;

/// Counts the times that a store's support was lost or its process began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// Support without interruption. Who withdraws it and gives it again begins another one; they are counted in the
/// requester's present life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spell(pub u64);

/// What a store was promised.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    epoch: Epoch,
    /// Zero: it was withdrawn.
    expiry: Timestamp,
    spell: Spell,
}

/// Support of one store by another: in `epoch`, until `expiry`. None at all has expiry zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Support {
    pub epoch: Epoch,
    pub expiry: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How far ahead support is asked for, in milliseconds: what a failure takes to be noticed.
    pub support_millis: u64,
    /// Between two heartbeats to a store, in milliseconds: a few must fit into the above, so that one
    /// lost message costs nothing.
    pub heartbeat_millis: u64,
    /// A store that has just started withdraws nothing for this long, in milliseconds: while it was
    /// away it could not hear the heartbeats that would have extended its promises.
    pub grace_millis: u64,
    /// By how much two stores' clocks may differ, in milliseconds.
    pub offset_millis: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            support_millis: 1000,
            heartbeat_millis: 300,
            grace_millis: 1000,
            offset_millis: 500,
        }
    }
}

/// What stores tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: StoreId,
    pub to: StoreId,
    pub kind: Kind,
    pub support: Support,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `from` asks `to` for this support.
    Heartbeat,
    /// `from` now gives `to` this support.
    Reply,
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To be made durable, replacing the one before; then [`Liveness::persisted`].
    pub record: Option<Record>,
    /// To be sent after that.
    pub messages: Vec<Message>,
}

/// Who supports whom, whatever the time: all that leases and elections stand on but the expiries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who supports this store, and for how many-th time.
    pub supporters: Vec<(StoreId, Spell)>,
    /// Whom this store supports, by what is durable.
    pub supported: Vec<(StoreId, Epoch)>,
}

/// See the module.
#[derive(Debug)]
pub struct Liveness {
    store: StoreId,
    options: Options,
    /// What the next record says. Ahead of `durable` between an answer and its `persisted`.
    state: Record,
    durable: Record,
    /// Promises received in this life.
    received: BTreeMap<StoreId, Promise>,
    /// The first epoch of this life.
    born: Epoch,
    /// When the next heartbeat to each wanted peer is due.
    due: BTreeMap<StoreId, Timestamp>,
    /// Nothing is withdrawn before.
    grace_until: Timestamp,
}

impl Liveness {
    /// `last` is the record that was last made durable by this store, or an empty one. `now` is above
    /// its [`Record::clock_floor`].
    pub fn new(store: StoreId, last: Record, options: Options, now: Timestamp) -> Self {
        let mut state = last.clone();
        state.epoch = state.epoch.next();
        Liveness {
            store,
            options,
            born: state.epoch,
            state,
            durable: last,
            received: BTreeMap::new(),
            due: BTreeMap::new(),
            grace_until: plus_millis(now, options.grace_millis),
        }
    }

    /// Starts to ask `peer` for support.
    pub fn ask(&mut self, peer: StoreId) {
        if peer != self.store {
            self.due.entry(peer).or_insert(Timestamp::ZERO);
        }
    }

    /// To be called when [`Liveness::next_wake`] has come: heartbeats that are due, and support to be
    /// withdrawn.
    pub fn tick(&mut self, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        self.withdraw(now);
        let due: Vec<StoreId> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(peer, _)| *peer)
            .collect();
        if !due.is_empty() {
            let expiry = plus_millis(now, self.options.support_millis);
            self.state.requested = self.state.requested.max(expiry);
            let next = plus_millis(now, self.options.heartbeat_millis);
            for to in due {
                self.due.insert(to, next);
                effects.messages.push(Message {
                    from: self.store,
                    to,
                    kind: Kind::Heartbeat,
                    support: Support {
                        epoch: self.state.epoch,
                        expiry,
                    },
                });
            }
        }
        self.finish(effects)
    }

    /// When to call [`Liveness::tick`] next.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let withdrawal = self.state.given.values().map(|given| given.expiry);
        let withdrawal = withdrawal
            .filter(|expiry| *expiry > Timestamp::ZERO)
            .min()
            .map(|expiry| expiry.next().max(self.grace_until));
        self.due.values().copied().chain(withdrawal).min()
    }

    /// Takes what other stores said. Together they cost one record. `now` is not before they arrived.
    pub fn step(&mut self, now: Timestamp, messages: impl IntoIterator<Item = Message>) -> Effects {
        let mut effects = Effects::default();
        for message in messages {
            if message.to != self.store {
                continue;
            }
            match message.kind {
                Kind::Heartbeat => effects.messages.push(self.give(message)),
                Kind::Reply => self.take(now, message),
            }
        }
        self.finish(effects)
    }

    fn give(&mut self, heartbeat: Message) -> Message {
        let given = self.state.given.entry(heartbeat.from).or_default();
        let asked = heartbeat.support;
        if asked.epoch > given.epoch {
            *given = asked;
        } else if asked.epoch == given.epoch {
            given.expiry = given.expiry.max(asked.expiry);
        }
        Message {
            from: self.store,
            to: heartbeat.from,
            kind: Kind::Reply,
            support: *given,
        }
    }

    fn take(&mut self, now: Timestamp, reply: Message) {
        let Support { epoch, expiry } = reply.support;
        let withdrew = epoch > self.state.epoch;
        if withdrew {
            // The others' promises stand until they run out; all are asked anew.
            self.state.epoch = epoch;
            self.due.values_mut().for_each(|at| *at = Timestamp::ZERO);
        }
        if epoch < self.state.epoch || !self.due.contains_key(&reply.from) {
            return;
        }
        let latest = plus_millis(now, self.options.offset_millis);
        let promise = self.received.entry(reply.from).or_default();
        if promise.epoch != epoch {
            // The supporter's clock was at most at `latest` when it answered. Up to the expiry it had withdrawn nothing.
            let goes_on = !withdrew && expiry > Timestamp::ZERO && latest <= promise.expiry;
            if !goes_on {
                promise.expiry = Timestamp::ZERO;
                promise.spell.0 += 1;
            }
            promise.epoch = epoch;
        }
        promise.expiry = promise.expiry.max(expiry);
    }

    fn withdraw(&mut self, now: Timestamp) {
        if now < self.grace_until {
            return;
        }
        for given in self.state.given.values_mut() {
            if given.expiry > Timestamp::ZERO && given.expiry < now {
                *given = Support {
                    epoch: given.epoch.next(),
                    expiry: Timestamp::ZERO,
                };
                self.state.withdrawn = self.state.withdrawn.max(now);
            }
        }
    }

    fn finish(&self, mut effects: Effects) -> Effects {
        if self.state != self.durable {
            effects.record = Some(self.state.clone());
        }
        effects
    }

    /// This record is durable.
    pub fn persisted(&mut self, record: Record) {
        self.durable = record;
    }

    /// The epoch in which this store asks.
    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// Whether this store supports `peer`, by what is durable: if not, it may vote against it.
    pub fn supports(&self, peer: StoreId) -> Option<Support> {
        let given = self.durable.given.get(&peer).copied()?;
        (given.expiry > Timestamp::ZERO).then_some(given)
    }

    /// Until when `peer` supports this store.
    pub fn supported_by(&self, peer: StoreId) -> Option<Timestamp> {
        if peer == self.store {
            // A store needs no promise of its own: it is as alive as its last durable write in this life.
            let durable = self.durable.epoch >= self.born;
            return durable.then_some(self.durable.requested);
        }
        self.received.get(&peer).map(|promise| promise.expiry)
    }

    /// Which spell of support by `peer` this is. What was built on another one is void.
    pub fn spell(&self, peer: StoreId) -> Spell {
        let promise = self.received.get(&peer);
        promise.map_or(Spell::default(), |promise| promise.spell)
    }

    pub fn standing(&self) -> Standing {
        let received = self.received.iter();
        let received = received.filter(|(_, promise)| promise.expiry > Timestamp::ZERO);
        let given = self.durable.given.iter();
        let given = given.filter(|(_, given)| given.expiry > Timestamp::ZERO);
        Standing {
            supporters: received
                .map(|(store, promise)| (*store, promise.spell))
                .collect(),
            supported: given.map(|(store, given)| (*store, given.epoch)).collect(),
        }
    }

    /// Until when more than half of so many voters support this store, if only the support of these stores
    /// counts: a lease held by it ends then, less the bound on clock skew. With two sets of voters (a change
    /// of members) it is the lower of both.
    pub fn supported_by_majority(&self, of: &[StoreId], voters: usize) -> Option<Timestamp> {
        let mut promised: Vec<Timestamp> = of
            .iter()
            .filter_map(|peer| self.supported_by(*peer))
            .filter(|expiry| *expiry > Timestamp::ZERO)
            .collect();
        promised.sort_unstable_by(|a, b| b.cmp(a));
        promised.get(voters / 2).copied()
    }
}

fn plus_millis(at: Timestamp, millis: u64) -> Timestamp {
    Timestamp(at.0 + (millis << 16))
}
