use super::*;

fn options(nodes: u32) -> Options {
    Options {
        nodes,
        fault_nanos: 6 * SECOND,
        ..Options::default()
    }
}

/// Runs seeds; returns how many operations were acknowledged.
fn survive(seeds: std::ops::Range<u64>, nodes: u32) -> u64 {
    let runs = seeds.map(|seed| match run(seed, &options(nodes)) {
        Ok(report) => report.acknowledged,
        Err(violation) => panic!("{violation}"),
    });
    runs.sum()
}

#[test]
fn one_node_survives_what_can_happen_to_it() {
    let acknowledged = survive(0..20, 1);
    // The world is not empty.
    assert!(acknowledged > 1000, "{acknowledged}");
}

#[test]
fn three_nodes_survive_what_can_happen_to_them() {
    let acknowledged = survive(0..10, 3);
    assert!(acknowledged > 500, "{acknowledged}");
}

#[test]
fn five_nodes_survive_what_can_happen_to_them() {
    let acknowledged = survive(0..3, 5);
    assert!(acknowledged > 100, "{acknowledged}");
}

#[test]
fn one_seed_is_one_trace() {
    for seed in [1, 77] {
        assert_eq!(run(seed, &options(3)), run(seed, &options(3)));
    }
}

/// What the world is worth: it finds what it is there for.
#[test]
fn bugs_that_are_put_in_are_found() {
    for bug in [Bug::SkipSync, Bug::SkipOffset] {
        let found = prove(bug, 1..100, &Options::default());
        assert!(found.is_some(), "{bug:?} is not found");
    }
}

/// One node after the other hears late of what the others write, and goes on answering by itself meanwhile. Among all
/// faults that happens seldom.
#[test]
fn commits_that_do_not_wait_for_readers_are_found() {
    let late = |to: u32, at: u64| {
        let others = (1..=3).filter(move |from| *from != to);
        others.map(move |from| {
            let slow = Fault::Slow {
                from: NodeId(from),
                to: NodeId(to),
                latency_nanos: 250 * MILLI,
                nanos: 2 * SECOND,
            };
            (at * SECOND, slow)
        })
    };
    let faults = (0..6).flat_map(|turn| late(1 + turn % 3, u64::from(turn) * 2));
    let options = Options {
        faults: Some(faults.collect()),
        ..Options::default()
    };
    let found = prove(Bug::SkipReaders, 1..100, &options);
    let found = found.expect("a read that is too old");
    assert!(found.what.contains("linearizability"), "{found}");
    if let Err(violation) = run(found.seed, &options) {
        panic!("{violation}");
    }
}

/// A replica that was full for a while must be sent what it lacks, however busy its leader is.
#[test]
fn whoever_was_full_catches_up() {
    for (seed, node, at, nanos) in [
        (0, 2, 9130 * MILLI, 2706 * MILLI),
        (0, 2, 2831 * MILLI, 2878 * MILLI),
        (9, 3, 5032 * MILLI, 1932 * MILLI),
        (18, 2, 9405 * MILLI, 9460 * MILLI),
    ] {
        let full = Fault::Full {
            node: NodeId(node),
            nanos,
        };
        let options = Options {
            faults: Some(vec![(at, full)]),
            ..Options::default()
        };
        if let Err(violation) = run(seed, &options) {
            panic!("{violation}");
        }
    }
}

/// Two copies of a shard at once, a plan that was out of date, leaders that left, followers that waited for them or
/// for more to be committed, and what was told to a store while its disk was full: each was found by one of these.
#[test]
fn seeds_that_once_failed_do_not() {
    for seed in [7129, 2265, 1946, 1389, 1016, 13402] {
        if let Err(violation) = run(seed, &Options::default()) {
            panic!("{violation}");
        }
    }
}

fn away(node: u32, at_millis: u64, millis: u64) -> (u64, Fault) {
    let fault = Fault::Crash {
        node: NodeId(node),
        machine: false,
        away_nanos: millis * MILLI,
        moves: true,
    };
    (at_millis * MILLI, fault)
}

/// Nodes find each other again wherever they come back: by who still knows them, and by the addresses at which
/// they were told to look.
#[test]
fn whoever_moves_is_found() {
    let two_after_each_other = vec![away(1, 2000, 4000), away(2, 2500, 1000)];
    let two_apart = vec![away(1, 2000, 1000), away(3, 4000, 1000)];
    let all_at_once = vec![away(1, 2000, 500), away(2, 2000, 900), away(3, 2000, 1500)];
    for faults in [two_after_each_other, two_apart, all_at_once] {
        for seed in 0..4 {
            let options = Options {
                faults: Some(faults.clone()),
                ..options(3)
            };
            if let Err(violation) = run(seed, &options) {
                panic!("{violation}");
            }
        }
    }
}

/// A leader that dies in a sync may have sent its followers entries that its own disk has lost. It cannot be
/// elected again then; they must be free to stand, although its store is back before they withdraw support.
#[test]
fn a_leader_that_lost_its_last_entries_is_replaced() {
    let clock = |node, error_micros| Fault::Clock {
        node: NodeId(node),
        error_micros,
        drift_ppm: 0,
    };
    for seed in 0..30 {
        let crash = Fault::CrashAtWrite {
            node: NodeId(1),
            write: seed % 6,
            carried_out: false,
            away_nanos: 50 * MILLI,
        };
        let faults = [
            (1000, clock(1, 150_000)),
            (1000, clock(2, -150_000)),
            (1000, clock(3, -150_000)),
            (2000, crash),
        ];
        let faults = faults.map(|(at, fault)| (at * MILLI, fault));
        let options = Options {
            faults: Some(faults.into()),
            fault_nanos: 3 * SECOND,
            ..options(3)
        };
        if let Err(violation) = run(seed, &options) {
            panic!("{violation}");
        }
    }
}

/// While one store is lost, a replica moves off another one to even the load out, and that one is gone at once: the
/// shard must do with the two that stay.
#[test]
fn a_shard_that_is_moved_while_a_disk_is_lost_stays_whole() {
    let faults = vec![
        (
            589 * MILLI,
            Fault::Split {
                node: NodeId(3),
                at: "counter".to_owned(),
            },
        ),
        (
            1368 * MILLI,
            Fault::LoseDisk {
                node: NodeId(3),
                away_nanos: 1053 * MILLI,
            },
        ),
    ];
    for seed in 0..10 {
        let options = Options {
            faults: Some(faults.clone()),
            fault_nanos: 5 * SECOND,
            ..options(3)
        };
        if let Err(violation) = run(seed, &options) {
            panic!("{violation}");
        }
    }
}

/// A shard of one voter and a learner is split: the first messages to the right shard's learner come before it is
/// born, and are lost. They must come again although nothing else happens to that shard.
#[test]
fn a_shard_that_is_split_while_the_cluster_is_made_gets_all_its_replicas() {
    let split = |at| Fault::Split {
        node: NodeId(3),
        at: String::from(at),
    };
    for seed in [115, 164] {
        for at in 195..210 {
            let options = Options {
                faults: Some(vec![(at * MILLI, split("register/"))]),
                fault_nanos: SECOND,
                ..options(3)
            };
            if let Err(violation) = run(seed, &options) {
                panic!("{violation}");
            }
        }
    }
}
