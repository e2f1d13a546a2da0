//! Which operations clients run, and how their answers go into the history.

use super::client::Client;
use super::history::{ACCOUNTS, interval};
use crate::checker::register::{Action, Operation};
use crate::checker::{Outcome, bank, counter, set};

/// Registers: few, so that clients meet.
const REGISTERS: u64 = 4;

impl Client {
    pub(super) async fn operate(&mut self) {
        if self.dice.percent(self.manners.reads_percent) {
            return self.read_register().await;
        }
        match self.dice.below(20) {
            0..3 => self.read_register().await,
            3..5 => self.write_register().await,
            5..8 => self.compare_and_set().await,
            8..11 => self.insert().await,
            11 => self.remove().await,
            12 => self.read_members().await,
            13..15 => self.transfer().await,
            15 => self.read_balances().await,
            16..19 => self.increment().await,
            _ => self.read_counter().await,
        }
    }

    /// Reads all that clients have written, each until it succeeds.
    pub(super) async fn read_everything(&mut self) {
        let reads = REGISTERS + 3;
        for part in 0..reads {
            loop {
                let before = self.progress();
                match part {
                    0 => self.read_members().await,
                    1 => self.read_balances().await,
                    2 => self.read_counter().await,
                    key => self.read_register_of(key - 3).await,
                }
                if self.progress() > before {
                    break;
                }
            }
        }
    }

    fn note_register(&mut self, key: u64, begin: u64, outcome: Outcome, action: Action) {
        if outcome != Outcome::Refused {
            let interval = interval(begin, self.now(), outcome);
            let operation = Operation {
                client: self.id,
                key,
                interval,
                action,
            };
            self.board.lock().history.registers.push(operation);
        }
        self.went(outcome);
    }

    fn went(&self, outcome: Outcome) {
        if outcome == Outcome::Acknowledged {
            self.progressed();
        }
    }

    async fn read_register(&mut self) {
        let key = self.dice.below(REGISTERS);
        self.read_register_of(key).await;
    }

    async fn read_register_of(&mut self, key: u64) {
        let (begin, answer) = self
            .session(move |mut s| Box::pin(async move { s.read_register(key).await }))
            .await;
        self.board.lock().history.outcome(&answer);
        if let Some(Ok(value)) = answer {
            self.note_register(key, begin, Outcome::Acknowledged, Action::Read(value));
        }
    }

    async fn write_register(&mut self) {
        let key = self.dice.below(REGISTERS);
        let value = self.board.lock().next_id();
        let (begin, answer) = self
            .session(move |mut s| Box::pin(async move { s.write_register(key, value).await }))
            .await;
        let outcome = self.board.lock().history.outcome(&answer);
        self.note_register(key, begin, outcome, Action::Write(Some(value)));
    }

    async fn compare_and_set(&mut self) {
        let key = self.dice.below(REGISTERS);
        let to = self.board.lock().next_id();
        // Mostly what somebody has just seen there, so that many succeed.
        let from = self.last_seen(key);
        let (begin, answer) = self
            .session(move |mut s| Box::pin(async move { s.compare_and_set(key, from, to).await }))
            .await;
        let outcome = self.board.lock().history.outcome(&answer);
        let action = Action::CompareAndSet {
            from,
            to: Some(to),
            done: answer
                .and_then(|answer| answer.ok())
                .map(|found| found.done),
        };
        self.note_register(key, begin, outcome, action);
    }

    fn last_seen(&self, key: u64) -> Option<u64> {
        let board = self.board.lock();
        let last = board.history.registers.iter().rfind(|op| op.key == key)?;
        match last.action {
            Action::Read(value) | Action::Write(value) => value,
            Action::CompareAndSet {
                done: Some(false),
                from,
                ..
            } => from,
            Action::CompareAndSet { to, .. } => to,
        }
    }

    async fn insert(&mut self) {
        let member = self.board.lock().next_id();
        let (begin, answer) = self
            .session(move |mut s| Box::pin(async move { s.insert(member).await }))
            .await;
        let now = self.now();
        let mut board = self.board.lock();
        let outcome = board.history.outcome(&answer);
        board.history.set.inserts.push(set::Change {
            member,
            interval: interval(begin, now, outcome),
            outcome,
        });
        drop(board);
        self.went(outcome);
    }

    /// Removes a member that nobody else will remove.
    async fn remove(&mut self) {
        let member = {
            let mut board = self.board.lock();
            let place = self.dice.below(board.history.set.inserts.len() as u64) as usize;
            let insert = board.history.set.inserts.get(place).copied();
            let insert = insert.filter(|insert| insert.outcome == Outcome::Acknowledged);
            insert.filter(|insert| board.removing.insert(insert.member))
        };
        let Some(member) = member.map(|insert| insert.member) else {
            return;
        };
        let (begin, answer) = self
            .session(move |mut s| Box::pin(async move { s.remove(member).await }))
            .await;
        let now = self.now();
        let mut board = self.board.lock();
        let outcome = board.history.outcome(&answer);
        board.history.set.removals.push(set::Change {
            member,
            interval: interval(begin, now, outcome),
            outcome,
        });
        drop(board);
        self.went(outcome);
    }

    async fn read_members(&mut self) {
        let (begin, answer) = self
            .session(|mut s| Box::pin(async move { s.members().await }))
            .await;
        let end = self.now();
        let mut board = self.board.lock();
        let outcome = board.history.outcome(&answer);
        if let Some(Ok(members)) = answer {
            board.history.set.reads.push(set::Read {
                begin,
                end,
                members,
            });
        }
        drop(board);
        self.went(outcome);
    }

    async fn transfer(&mut self) {
        if !self.board.lock().opened {
            return self.open_accounts().await;
        }
        let from = self.dice.below(ACCOUNTS);
        let to = (from + 1 + self.dice.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = self.dice.below(20) as i64;
        let (_, answer) = self
            .session(move |mut s| Box::pin(async move { s.transfer(from, to, amount).await }))
            .await;
        let outcome = self.board.lock().history.outcome(&answer);
        self.went(outcome);
    }

    async fn open_accounts(&mut self) {
        let (_, answer) = self
            .session(|mut s| Box::pin(async move { s.open_accounts().await }))
            .await;
        let mut board = self.board.lock();
        let outcome = board.history.outcome(&answer);
        board.opened |= outcome == Outcome::Acknowledged;
        drop(board);
        self.went(outcome);
    }

    async fn read_balances(&mut self) {
        if !self.board.lock().opened {
            return self.open_accounts().await;
        }
        let (begin, answer) = self
            .session(|mut s| Box::pin(async move { s.balances().await }))
            .await;
        let now = self.now();
        let mut board = self.board.lock();
        let outcome = board.history.outcome(&answer);
        if let Some(Ok(balances)) = answer {
            board.history.snapshots.push(bank::Snapshot {
                interval: interval(begin, now, outcome),
                balances,
            });
        }
        drop(board);
        self.went(outcome);
    }

    async fn increment(&mut self) {
        let (begin, answer) = self
            .session(|mut s| Box::pin(async move { s.increment().await }))
            .await;
        let now = self.now();
        let mut board = self.board.lock();
        let outcome = board.history.outcome(&answer);
        board.history.increments.push(counter::Increment {
            interval: interval(begin, now, outcome),
            outcome,
            value: answer.and_then(|answer| answer.ok()),
        });
        drop(board);
        self.went(outcome);
    }

    async fn read_counter(&mut self) {
        let (begin, answer) = self
            .session(|mut s| Box::pin(async move { s.read_counter().await }))
            .await;
        let end = self.now();
        let mut board = self.board.lock();
        let outcome = board.history.outcome(&answer);
        if let Some(Ok(value)) = answer {
            let read = counter::Read { begin, end, value };
            board.history.counter_reads.push(read);
        }
        drop(board);
        self.went(outcome);
    }
}
