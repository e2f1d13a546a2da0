use super::*;

fn options(nodes: u32) -> Options {
    Options {
        nodes,
        fault_nanos: 6 * SECOND,
        faults: None,
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
