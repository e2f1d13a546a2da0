//! Makes a history that is not linearizable small, so that what is left still shows the fault of the whole.
//!
//! Three cuts keep that: what has not begun by some moment cannot matter if the history up to there fails
//! already (an operation that runs at that moment is then of unknown outcome); a read only asks, so a history
//! that fails without it fails with it; and a change whose value nobody that is left depends on can be thought
//! away, unless a compare-and-set is left that was refused, perhaps because of it.

use super::{Action, Limits, Operation, Verdict, search};

/// Searches that shrinking may take: a bound on time, not on the result's truth.
const ATTEMPTS: usize = 2_000;

pub(super) fn shrink(operations: Vec<Operation>, limits: Limits) -> Vec<Operation> {
    let fails = |operations: &[Operation]| {
        matches!(search::search(operations, limits), Verdict::NotLinearizable)
    };
    let mut rest = shortest_prefix(operations, &fails);
    let mut attempts = 0;
    loop {
        let before = rest.len();
        // From the front: old operations are the likeliest to be irrelevant.
        let mut place = 0;
        while place < rest.len() && attempts < ATTEMPTS {
            let mut fewer = rest.clone();
            let removed = fewer.remove(place);
            if search::may_go(&removed, fewer.iter().copied()) {
                attempts += 1;
                if fails(&fewer) {
                    rest = fewer;
                    continue;
                }
            }
            place += 1;
        }
        if rest.len() == before || attempts >= ATTEMPTS {
            return rest;
        }
    }
}

fn shortest_prefix(
    operations: Vec<Operation>,
    fails: &impl Fn(&[Operation]) -> bool,
) -> Vec<Operation> {
    let mut ends: Vec<u64> = operations.iter().filter_map(|op| op.interval.end).collect();
    ends.sort_unstable();
    // A prefix of a linearizable history is linearizable, so the shortest failing one can be bisected.
    let shortest = ends.partition_point(|end| !fails(&until(&operations, *end)));
    match ends.get(shortest) {
        Some(end) => until(&operations, *end),
        None => operations,
    }
}

/// What was known at that moment.
fn until(operations: &[Operation], moment: u64) -> Vec<Operation> {
    let begun = operations.iter().filter(|op| op.interval.begin <= moment);
    let known = begun.map(|op| match op.interval.end {
        Some(end) if end > moment => open(*op),
        _ => *op,
    });
    known.collect()
}

fn open(mut operation: Operation) -> Operation {
    operation.interval.end = None;
    if let Action::CompareAndSet { done, .. } = &mut operation.action {
        *done = None;
    }
    operation
}
