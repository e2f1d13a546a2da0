//! Hands the histories to the simulator's checkers, in their words.

use sim::checker::{
    self, Interval, bank as bank_checker, counter as counter_checker, register as register_checker,
    set as set_checker,
};

use super::history::{Outcome, Record};
use super::run::{Histories, Verdict};
use super::workloads::{ACCOUNTS, Bank, Counter, OPENING_BALANCE, Register, Set};

/// Judges all workloads.
pub fn all(histories: &Histories) -> anyhow::Result<Vec<Verdict>> {
    let found = [
        ("register", register(&histories.register.history.all())),
        ("set", set(&histories.set.history.all())),
        ("bank", bank(&histories.bank.history.all())),
        ("counter", counter(&histories.counter.history.all())),
    ];
    let verdict = |(workload, found): (&'static str, checker::Result)| Verdict {
        workload,
        checked: found
            .map(|checked| checked.to_string())
            .map_err(|broken| broken.to_string()),
    };
    Ok(found.into_iter().map(verdict).collect())
}

/// Operations that surely had no effect and gave no answer say nothing of a register, and are left out.
fn register(records: &[Record<Register>]) -> checker::Result {
    let value = |value: i64| Some(value as u64);
    let operations: Vec<register_checker::Operation> = records
        .iter()
        .filter(|record| record.outcome != Outcome::Failed)
        .map(|record| register_checker::Operation {
            client: record.process.into(),
            key: record.operation.key() as u64,
            interval: interval(record),
            action: match &record.operation {
                Register::Read { seen, .. } => register_checker::Action::Read(seen.and_then(value)),
                Register::Write { value: to, .. } => register_checker::Action::Write(value(*to)),
                Register::CompareAndSet { from, to, done, .. } => {
                    register_checker::Action::CompareAndSet {
                        from: value(*from),
                        to: value(*to),
                        done: *done,
                    }
                }
            },
        })
        .collect();
    register_checker::check(&operations, register_checker::Limits::default())
}

fn set(records: &[Record<Set>]) -> checker::Result {
    let mut history = set_checker::History::default();
    for record in records {
        match (&record.operation, record.end) {
            (Set::Insert(id), _) => history.inserts.push(set_checker::Change {
                member: *id as u64,
                interval: interval(record),
                outcome: outcome(record.outcome),
            }),
            (Set::Read(ids), Some(end)) if record.outcome == Outcome::Done => {
                history.reads.push(set_checker::Read {
                    begin: record.begin,
                    end,
                    members: ids.iter().map(|id| *id as u64).collect(),
                });
            }
            (Set::Read(_), _) => {}
        }
    }
    set_checker::check(&history)
}

fn bank(records: &[Record<Bank>]) -> checker::Result {
    let snapshots: Vec<bank_checker::Snapshot> = records
        .iter()
        .filter(|record| record.outcome == Outcome::Done)
        .filter_map(|record| match &record.operation {
            Bank::Read(balances) => Some(bank_checker::Snapshot {
                interval: interval(record),
                balances: balances
                    .iter()
                    .map(|(account, balance)| (*account as u64, *balance))
                    .collect(),
            }),
            Bank::Transfer { .. } => None,
        })
        .collect();
    let rules = bank_checker::Bank {
        accounts: ACCOUNTS as u64,
        sum: ACCOUNTS * OPENING_BALANCE,
        overdraft: false,
    };
    bank_checker::check(rules, &snapshots)
}

fn counter(records: &[Record<Counter>]) -> checker::Result {
    let (mut increments, mut reads) = (Vec::new(), Vec::new());
    for record in records {
        let done = record.outcome == Outcome::Done;
        match (&record.operation, record.end) {
            (Counter::Add { seen }, _) => increments.push(counter_checker::Increment {
                interval: interval(record),
                outcome: outcome(record.outcome),
                value: done.then_some(*seen as u64),
            }),
            (Counter::Read { seen }, Some(end)) if done => reads.push(counter_checker::Read {
                begin: record.begin,
                end,
                value: *seen as u64,
            }),
            (Counter::Read { .. }, _) => {}
        }
    }
    counter_checker::check(&increments, &reads)
}

fn interval<T>(record: &Record<T>) -> Interval {
    Interval {
        begin: record.begin,
        end: record.end,
    }
}

fn outcome(outcome: Outcome) -> checker::Outcome {
    match outcome {
        Outcome::Done => checker::Outcome::Acknowledged,
        Outcome::Failed => checker::Outcome::Refused,
        Outcome::Unknown => checker::Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done<T>(begin: u64, end: u64, operation: T) -> Record<T> {
        Record {
            process: 1,
            begin,
            end: Some(end),
            operation,
            outcome: Outcome::Done,
        }
    }

    fn unknown<T>(begin: u64, operation: T) -> Record<T> {
        Record {
            end: None,
            outcome: Outcome::Unknown,
            ..done(begin, begin, operation)
        }
    }

    #[test]
    fn a_lost_write_is_found_and_one_in_doubt_is_not_missed() {
        let read = |seen| Register::Read { key: 1, seen };
        let write = |value| Register::Write { key: 1, value };
        let history = [done(0, 10, write(1)), done(20, 30, read(Some(1)))];
        assert!(register(&history).is_ok());
        let history = [done(0, 10, write(1)), done(20, 30, read(None))];
        assert!(register(&history).is_err());
        let history = [
            unknown(0, write(1)),
            done(20, 30, read(None)),
            done(40, 50, read(Some(1))),
        ];
        assert!(register(&history).is_ok(), "it may come late");
        let missed = Register::CompareAndSet {
            key: 1,
            from: 1,
            to: 2,
            done: Some(false),
        };
        let history = [done(0, 10, write(1)), done(20, 30, missed)];
        assert!(register(&history).is_err(), "the condition held");
    }

    #[test]
    fn a_lost_and_a_risen_member_are_found() {
        let failed = Record {
            outcome: Outcome::Failed,
            ..done(0, 5, Set::Insert(2))
        };
        let with = |ids: Vec<i64>| {
            set(&[
                done(0, 5, Set::Insert(1)),
                failed.clone(),
                unknown(0, Set::Insert(3)),
                done(9, 10, Set::Read(ids)),
            ])
        };
        assert!(with(vec![1]).is_ok());
        assert!(with(vec![1, 3]).is_ok());
        assert!(with(vec![]).is_err());
        assert!(with(vec![1, 2]).is_err());
    }

    #[test]
    fn money_that_vanishes_is_found() {
        let whole: Vec<(i64, i64)> = (0..ACCOUNTS).map(|i| (i, OPENING_BALANCE)).collect();
        assert!(bank(&[done(0, 5, Bank::Read(whole.clone()))]).is_ok());
        let mut torn = whole;
        torn[3].1 -= 1;
        assert!(bank(&[done(0, 5, Bank::Read(torn))]).is_err());
    }

    #[test]
    fn a_value_counted_twice_is_found() {
        let add = |begin, seen| done(begin, begin + 5, Counter::Add { seen });
        assert!(
            counter(&[
                add(0, 1),
                add(10, 2),
                done(20, 25, Counter::Read { seen: 2 })
            ])
            .is_ok()
        );
        assert!(counter(&[add(0, 1), add(10, 1)]).is_err());
        assert!(counter(&[add(0, 1), done(20, 25, Counter::Read { seen: -1 })]).is_err());
    }
}
