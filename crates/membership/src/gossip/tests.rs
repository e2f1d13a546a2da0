//! Gossip among many nodes over a network that loses what the test says, and three of its drivers in virtual
//! time.
#![expect(
    clippy::disallowed_methods,
    reason = "the paused clock of the test runtime stands for the world"
)]

use super::*;
use crate::facts::{Directory, Nodes};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use types::env::{BoxFuture, CallError, Clock, Env, Rng, Spawn, Transport};

const CLUSTER: u128 = 0xc1;

/// A linear congruential generator: the same dice in each run.
struct Dice(Mutex<u64>);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(Mutex::new(seed))
    }
}

impl Rng for Dice {
    fn next_u64(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }
}

fn facts(store: u64, incarnation: u64, leases: u64) -> NodeFacts {
    NodeFacts {
        store: StoreId(store),
        incarnation,
        rpc_address: format!("n{store}:5451"),
        leases,
        ..NodeFacts::default()
    }
}

/// Nodes, what they have heard, and how much they said.
struct Net {
    nodes: BTreeMap<StoreId, Gossip>,
    heard: BTreeMap<StoreId, BTreeMap<StoreId, NodeFacts>>,
    dice: Dice,
    sent: usize,
    sent_bytes: usize,
}

impl Net {
    /// Each node has published its facts and knows the first.
    fn new(count: u64, seed: u64) -> Net {
        let mut net = Net {
            nodes: BTreeMap::new(),
            heard: BTreeMap::new(),
            dice: Dice::new(seed),
            sent: 0,
            sent_bytes: 0,
        };
        for store in 1..=count {
            net.start(store, 1);
        }
        net
    }

    fn start(&mut self, store: u64, incarnation: u64) {
        let mut gossip = Gossip::new(CLUSTER, StoreId(store));
        gossip.publish(facts(store, incarnation, 0));
        gossip.meet(StoreId(1));
        self.nodes.insert(StoreId(store), gossip);
        self.heard.insert(StoreId(store), BTreeMap::new());
    }

    fn node(&mut self, store: u64) -> &mut Gossip {
        self.nodes.get_mut(&StoreId(store)).expect("a node")
    }

    /// Ticks every node once and delivers all that follows, except what `lost` says.
    fn tick(&mut self, lost: &dyn Fn(StoreId, StoreId) -> bool) {
        let stores: Vec<StoreId> = self.nodes.keys().copied().collect();
        for store in stores {
            let dice = &self.dice;
            let effects = self.nodes.get_mut(&store).map(|node| node.tick(dice));
            self.deliver(store, effects.unwrap_or_default(), lost);
        }
    }

    fn deliver(
        &mut self,
        from: StoreId,
        effects: Effects,
        lost: &dyn Fn(StoreId, StoreId) -> bool,
    ) {
        let heard = self.heard.get_mut(&from).expect("a node");
        heard.extend(effects.heard.into_iter().map(|facts| (facts.store, facts)));
        for (to, message) in effects.messages {
            self.sent += 1;
            self.sent_bytes += message.len();
            let Some(node) = self.nodes.get_mut(&to).filter(|_| !lost(from, to)) else {
                continue;
            };
            let answer = node.step(from, &message);
            self.deliver(to, answer, lost);
        }
    }

    /// How many of `store`'s `leases` each other node knows.
    fn leases_of(&self, store: u64) -> Vec<u64> {
        let others = self.heard.iter().filter(|(id, _)| id.0 != store);
        let known = others.map(|(_, heard)| heard.get(&StoreId(store)));
        known
            .map(|facts| facts.map_or(u64::MAX, |facts| facts.leases))
            .collect()
    }

    fn all_know_all(&self) -> bool {
        let others = self.nodes.len() - 1;
        self.heard.values().all(|heard| heard.len() == others)
    }
}

fn nothing_lost(_: StoreId, _: StoreId) -> bool {
    false
}

#[test]
fn three_nodes_that_know_one_of_them_soon_know_each_other() {
    let mut net = Net::new(3, 1);
    for _ in 0..=TICKS_PER_DIGEST {
        net.tick(&nothing_lost);
    }
    assert!(net.all_know_all());
    net.node(2).publish(facts(2, 1, 5));
    net.tick(&nothing_lost);
    assert_eq!(net.leases_of(2), [5, 5]);
}

#[test]
fn news_reach_a_hundred_nodes_within_seconds() {
    let mut net = Net::new(100, 2);
    let mut ticks = 0;
    while !net.all_know_all() {
        net.tick(&nothing_lost);
        ticks += 1;
        assert!(ticks < 60, "the nodes never met");
    }
    net.node(42).publish(facts(42, 1, 9));
    let mut ticks = 0;
    while net.leases_of(42).contains(&0) {
        net.tick(&nothing_lost);
        ticks += 1;
        // 500 ms each.
        assert!(ticks <= 10, "the news are slow");
    }
}

#[test]
fn nodes_without_news_send_one_digest_in_four_ticks() {
    let mut net = Net::new(3, 3);
    for _ in 0..20 {
        net.tick(&nothing_lost);
    }
    (net.sent, net.sent_bytes) = (0, 0);
    for _ in 0..10 * TICKS_PER_DIGEST {
        net.tick(&nothing_lost);
    }
    assert_eq!(net.sent, 3 * 10);
    assert!(net.sent_bytes <= net.sent * 40, "{} bytes", net.sent_bytes);
}

#[test]
fn what_was_said_during_a_cut_is_heard_after_it() {
    let mut net = Net::new(5, 4);
    for _ in 0..20 {
        net.tick(&nothing_lost);
    }
    let cut = |a: StoreId, b: StoreId| (a.0 <= 2) != (b.0 <= 2);
    net.node(1).publish(facts(1, 1, 7));
    for _ in 0..20 {
        net.tick(&cut);
    }
    assert_eq!(net.leases_of(1), [7, 0, 0, 0]);
    for _ in 0..40 {
        net.tick(&nothing_lost);
    }
    assert_eq!(net.leases_of(1), [7, 7, 7, 7]);
}

#[test]
fn a_node_that_starts_again_is_believed_over_its_earlier_life() {
    let mut net = Net::new(3, 5);
    for leases in 1..=9 {
        net.node(3).publish(facts(3, 1, leases));
        net.tick(&nothing_lost);
    }
    net.start(3, 2);
    for _ in 0..10 {
        net.tick(&nothing_lost);
    }
    assert_eq!(net.leases_of(3), [0, 0]);
    // Its earlier life's facts have come back to it and are not its own.
    assert_eq!(net.heard[&StoreId(3)].len(), 2);
}

#[test]
fn a_node_that_forgot_its_count_catches_up_with_what_it_said() {
    let mut net = Net::new(3, 6);
    for leases in 1..=9 {
        net.node(3).publish(facts(3, 1, leases));
        net.tick(&nothing_lost);
    }
    // The same incarnation, counting from 1: the others hold something newer.
    net.start(3, 1);
    for _ in 0..20 {
        net.tick(&nothing_lost);
    }
    assert_eq!(net.leases_of(3), [0, 0]);
}

#[test]
fn a_node_whose_clock_went_back_is_believed_over_its_earlier_life() {
    let mut net = Net::new(3, 9);
    net.start(3, 8);
    net.node(3).publish(facts(3, 8, 4));
    for _ in 0..20 {
        net.tick(&nothing_lost);
    }
    assert_eq!(net.leases_of(3), [4, 4]);
    net.start(3, 2);
    for _ in 0..20 {
        net.tick(&nothing_lost);
    }
    assert_eq!(net.leases_of(3), [0, 0]);
    // Its host goes on to count its starts as before.
    net.node(3).publish(facts(3, 2, 6));
    for _ in 0..20 {
        net.tick(&nothing_lost);
    }
    assert_eq!(net.leases_of(3), [6, 6]);
}

#[test]
fn who_is_forgotten_stays_forgotten() {
    let mut net = Net::new(3, 7);
    for _ in 0..10 {
        net.tick(&nothing_lost);
    }
    net.node(1).forget(StoreId(3));
    net.heard.get_mut(&StoreId(1)).expect("a node").clear();
    net.node(3).publish(facts(3, 1, 4));
    for _ in 0..20 {
        net.tick(&nothing_lost);
    }
    let heard: Vec<StoreId> = net.heard[&StoreId(1)].keys().copied().collect();
    assert!(!heard.contains(&StoreId(3)));
    assert_eq!(net.heard[&StoreId(2)][&StoreId(3)].leases, 4);
}

#[test]
fn another_cluster_is_not_heard() {
    let mut stranger = Gossip::new(CLUSTER + 1, StoreId(2));
    stranger.publish(facts(2, 1, 0));
    stranger.meet(StoreId(1));
    let mut node = Gossip::new(CLUSTER, StoreId(1));
    for _ in 0..TICKS_PER_DIGEST {
        for (_, message) in stranger.tick(&Dice::new(8)).messages {
            assert_eq!(node.step(StoreId(2), &message), Effects::default());
        }
    }
}

#[test]
fn fields_of_a_newer_program_pass_through_older_ones() {
    use types::codec::{put_field, seal, unseal};
    let record = facts(1, 1, 3).encode().expect("short texts");
    let mut newer = unseal(&record).expect("a good record").to_vec();
    put_field(&mut newer, 1000, b"from the future");
    seal(&mut newer, 0);
    let encoded = Bytes::from(newer);
    let stamp = Stamp {
        incarnation: 1,
        version: 1,
    };
    let store = StoreId(1);
    let entry = Entry {
        store,
        stamp,
        encoded: encoded.clone(),
    };
    let delta = Message {
        cluster: CLUSTER,
        body: Body::Delta(vec![entry]),
    };
    let mut older = Gossip::new(CLUSTER, StoreId(2));
    assert_eq!(older.step(store, &delta.encode()).heard, [facts(1, 1, 3)]);
    let digest = Message {
        cluster: CLUSTER,
        body: Body::Digest(BTreeMap::new()),
    };
    let answer = older.step(StoreId(3), &digest.encode());
    let passed = Message::decode(&answer.messages[0].1).expect("a message");
    let Body::Delta(entries) = passed.body else {
        panic!("not a delta: {passed:?}");
    };
    assert_eq!(entries[0].encoded, encoded);
}

proptest! {
    /// Whatever is lost for a while, in the end all know the newest facts of all.
    #[test]
    fn converges_after_losses(
        seed in any::<u64>(),
        count in 2..12u64,
        loss in proptest::collection::vec(0..100u64, 10),
        changes in proptest::collection::vec((1..12u64, 1..1000u64), 0..10),
    ) {
        let mut net = Net::new(count, seed);
        let mut newest: BTreeMap<u64, u64> = (1..=count).map(|store| (store, 0)).collect();
        let luck = Dice::new(seed ^ 1);
        for (tick, percent) in loss.into_iter().enumerate() {
            if let Some((store, leases)) = changes.get(tick).filter(|(store, _)| *store <= count) {
                net.node(*store).publish(facts(*store, 1, *leases));
                newest.insert(*store, *leases);
            }
            net.tick(&|_, _| luck.next_u64() % 100 < percent);
        }
        for _ in 0..60 * TICKS_PER_DIGEST {
            net.tick(&nothing_lost);
        }
        for (store, leases) in newest {
            prop_assert!(net.leases_of(store).iter().all(|known| *known == leases));
        }
    }

    #[test]
    fn any_bytes_are_stepped_over(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut gossip = Gossip::new(CLUSTER, StoreId(1));
        let effects = gossip.step(StoreId(2), &bytes.into());
        prop_assert!(effects.heard.is_empty());
    }
}

/// Gossip's byte among the kinds of messages here.
const KIND: u8 = 7;

/// Members of one process, connected as long as nobody cuts them off.
#[derive(Default)]
struct Wires {
    members: Mutex<BTreeMap<StoreId, Arc<GossipDirectory>>>,
    learned: Mutex<BTreeMap<(StoreId, StoreId), String>>,
}

struct Wire {
    from: StoreId,
    wires: Arc<Wires>,
}

impl Transport for Wire {
    fn send(&self, to: StoreId, message: Bytes) {
        let member = self.wires.members.lock().get(&to).cloned();
        let from = self.from;
        // A task of its own, as over a real connection.
        tokio::spawn(async move {
            if let Some(member) = member {
                assert_eq!(message[0], KIND);
                member.message(from, &message.slice(1..));
            }
        });
    }

    fn call(&self, _: StoreId, _: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(async { Err(CallError::Unsent("gossip does not call".to_owned())) })
    }

    fn call_address(&self, _: &str, _: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(async { Err(CallError::Unsent("gossip does not call".to_owned())) })
    }

    fn learn(&self, peer: StoreId, address: &str) {
        let mut learned = self.wires.learned.lock();
        learned.insert((self.from, peer), address.to_owned());
    }
}

struct PausedWorld;

impl Clock for PausedWorld {
    fn wall_micros(&self) -> i64 {
        0
    }

    fn monotonic_nanos(&self) -> u64 {
        0
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Spawn for PausedWorld {
    fn spawn(&self, _: &'static str, task: BoxFuture<()>) {
        tokio::spawn(task);
    }
}

fn member(wires: &Arc<Wires>, store: u64) -> Arc<GossipDirectory> {
    let env = Env {
        clock: Arc::new(PausedWorld),
        rng: Arc::new(Dice::new(store)),
        spawn: Arc::new(PausedWorld),
    };
    let from = StoreId(store);
    let transport = Arc::new(Wire {
        from,
        wires: Arc::clone(wires),
    });
    let directory = GossipDirectory::start(CLUSTER, from, &env, transport, KIND);
    directory.publish(facts(store, 1, 0));
    wires.members.lock().insert(from, Arc::clone(&directory));
    directory
}

/// Waits until `holds`, for at most a minute of virtual time.
async fn settled(directory: &GossipDirectory, holds: impl FnMut(&Nodes) -> bool) {
    let mut changed = directory.changed();
    let waited = tokio::time::timeout(Duration::from_secs(60), changed.wait_for(holds)).await;
    waited.expect("in time").expect("the directory is there");
}

#[tokio::test(start_paused = true)]
async fn three_members_of_one_process() {
    let wires = Arc::new(Wires::default());
    let members: Vec<_> = (1..=3).map(|store| member(&wires, store)).collect();
    members[1].meet(StoreId(1), "n1:5451");
    members[2].meet(StoreId(1), "n1:5451");
    members[1].connected(StoreId(1), true);
    members[2].connected(StoreId(1), true);
    for member in &members {
        settled(member, |nodes| nodes.len() == 3).await;
    }
    let learned = wires.learned.lock().get(&(StoreId(2), StoreId(3))).cloned();
    assert_eq!(learned.as_deref(), Some("n3:5451"));

    members[2].publish(facts(3, 1, 12));
    for member in &members {
        settled(member, |nodes| nodes[&StoreId(3)].leases == 12).await;
    }
    members[0].forget(StoreId(3));
    assert!(!members[0].nodes().contains_key(&StoreId(3)));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_directory() {
    let wires = Arc::new(Wires::default());
    let alone = member(&wires, 1);
    let weak = Arc::downgrade(&alone);
    tokio::time::sleep(10 * TICK).await;
    wires.members.lock().clear();
    drop(alone);
    tokio::time::sleep(10 * TICK).await;
    assert!(weak.upgrade().is_none());
}
