//! Stores on a bad network, with clocks that differ, disks that lag and processes that die.

use super::record::Record;
use super::{Kind, Liveness, Message, Options, Spell, Support};
use proptest::prelude::*;
use std::collections::BTreeMap;
use types::{StoreId, Timestamp};

/// Bound on how far two clocks may be apart, in milliseconds.
const CLOCK_BOUND_MILLIS: u64 = 80;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn options() -> Options {
    Options {
        support_millis: 400,
        heartbeat_millis: 100,
        grace_millis: 200,
        offset_millis: CLOCK_BOUND_MILLIS,
    }
}

/// One store's life, with the disk beside it.
struct Host {
    id: StoreId,
    skew_millis: u64,
    disk: Record,
    liveness: Option<Liveness>,
    /// How often it was started.
    lives: u64,
    /// How often it withdrew its support of each.
    withdrawals: BTreeMap<StoreId, u64>,
}

impl Host {
    fn clock(&self, now_millis: u64) -> Timestamp {
        at(now_millis + self.skew_millis)
    }

    fn start(&mut self, now_millis: u64, peers: u64) {
        let now = self.clock(now_millis);
        if now <= self.disk.clock_floor() {
            return;
        }
        let mut liveness = Liveness::new(self.id, self.disk.clone(), options(), now);
        (0..peers).for_each(|peer| liveness.ask(StoreId(peer)));
        self.liveness = Some(liveness);
        self.lives += 1;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Tick(u64),
    /// Delivers, drops or repeats a message in flight.
    Deliver(usize),
    Drop(usize),
    Repeat(usize),
    /// The disk of the store fails under its next record: it dies with what it had.
    Kill(u64),
    Start(u64),
}

const STORES: u64 = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..120).prop_map(Step::Pass),
        6 => (0..STORES).prop_map(Step::Tick),
        8 => any::<usize>().prop_map(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Repeat),
        1 => (0..STORES).prop_map(Step::Kill),
        2 => (0..STORES).prop_map(Step::Start),
    ]
}

/// A promise that a requester relies on is one that its supporter keeps, also on its disk.
fn check(
    hosts: &[Host],
    now_millis: u64,
    spells: &mut BTreeMap<(StoreId, u64, StoreId, Spell), u64>,
) {
    for requester in hosts {
        let Some(asking) = &requester.liveness else {
            continue;
        };
        for supporter in hosts.iter().filter(|other| other.id != requester.id) {
            let Some(expiry) = asking.supported_by(supporter.id) else {
                continue;
            };
            let usable_until = expiry.minus_millis(CLOCK_BOUND_MILLIS);
            if requester.clock(now_millis) >= usable_until {
                continue;
            }
            let kept = supporter.disk.given.get(&requester.id).copied();
            let kept = kept.unwrap_or_default();
            assert!(kept.epoch <= asking.epoch(), "{:?} withdrew", supporter.id);
            // In one spell of support its supporter has withdrawn nothing.
            let spell = (
                requester.id,
                requester.lives,
                supporter.id,
                asking.spell(supporter.id),
            );
            let withdrawals = supporter
                .withdrawals
                .get(&requester.id)
                .copied()
                .unwrap_or(0);
            let before = *spells.entry(spell).or_insert(withdrawals);
            assert_eq!(before, withdrawals, "{spell:?} was interrupted");
            assert!(kept.expiry >= expiry, "{:?} forgot", supporter.id);
            if let Some(living) = &supporter.liveness {
                assert_eq!(living.supports(requester.id), Some(kept));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn promises_are_kept(
        skews in proptest::collection::vec(0..CLOCK_BOUND_MILLIS, STORES as usize),
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let mut now_millis = 1_000;
        let mut hosts: Vec<Host> = (0..STORES)
            .zip(skews)
            .map(|(id, skew_millis)| Host {
                id: StoreId(id),
                skew_millis,
                disk: Record::default(),
                liveness: None,
                lives: 0,
                withdrawals: BTreeMap::new(),
            })
            .collect();
        hosts.iter_mut().for_each(|host| host.start(now_millis, STORES));
        let mut spells = BTreeMap::new();
        let mut flying: Vec<Message> = Vec::new();
        for step in steps {
            let host = |id: u64| id as usize;
            let mut work: Option<(usize, Option<Message>)> = None;
            match step {
                Step::Pass(millis) => now_millis += millis,
                Step::Tick(id) => work = Some((host(id), None)),
                Step::Deliver(_) | Step::Drop(_) | Step::Repeat(_) if flying.is_empty() => {}
                Step::Deliver(index) => {
                    let message = flying.swap_remove(index % flying.len());
                    work = Some((message.to.0 as usize, Some(message)));
                }
                Step::Drop(index) => {
                    flying.swap_remove(index % flying.len());
                }
                Step::Repeat(index) => flying.push(flying[index % flying.len()]),
                Step::Kill(id) => hosts[host(id)].liveness = None,
                Step::Start(id) => {
                    let host = &mut hosts[host(id)];
                    if host.liveness.is_none() {
                        host.start(now_millis, STORES);
                    }
                }
            }
            if let Some((index, message)) = work {
                let host = &mut hosts[index];
                let clock = host.clock(now_millis);
                if let Some(liveness) = &mut host.liveness {
                    let effects = match message {
                        Some(message) => liveness.step(clock, [message]),
                        None => liveness.tick(clock),
                    };
                    if let Some(record) = effects.record {
                        for (store, given) in &record.given {
                            let before = host.disk.given.get(store).copied().unwrap_or_default();
                            if given.expiry == Timestamp::ZERO && before.expiry > Timestamp::ZERO {
                                *host.withdrawals.entry(*store).or_default() += 1;
                            }
                        }
                        host.disk = record.clone();
                        liveness.persisted(record);
                    }
                    flying.extend(effects.messages);
                }
            }
            check(&hosts, now_millis, &mut spells);
        }
    }
}

/// Two stores with perfect clocks; every message arrives unless `cut`.
struct Pair {
    lives: BTreeMap<StoreId, Liveness>,
    millis: u64,
    cut: bool,
}

const A: StoreId = StoreId(1);
const B: StoreId = StoreId(2);

impl Pair {
    fn new() -> Self {
        let mut lives = BTreeMap::new();
        for (id, peer) in [(A, B), (B, A)] {
            let mut liveness = Liveness::new(id, Record::default(), options(), at(1000));
            liveness.ask(peer);
            lives.insert(id, liveness);
        }
        Pair {
            lives,
            millis: 1000,
            cut: false,
        }
    }

    fn run_until(&mut self, millis: u64) {
        while self.millis < millis {
            let mut sent = Vec::new();
            for life in self.lives.values_mut() {
                let effects = life.tick(at(self.millis));
                effects.record.into_iter().for_each(|r| life.persisted(r));
                sent.extend(effects.messages);
            }
            while let Some(message) = sent.pop().filter(|_| !self.cut) {
                let life = self.lives.get_mut(&message.to).expect("a store");
                let effects = life.step(at(self.millis), [message]);
                effects.record.into_iter().for_each(|r| life.persisted(r));
                sent.extend(effects.messages);
            }
            self.millis += 10;
        }
    }
}

#[test]
fn support_lasts_while_heartbeats_pass_and_ends_soon_after_a_cut() {
    let mut pair = Pair::new();
    pair.run_until(3000);
    assert_eq!(pair.lives[&A].epoch().0, 1);
    let until = pair.lives[&A].supported_by(B).expect("supported");
    assert!(until > at(3200), "{until}");
    assert!(pair.lives[&B].supports(A).is_some());

    pair.cut = true;
    pair.run_until(until.millis() + 20);
    assert_eq!(pair.lives[&B].supports(A), None);

    // What A knows of it has run out, too; it learns of the new epoch when the cut is mended.
    pair.cut = false;
    pair.run_until(until.millis() + 300);
    assert_eq!(pair.lives[&A].epoch().0, 2);
    assert!(pair.lives[&A].supported_by(B).expect("again") > at(pair.millis));
}

#[test]
fn nobody_is_supported_by_a_record_that_is_not_durable() {
    let mut life = Liveness::new(A, Record::default(), options(), at(1000));
    let heartbeat = Message {
        from: B,
        to: A,
        kind: Kind::Heartbeat,
        support: Support {
            epoch: super::Epoch(1),
            expiry: at(1400),
        },
    };
    let effects = life.step(at(1000), [heartbeat]);
    assert_eq!(life.supports(B), None);
    life.persisted(effects.record.expect("a promise is written"));
    assert_eq!(life.supports(B), Some(heartbeat.support));
}

#[test]
fn a_majority_is_what_is_promised_by_more_than_half() {
    let mut life = Liveness::new(A, Record::default(), options(), at(1000));
    let voters = [A, B, StoreId(3)];
    voters.iter().for_each(|peer| life.ask(*peer));
    assert_eq!(life.supported_by_majority(&voters, voters.len()), None);
    let effects = life.tick(at(1000));
    life.persisted(effects.record.expect("a request is written"));
    assert_eq!(life.supported_by_majority(&voters, voters.len()), None);
    let promise = Message {
        from: B,
        to: A,
        kind: Kind::Reply,
        support: Support {
            epoch: life.epoch(),
            expiry: at(1350),
        },
    };
    life.step(at(1000), [promise]);
    assert_eq!(
        life.supported_by_majority(&voters, voters.len()),
        Some(at(1350))
    );
    assert_eq!(life.supported_by_majority(&[A], 1), Some(at(1400)));
}
