use super::*;
use proptest::prelude::*;

const KEY: u64 = 7;

fn op(client: u64, begin: u64, end: impl Into<Option<u64>>, action: Action) -> Operation {
    Operation {
        client,
        key: KEY,
        interval: Interval {
            begin,
            end: end.into(),
        },
        action,
    }
}

fn read(value: impl Into<Value>) -> Action {
    Action::Read(value.into())
}

fn write(value: u64) -> Action {
    Action::Write(Some(value))
}

fn set(from: impl Into<Value>, to: u64, done: impl Into<Option<bool>>) -> Action {
    Action::CompareAndSet {
        from: from.into(),
        to: Some(to),
        done: done.into(),
    }
}

fn holds(history: &[Operation]) -> bool {
    match check(history, Limits::default()) {
        Ok(checked) => {
            assert_eq!(checked.count("keys undecided"), 0);
            true
        }
        Err(_) => false,
    }
}

#[test]
fn sound_histories_pass() {
    assert!(holds(&[]));
    // Overlapping operations may stand in either order.
    assert!(holds(&[
        op(1, 0, 10, write(1)),
        op(2, 5, 15, write(2)),
        op(3, 20, 30, read(1)),
        op(3, 40, 50, read(1)),
    ]));
    // An unknown write may come late, or never.
    let lost = op(1, 0, None, write(1));
    assert!(holds(&[lost, op(2, 10, 20, read(None))]));
    assert!(holds(&[
        lost,
        op(2, 10, 20, read(None)),
        op(2, 30, 40, read(1))
    ]));
    assert!(holds(&[
        op(1, 0, 10, set(None, 1, true)),
        op(2, 20, 30, set(None, 2, false)),
        op(2, 40, 50, set(1, 2, None)),
        op(3, 60, 70, read(2)),
    ]));
}

#[test]
fn broken_histories_do_not() {
    // A stale read.
    assert!(!holds(&[op(1, 0, 10, write(1)), op(2, 20, 30, read(None))]));
    // What was seen goes away.
    assert!(!holds(&[
        op(1, 0, None, write(1)),
        op(2, 10, 20, read(1)),
        op(3, 30, 40, read(None)),
    ]));
    // Two of two compare-and-sets on one value win.
    assert!(!holds(&[
        op(1, 0, 10, set(None, 1, true)),
        op(2, 5, 15, set(None, 2, true)),
    ]));
    // A read from the future, and one of what nobody wrote.
    assert!(!holds(&[op(1, 0, 10, read(1)), op(2, 20, 30, write(1))]));
    assert!(!holds(&[op(1, 0, 10, read(9))]));
    // A refused one that must have been done.
    assert!(!holds(&[
        op(1, 0, 10, write(1)),
        op(2, 20, 30, set(1, 2, false)),
    ]));
}

#[test]
fn a_fault_is_shown_with_the_fewest_operations() {
    let mut history = Vec::new();
    for round in 0..200 {
        let at = round * 100;
        history.push(op(1, at, at + 40, write(round)));
        history.push(op(2, at + 20, at + 60, set(round + 5000, 1, None)));
        history.push(op(3, at + 70, at + 90, read(round)));
    }
    // A read that goes back to an older value, in the middle.
    history.push(op(4, 10_091, 10_095, read(98)));
    let broken = check(&history, Limits::default()).unwrap_err();
    let shown: Vec<&str> = broken.explanation.lines().skip(1).map(str::trim).collect();
    assert_eq!(
        shown,
        [
            "client 1 [0.010 to 0.010 ms] wrote 98",
            "client 1 [0.010 to 0.010 ms] wrote 100",
            "client 4 [0.010 to 0.010 ms] read 98"
        ],
        "{broken}"
    );
}

#[test]
fn keys_are_apart_and_the_search_is_bounded() {
    let mut other = op(1, 0, 10, write(1));
    other.key = 8;
    assert!(holds(&[other, op(2, 20, 30, read(None))]));
    // A hundred unknown writes that a refused one keeps in play, and a read of what nobody wrote.
    let mut history: Vec<Operation> = (0..100).map(|n| op(n, n, None, write(n))).collect();
    history.push(op(1, 200, 300, set(1000, 1, false)));
    history.push(op(1, 400, 500, read(1000)));
    let checked = check(&history, Limits { states: 1000 }).unwrap();
    assert_eq!(checked.count("keys undecided"), 1);
}

#[test]
fn long_histories_are_quick() {
    let mut history = Vec::new();
    for round in 0..5000 {
        for client in 0..8 {
            let at = round * 100 + client;
            let value = round * 8 + client;
            history.push(op(client, at, at + 90, write(value)));
        }
        history.push(op(
            9,
            round * 100 + 95,
            round * 100 + 99,
            read(round * 8 + 3),
        ));
    }
    assert!(holds(&history));
}

/// All orders of all subsets that hold the known operations.
fn brute_force(history: &[Operation]) -> bool {
    fn go(left: &mut Vec<Operation>, value: Value) -> bool {
        if left.iter().all(|op| op.interval.end.is_none()) {
            return true;
        }
        for place in 0..left.len() {
            let next = left[place];
            if left.iter().any(|op| op.interval.is_before(&next.interval)) {
                continue;
            }
            if let Some(after) = next.apply(value) {
                left.remove(place);
                let found = go(left, after);
                left.insert(place, next);
                if found {
                    return true;
                }
            }
        }
        false
    }
    go(&mut history.to_vec(), None)
}

fn action() -> impl Strategy<Value = Action> {
    let value = || proptest::option::weighted(0.8, 1..3u64);
    prop_oneof![
        3 => value().prop_map(Action::Read),
        2 => value().prop_map(Action::Write),
        2 => (value(), value(), proptest::option::of(any::<bool>()))
            .prop_map(|(from, to, done)| Action::CompareAndSet { from, to, done }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let interval = (0..20u64, proptest::option::weighted(0.8, 0..12u64));
    (0..3u64, interval, action()).prop_map(|(client, (begin, length), mut action)| {
        if let (None, Action::CompareAndSet { done, .. }) = (length, &mut action) {
            *done = None;
        }
        op(client, begin, length.map(|length| begin + length), action)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_search_agrees_with_brute_force(
        history in proptest::collection::vec(operation(), 0..7)
    ) {
        let truth = brute_force(&history);
        prop_assert_eq!(holds(&history), truth);
        if !truth {
            let fewest = shrink::shrink(history.clone(), Limits::default());
            prop_assert!(!brute_force(&fewest), "{:?}", fewest);
        }
    }
}
