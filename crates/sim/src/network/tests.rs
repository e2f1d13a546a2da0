use super::*;
use crate::executor::Executor;
use proptest::prelude::*;
use types::env::{BoxFuture, Transport};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Message(u64, u64),
    Connected(u64, bool),
}

/// Notes what it sees; answers a call with its request after a while.
struct Echo {
    seen: Mutex<Vec<Seen>>,
    calls: Mutex<Vec<Option<StoreId>>>,
    clock: Arc<dyn types::env::Clock>,
}

impl Peer for Echo {
    fn message(&self, from: StoreId, message: Bytes) {
        let number = u64::from_be_bytes(message[..].try_into().expect("a number"));
        self.seen.lock().push(Seen::Message(from.0, number));
    }

    fn call(&self, from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        self.calls.lock().push(from);
        let pause = self.clock.sleep(std::time::Duration::from_millis(5));
        Box::pin(async move {
            pause.await;
            request
        })
    }

    fn connected(&self, peer: StoreId, connected: bool) {
        self.seen.lock().push(Seen::Connected(peer.0, connected));
    }
}

struct World {
    executor: Executor,
    network: Network,
    hosts: BTreeMap<u32, (Arc<SimTransport>, Arc<Echo>)>,
    sent: u64,
}

type Answer = Arc<Mutex<Option<Result<Bytes, CallError>>>>;

impl World {
    fn new(seed: u64, nodes: u32, straggler_percent: u64) -> World {
        let mut dice = Dice::new(seed);
        let executor = Executor::new(dice.fork());
        let options = Options {
            straggler_percent,
            sent_percent: straggler_percent,
            ..Options::default()
        };
        let network = Network::new(executor.machines().clone(), dice, options);
        let mut world = World {
            executor,
            network,
            hosts: BTreeMap::new(),
            sent: 0,
        };
        for node in 1..=nodes {
            world.start(node, &format!("n{node}"));
        }
        for a in 1..=nodes {
            for b in 1..=nodes {
                world.learn(a, b, &format!("n{b}"));
            }
        }
        world.run(10 * MILLI);
        world
    }

    fn start(&mut self, node: u32, address: &str) {
        let id = NodeId(node);
        let transport = self.network.start(id, address);
        let echo = Arc::new(Echo {
            seen: Mutex::default(),
            calls: Mutex::default(),
            clock: self.executor.machines().env(id).clock,
        });
        transport.serve(StoreId(u64::from(node)), echo.clone());
        self.hosts.insert(node, (transport, echo));
    }

    fn learn(&self, a: u32, b: u32, address: &str) {
        if a != b {
            self.hosts[&a].0.learn(StoreId(u64::from(b)), address);
        }
    }

    fn crash(&mut self, node: u32, silent: bool) {
        self.network.end(NodeId(node), silent);
        self.executor.machines().kill(NodeId(node));
    }

    fn run(&mut self, nanos: u64) {
        let until = self.executor.machines().now_nanos() + nanos;
        while self.executor.machines().now_nanos() < until {
            self.executor.step_until(until);
        }
    }

    fn send(&mut self, from: u32, to: u32) -> u64 {
        self.sent += 1;
        let number = Bytes::copy_from_slice(&self.sent.to_be_bytes());
        self.hosts[&from].0.send(StoreId(u64::from(to)), number);
        self.sent
    }

    fn call(&self, from: u32, call: BoxFuture<Result<Bytes, CallError>>) -> Answer {
        let answer = Answer::default();
        let told = Arc::clone(&answer);
        let env = self.executor.machines().env(NodeId(from));
        let waits = async move { *told.lock() = Some(call.await) };
        env.spawn.spawn("asker", Box::pin(waits));
        answer
    }

    fn ask(&self, from: u32, to: u32) -> Answer {
        let call = self.hosts[&from].0.call(StoreId(u64::from(to)), "?".into());
        self.call(from, call)
    }

    fn take_seen(&self, node: u32) -> Vec<Seen> {
        std::mem::take(&mut *self.hosts[&node].1.seen.lock())
    }

    fn messages(&self, node: u32, from: u32) -> Vec<u64> {
        let seen = self.hosts[&node].1.seen.lock();
        let of = |seen: &Seen| match seen {
            Seen::Message(sender, number) if *sender == u64::from(from) => Some(*number),
            _ => None,
        };
        seen.iter().filter_map(of).collect()
    }
}

fn is_broken(answer: &Answer) -> bool {
    matches!(*answer.lock(), Some(Err(CallError::Broken(_))))
}

fn is_unsent(answer: &Answer) -> bool {
    matches!(*answer.lock(), Some(Err(CallError::Unsent(_))))
}

#[test]
fn messages_arrive_once_and_in_order_and_calls_are_answered() {
    let mut world = World::new(1, 3, 0);
    let mut seen = world.take_seen(1);
    seen.sort();
    assert_eq!(seen, [Seen::Connected(2, true), Seen::Connected(3, true)]);
    let sent: Vec<u64> = (0..100).map(|_| world.send(1, 2)).collect();
    let answer = world.ask(2, 3);
    world.run(10 * MILLI);
    assert_eq!(world.messages(2, 1), sent);
    assert_eq!(*answer.lock(), Some(Ok("?".into())));
    assert_eq!(world.hosts[&3].1.calls.lock()[..], [Some(StoreId(2))]);
}

#[test]
fn a_broken_connection_loses_what_is_under_way_and_comes_back() {
    let mut world = World::new(2, 2, 0);
    world.take_seen(2);
    world.send(1, 2);
    let answer = world.ask(1, 2);
    world.network.break_between(NodeId(1), NodeId(2));
    world.run(SECOND);
    assert!(is_broken(&answer), "{answer:?}");
    let again = [Seen::Connected(1, false), Seen::Connected(1, true)];
    assert_eq!(world.take_seen(2), again);
    let sent = world.send(1, 2);
    world.run(10 * MILLI);
    assert_eq!(world.messages(2, 1), [sent]);
}

#[test]
fn what_was_under_way_may_arrive_after_what_came_later() {
    let mut late = 0;
    for seed in 0..50 {
        let mut world = World::new(seed, 2, 50);
        let early: Vec<u64> = (0..10).map(|_| world.send(1, 2)).collect();
        world.network.break_between(NodeId(1), NodeId(2));
        world.run(5 * MILLI);
        world.send(1, 2);
        world.run(SECOND);
        let seen = world.messages(2, 1);
        let of_old: Vec<u64> = seen.iter().copied().filter(|n| early.contains(n)).collect();
        assert!(of_old.is_sorted_by(|a, b| a < b), "{seen:?}");
        late += u32::from(!seen.is_sorted());
    }
    assert!(late >= 10, "{late} of 50");
}

#[test]
fn a_short_cut_delays_and_a_long_one_breaks() {
    let mut world = World::new(3, 2, 0);
    world.take_seen(2);
    let (one, two) = (NodeId(1), NodeId(2));
    world.network.cut(one, two);
    let first = world.send(1, 2);
    let back = world.send(2, 1);
    world.run(100 * MILLI);
    assert_eq!(world.messages(2, 1), [0; 0]);
    assert_eq!(world.messages(1, 2), [back], "the other direction works");
    world.network.heal(one, two);
    let second = world.send(1, 2);
    world.run(10 * MILLI);
    assert_eq!(world.messages(2, 1), [first, second]);

    world.take_seen(2);
    world.network.cut(one, two);
    let answer = world.ask(1, 2);
    world.run(20 * SECOND);
    assert!(is_broken(&answer));
    assert_eq!(world.take_seen(2), [Seen::Connected(1, false)]);
    let answer = world.ask(1, 2);
    world.run(MILLI);
    assert!(is_unsent(&answer));
    world.network.heal_all();
    world.run(SECOND);
    assert_eq!(world.take_seen(2), [Seen::Connected(1, true)]);
}

#[test]
fn a_dead_process_is_noticed_and_finds_back_from_a_new_address() {
    for silent in [false, true] {
        let mut world = World::new(4, 2, 0);
        let answer = world.ask(2, 1);
        world.run(MILLI);
        world.take_seen(2);
        world.crash(1, silent);
        world.run(10 * MILLI);
        assert_eq!(is_broken(&answer), !silent);
        world.send(2, 1);
        world.run(10 * SECOND);
        assert!(is_broken(&answer));
        assert_eq!(world.take_seen(2), [Seen::Connected(1, false)]);
        world.start(1, "elsewhere");
        world.run(SECOND);
        assert_eq!(world.take_seen(2), [], "nobody knows where it is");
        world.learn(1, 2, "n2");
        world.run(SECOND);
        assert_eq!(world.take_seen(2), [Seen::Connected(1, true)]);
        assert_eq!(world.take_seen(1), [Seen::Connected(2, true)]);
        world.send(2, 1);
        world.run(10 * MILLI);
        assert_eq!(world.messages(1, 2).len(), 1);
    }
}

#[test]
fn a_stopped_node_takes_in_later_what_has_come() {
    let mut world = World::new(5, 2, 0);
    let machines = world.executor.machines().clone();
    machines.stop(NodeId(2), true);
    let sent = world.send(1, 2);
    let answer = world.ask(1, 2);
    world.run(SECOND);
    assert_eq!(world.messages(2, 1), [0; 0]);
    assert_eq!(*answer.lock(), None);
    machines.stop(NodeId(2), false);
    world.run(20 * MILLI);
    assert_eq!(world.messages(2, 1), [sent]);
    assert!(matches!(*answer.lock(), Some(Ok(_))));
}

#[test]
fn an_address_can_be_asked_before_a_name_is_known() {
    let mut world = World::new(6, 1, 0);
    let newcomer = world.network.start(NodeId(2), "n2");
    let asked = world.call(2, newcomer.call_address("n1", "?".into()));
    let wrong = world.call(2, newcomer.call_address("n7", "?".into()));
    let deaf = world.call(1, world.hosts[&1].0.call_address("n2", "?".into()));
    world.run(20 * MILLI);
    assert!(matches!(*asked.lock(), Some(Ok(_))));
    assert_eq!(world.hosts[&1].1.calls.lock()[..], [None]);
    assert!(is_unsent(&wrong) && is_unsent(&deaf));
    let lost = world.call(2, newcomer.call_address("n1", "?".into()));
    world.run(2 * MILLI);
    world.network.cut_groups(&[NodeId(1)], &[NodeId(2)]);
    world.run(10 * SECOND);
    assert!(is_broken(&lost));
}

#[derive(Clone, Debug)]
enum Act {
    Send(u32, u32),
    Break(u32, u32),
    Cut(u32, u32),
    Heal(u32, u32),
    Slow(u32, u32),
    Crash(u32, bool),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let pair = || (1..=3u32, 1..=3u32).prop_filter("two nodes", |(a, b)| a != b);
    prop_oneof![
        12 => pair().prop_map(|(a, b)| Act::Send(a, b)),
        1 => pair().prop_map(|(a, b)| Act::Break(a, b)),
        1 => pair().prop_map(|(a, b)| Act::Cut(a, b)),
        2 => pair().prop_map(|(a, b)| Act::Heal(a, b)),
        1 => pair().prop_map(|(a, b)| Act::Slow(a, b)),
        1 => (1..=3u32, any::<bool>()).prop_map(|(a, silent)| Act::Crash(a, silent)),
        4 => (0..2000u64).prop_map(|millis| Act::Pass(millis * MILLI)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens: nothing arrives twice, and between two notices of a connection all that arrives is
    /// in the order in which it was sent; once the faults stop, everybody is connected.
    #[test]
    fn the_trait_is_kept(seed in any::<u64>(), acts in proptest::collection::vec(act(), 1..80)) {
        let mut world = World::new(seed, 3, 0);
        let node = NodeId;
        for act in acts {
            match act {
                Act::Send(a, b) => drop(world.send(a, b)),
                Act::Break(a, b) => world.network.break_between(node(a), node(b)),
                Act::Cut(a, b) => world.network.cut(node(a), node(b)),
                Act::Heal(a, b) => world.network.heal(node(a), node(b)),
                Act::Slow(a, b) => world.network.slow_down(node(a), node(b), MILLI..90 * MILLI),
                Act::Crash(a, silent) => {
                    let seen = world.take_seen(a);
                    prop_assert!(in_order(&seen), "{seen:?}");
                    world.crash(a, silent);
                    world.start(a, &format!("n{a}"));
                    for b in 1..=3 {
                        world.learn(a, b, &format!("n{b}"));
                    }
                }
                Act::Pass(nanos) => world.run(nanos),
            }
        }
        world.network.heal_all();
        world.run(10 * SECOND);
        for a in 1..=3 {
            let seen = world.take_seen(a);
            prop_assert!(in_order(&seen), "{seen:?}");
            for b in (1..=3).filter(|b| *b != a) {
                let is_notice = |seen: &&Seen| matches!(seen, Seen::Connected(peer, _) if *peer == u64::from(b));
                if let Some(last) = seen.iter().rfind(is_notice) {
                    prop_assert_eq!(last, &Seen::Connected(u64::from(b), true));
                }
                world.send(a, b);
            }
        }
        world.run(SECOND);
        for a in 1..=3 {
            prop_assert_eq!(world.take_seen(a).len(), 2);
        }
    }
}

/// Numbers rise with time, so in order means sorted.
fn in_order(seen: &[Seen]) -> bool {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    seen.iter().all(|seen| match seen {
        Seen::Message(from, number) => last.insert(*from, *number).is_none_or(|n| n < *number),
        Seen::Connected(..) => true,
    })
}
