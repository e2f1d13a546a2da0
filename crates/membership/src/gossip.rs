//! Gossip: how the facts of every node reach every node.
//!
//! # What it is
//! Each node keeps the newest record of facts it has heard of each store, and a *stamp* with it: the
//! incarnation of the store and a version that counts its changes. Records travel as they were written, so
//! fields of a newer program pass through older ones unharmed.
//!
//! ```text
//!   a fact changes at A              news: told to three peers, who tell three more
//!      A ── delta ──► B ── delta ──► C
//!
//!   now and then                     what got lost is found by comparing stamps
//!      A ── digest: all stamps ───────────► B
//!      A ◄─ delta: what A lacks ─────────── B
//!      A ◄─ request: what B lacks ───────── B
//!      A ── delta ────────────────────────► B
//! ```
//!
//! This is scuttlebutt (van Renesse, Dumitriu, Gough, Thomas: "Efficient Reconciliation and Flow Control for
//! Anti-Entropy Protocols", 2008) with one value per node, and with rumours in front.
//!
//! # What it guarantees
//! Nodes that can reach each other, over others too, end up with the same facts. The facts of one store only
//! get newer. Nodes of another cluster are not heard. If nothing changes, a node sends one digest to one
//! peer every [`TICKS_PER_DIGEST`] ticks and gets no answer.
//!
//! # What it does not do
//! It does not say who is alive: silent stores stay in it until they are forgotten. It knows no time: its
//! driver ([`GossipDirectory`]) calls [`Gossip::tick`].

use crate::facts::{MAX_FACTS_BYTES, NodeFacts};
use bytes::Bytes;
use messages::{Body, Entry, Message};
use std::collections::{BTreeMap, BTreeSet};
use types::StoreId;
use types::env::Rng;

mod driver;
mod messages;
#[cfg(test)]
mod tests;

pub use driver::{GossipDirectory, TICK};

/// Peers that are told news in one tick. With three, all of a hundred nodes know after four or five ticks.
pub const FANOUT: usize = 3;
/// Ticks between two digests of one node.
pub const TICKS_PER_DIGEST: u64 = 4;
/// Stores whose facts are kept. What comes beyond is dropped: it bounds a digest to some 100 KB.
pub const MAX_STORES: usize = 4096;
/// Of the records in one delta, in bytes: what does not fit comes after a later digest.
pub const MAX_DELTA_BYTES: usize = 64 << 10;

const _: () = assert!(MAX_FACTS_BYTES <= MAX_DELTA_BYTES);

/// Which of two records of a store is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    pub incarnation: u64,
    /// Counts changes within an incarnation, from 1.
    pub version: u64,
}

/// What a step asks of the driver.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    pub messages: Vec<(StoreId, Bytes)>,
    /// Facts that are new here.
    pub heard: Vec<NodeFacts>,
    /// Stores that are at another address than was known.
    pub moved: Vec<(StoreId, String)>,
}

struct Record {
    stamp: Stamp,
    encoded: Bytes,
    rpc_address: String,
}

/// See the module.
pub struct Gossip {
    cluster: u128,
    me: StoreId,
    records: BTreeMap<StoreId, Record>,
    /// Whom messages can be sent to, and whether they arrive as far as is known.
    peers: BTreeMap<StoreId, bool>,
    /// Stores that left for good. A name is never used again, so nothing of them is ever news.
    forgotten: BTreeSet<StoreId>,
    /// What the others shall be told of this node from the next tick on.
    unpublished: Option<NodeFacts>,
    /// What they were told last.
    published: Option<NodeFacts>,
    /// Stores whose records are told to peers at the next tick.
    news: BTreeSet<StoreId>,
    ticks: u64,
}

impl Gossip {
    pub fn new(cluster: u128, me: StoreId) -> Self {
        Gossip {
            cluster,
            me,
            records: BTreeMap::new(),
            peers: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            unpublished: None,
            published: None,
            news: BTreeSet::new(),
            ticks: 0,
        }
    }

    /// This node's facts from now on. They are told at the next tick, if they differ from the last.
    pub fn publish(&mut self, facts: NodeFacts) {
        assert_eq!(facts.store, self.me, "a node tells its own facts only");
        self.unpublished = Some(facts);
    }

    /// A store that belongs to the cluster: it is gossiped with.
    pub fn meet(&mut self, peer: StoreId) {
        let known = peer == self.me || self.forgotten.contains(&peer);
        if !known && self.peers.len() < MAX_STORES {
            self.peers.entry(peer).or_insert(false);
        }
    }

    /// Messages to `peer` pass from now on, or do not. Whoever comes into reach is told all stamps.
    pub fn connected(&mut self, peer: StoreId, connected: bool) -> Effects {
        self.meet(peer);
        let mut effects = Effects::default();
        if let Some(state) = self.peers.get_mut(&peer) {
            *state = connected;
            if connected {
                effects.messages.push((peer, self.digest()));
            }
        }
        effects
    }

    /// A store has left for good.
    pub fn forget(&mut self, store: StoreId) {
        self.forgotten.insert(store);
        self.records.remove(&store);
        self.peers.remove(&store);
        self.news.remove(&store);
    }

    /// Tells news, and compares stamps now and then.
    pub fn tick(&mut self, rng: &dyn Rng) -> Effects {
        self.ticks += 1;
        self.take_unpublished();
        let mut effects = Effects::default();
        let news = std::mem::take(&mut self.news);
        if self.peers.is_empty() {
            self.news = news;
        } else if !news.is_empty() {
            let delta = self.delta(news.into_iter());
            let peers = self.choose(FANOUT, rng);
            let messages = peers.into_iter().map(|peer| (peer, delta.clone()));
            effects.messages.extend(messages);
        }
        if self.ticks.is_multiple_of(TICKS_PER_DIGEST) {
            let peers: Vec<StoreId> = self.peers.keys().copied().collect();
            // Any peer: one that seems out of reach may have come back unnoticed.
            if let Some(peer) = pick(&peers, rng) {
                effects.messages.push((peer, self.digest()));
            }
        }
        effects
    }

    /// A message of `from`. What is damaged, or of another cluster, is dropped.
    pub fn step(&mut self, from: StoreId, message: &Bytes) -> Effects {
        let mut effects = Effects::default();
        let Some(message) = Message::decode(message) else {
            return effects;
        };
        if message.cluster != self.cluster || self.forgotten.contains(&from) {
            return effects;
        }
        self.meet(from);
        match message.body {
            Body::Digest(stamps) => self.answer_digest(from, &stamps, &mut effects),
            Body::Request(stamps) => {
                let newer = self.newer_than(&stamps).collect();
                self.send_delta(from, newer, &mut effects);
            }
            Body::Delta(entries) => {
                for entry in entries {
                    self.take_entry(entry, &mut effects);
                }
            }
        }
        effects
    }

    fn take_unpublished(&mut self) {
        let Some(mut facts) = self.unpublished.take() else {
            return;
        };
        if let Some(record) = self.records.get(&self.me) {
            // Perhaps a later one than the caller knows of: see `hear_of_myself`.
            facts.incarnation = facts.incarnation.max(record.stamp.incarnation);
        }
        let Some(encoded) = facts.encode() else {
            return;
        };
        let known = self.records.get(&self.me);
        if known.is_some_and(|record| record.encoded == encoded) {
            return;
        }
        let version = match known {
            Some(record) if record.stamp.incarnation >= facts.incarnation => {
                record.stamp.version + 1
            }
            _ => 1,
        };
        let record = Record {
            stamp: Stamp {
                incarnation: facts.incarnation,
                version,
            },
            encoded,
            rpc_address: facts.rpc_address.clone(),
        };
        self.records.insert(self.me, record);
        self.news.insert(self.me);
        self.published = Some(facts);
    }

    fn answer_digest(
        &self,
        from: StoreId,
        theirs: &BTreeMap<StoreId, Stamp>,
        effects: &mut Effects,
    ) {
        let unknown = self.records.keys().filter(|id| !theirs.contains_key(id));
        let newer = unknown.copied().chain(self.newer_than(theirs)).collect();
        self.send_delta(from, newer, effects);
        let lacking: BTreeMap<StoreId, Stamp> = theirs
            .iter()
            .filter(|(id, _)| **id != self.me && !self.forgotten.contains(id))
            .map(|(id, stamp)| (*id, *stamp, self.stamp(*id)))
            .filter(|(_, theirs, ours)| theirs > ours)
            .map(|(id, _, ours)| (id, ours))
            .collect();
        if !lacking.is_empty() {
            let request = self.message(Body::Request(lacking));
            effects.messages.push((from, request));
        }
    }

    /// Stores of `stamps` of which something newer is known here.
    fn newer_than<'a>(
        &'a self,
        stamps: &'a BTreeMap<StoreId, Stamp>,
    ) -> impl Iterator<Item = StoreId> + 'a {
        let newer = stamps
            .iter()
            .filter(|(id, stamp)| self.stamp(**id) > **stamp);
        newer.map(|(id, _)| *id)
    }

    fn take_entry(&mut self, entry: Entry, effects: &mut Effects) {
        if entry.store == self.me {
            self.hear_of_myself(entry.stamp);
            return;
        }
        let room = self.records.len() < MAX_STORES || self.records.contains_key(&entry.store);
        if self.forgotten.contains(&entry.store) || entry.stamp <= self.stamp(entry.store) || !room
        {
            return;
        }
        let Some(facts) = NodeFacts::decode(&entry.encoded) else {
            return;
        };
        if facts.store != entry.store || facts.incarnation != entry.stamp.incarnation {
            return;
        }
        let known = self.records.get(&entry.store);
        if known.is_none_or(|record| record.rpc_address != facts.rpc_address) {
            let address = facts.rpc_address.clone();
            effects.moved.push((entry.store, address));
        }
        let record = Record {
            stamp: entry.stamp,
            encoded: entry.encoded,
            rpc_address: facts.rpc_address.clone(),
        };
        self.records.insert(entry.store, record);
        self.meet(entry.store);
        // In a small cluster whoever had the news has told everybody.
        if self.peers.len() > FANOUT {
            self.news.insert(entry.store);
        }
        effects.heard.push(facts);
    }

    /// Others know something of this store that this process has not said: what it says next must be newer than
    /// that. Said in this incarnation, it was lost on the way; said in a later one, an earlier life's clock was
    /// ahead of this one's.
    fn hear_of_myself(&mut self, heard: Stamp) {
        let Some(record) = self.records.get_mut(&self.me) else {
            return;
        };
        if record.stamp >= heard {
            return;
        }
        if record.stamp.incarnation == heard.incarnation {
            record.stamp.version = heard.version + 1;
            self.news.insert(self.me);
            return;
        }
        let newest = self.unpublished.take().or_else(|| self.published.clone());
        self.unpublished = newest.map(|facts| NodeFacts {
            incarnation: heard.incarnation.saturating_add(1),
            ..facts
        });
    }

    /// Zero of a store that nothing is known of.
    fn stamp(&self, store: StoreId) -> Stamp {
        let record = self.records.get(&store);
        record.map_or_else(Stamp::default, |record| record.stamp)
    }

    fn digest(&self) -> Bytes {
        let stamps = self.records.iter().map(|(id, record)| (*id, record.stamp));
        self.message(Body::Digest(stamps.collect()))
    }

    fn send_delta(&self, to: StoreId, stores: Vec<StoreId>, effects: &mut Effects) {
        if !stores.is_empty() {
            let delta = self.delta(stores.into_iter());
            effects.messages.push((to, delta));
        }
    }

    fn delta(&self, stores: impl Iterator<Item = StoreId>) -> Bytes {
        let mut left = MAX_DELTA_BYTES;
        let mut entries = Vec::new();
        for store in stores {
            let Some(record) = self.records.get(&store) else {
                continue;
            };
            match left.checked_sub(record.encoded.len()) {
                Some(rest) => left = rest,
                None => break,
            }
            entries.push(Entry {
                store,
                stamp: record.stamp,
                encoded: record.encoded.clone(),
            });
        }
        self.message(Body::Delta(entries))
    }

    fn message(&self, body: Body) -> Bytes {
        let cluster = self.cluster;
        Message { cluster, body }.encode()
    }

    /// Some peers in reach, no one twice; if none is, of all.
    fn choose(&self, count: usize, rng: &dyn Rng) -> Vec<StoreId> {
        let reached = self.peers.iter().filter(|(_, connected)| **connected);
        let mut left: Vec<StoreId> = reached.map(|(peer, _)| *peer).collect();
        if left.is_empty() {
            left = self.peers.keys().copied().collect();
        }
        let mut chosen = Vec::new();
        while chosen.len() < count
            && let Some(peer) = pick(&left, rng)
        {
            left.retain(|other| *other != peer);
            chosen.push(peer);
        }
        chosen
    }
}

fn pick(stores: &[StoreId], rng: &dyn Rng) -> Option<StoreId> {
    let count = stores.len() as u64;
    let at = rng.next_u64().checked_rem(count)?;
    stores.get(at as usize).copied()
}
