//! The search for an order.
//!
//! Three things keep it short on the histories of real clusters. A read that can be next is placed at once:
//! it changes nothing, so nothing can need it to come later. Changes that some operation depends on are tried
//! after those that leave no trace. And a change of unknown outcome that no operation depends on is left out.

use super::{Action, Limits, Operation, Value, Verdict};
use std::collections::BTreeSet;

/// A state of the search. Of the operations of known outcome, all before `first_open` have their place;
/// of those behind it only some can, since each must overlap with the first one that is left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    first_open: usize,
    window: Box<[u64]>,
    unknown: Box<[u64]>,
    value: Value,
}

/// A choice that was made.
struct Choice {
    operation: usize,
    before: Value,
    /// Where it stood among the candidates; `None`: there was no choice.
    rank: Option<usize>,
}

/// Orders the operations of one register, which holds nothing at first.
pub(super) fn search(operations: &[Operation], limits: Limits) -> Verdict {
    let mut search = Search::new(operations);
    // Where to look for the next choice: after a step back, behind the one that was undone.
    let mut from = 0;
    loop {
        if search.known_left == 0 {
            return Verdict::Linearizable;
        }
        if search.choose(from) {
            from = 0;
            if search.visited.len() > limits.states {
                return Verdict::Undecided;
            }
        } else {
            match search.undo() {
                Some(rank) => from = rank + 1,
                None => return Verdict::NotLinearizable,
            }
        }
    }
}

/// Whether the history without `removed` is linearizable if it is so with it.
pub(super) fn may_go(removed: &Operation, others: impl IntoIterator<Item = Operation>) -> bool {
    let written = match removed.action {
        Action::Read(_) => return true,
        Action::Write(to) => to,
        Action::CompareAndSet {
            done: Some(false), ..
        } => return true,
        Action::CompareAndSet { to, .. } => to,
    };
    let mut others = others.into_iter();
    others.all(|op| !depends_on(&op, written) && !may_be_refused_for(&op))
}

fn depends_on(operation: &Operation, written: Value) -> bool {
    match operation.action {
        Action::Read(seen) => operation.is_known() && seen == written,
        Action::Write(_) => false,
        Action::CompareAndSet { from, .. } => from == written,
    }
}

fn may_be_refused_for(operation: &Operation) -> bool {
    matches!(
        operation.action,
        Action::CompareAndSet {
            done: Some(false),
            ..
        }
    )
}

struct Search {
    /// Those of known outcome by begin, then the others.
    operations: Vec<Operation>,
    known: usize,
    /// Whether another operation depends on what this one writes.
    matters: Vec<bool>,
    placed: Vec<bool>,
    known_left: usize,
    /// All known ones before it are placed.
    first_open: usize,
    value: Value,
    choices: Vec<Choice>,
    visited: BTreeSet<State>,
}

impl Search {
    fn new(history: &[Operation]) -> Search {
        let mut operations: Vec<Operation> = history.to_vec();
        operations.retain(|op| op.is_known() || !matches!(op.action, Action::Read(_)));
        operations.sort_by_key(|op| (!op.is_known(), op.interval.begin));
        let refusals = operations.iter().any(may_be_refused_for);
        let read: BTreeSet<Value> = operations.iter().filter_map(needed).collect();
        let matters = |op: &Operation| written(op).is_some_and(|value| read.contains(&value));
        operations.retain(|op| op.is_known() || refusals || matters(op));
        let known = operations.iter().filter(|op| op.is_known()).count();
        Search {
            known,
            matters: operations.iter().map(matters).collect(),
            placed: vec![false; operations.len()],
            known_left: known,
            first_open: 0,
            value: None,
            choices: Vec::new(),
            visited: BTreeSet::new(),
            operations,
        }
    }

    /// Operations that can be next, as no other one that is left ended before they began.
    fn candidates(&self) -> Vec<usize> {
        let mut earliest_end = u64::MAX;
        let mut candidates = Vec::new();
        for place in self.first_open..self.known {
            let interval = self.operations[place].interval;
            if interval.begin > earliest_end {
                break;
            }
            if !self.placed[place] {
                earliest_end = earliest_end.min(interval.end.unwrap_or(u64::MAX));
                candidates.push(place);
            }
        }
        let unknown = self.known..self.operations.len();
        candidates.extend(unknown.filter(|place| {
            !self.placed[*place] && self.operations[*place].interval.begin <= earliest_end
        }));
        candidates
    }

    /// Places an operation if one can be next and leads to a new state.
    fn choose(&mut self, from: usize) -> bool {
        let mut candidates = self.candidates();
        let fits = |place: &usize| self.operations[*place].apply(self.value).is_some();
        if from == 0 {
            let is_read =
                |place: &&usize| matches!(self.operations[**place].action, Action::Read(_));
            let read = candidates.iter().filter(is_read).find(|place| fits(place));
            if let Some(read) = read.copied() {
                return self.place(read, self.value, None);
            }
        }
        candidates.sort_by_key(|place| (*place >= self.known, self.matters[*place]));
        for (rank, place) in candidates.into_iter().enumerate().skip(from) {
            if let Some(after) = self.operations[place].apply(self.value)
                && self.place(place, after, Some(rank))
            {
                return true;
            }
        }
        false
    }

    fn place(&mut self, operation: usize, after: Value, rank: Option<usize>) -> bool {
        let before = self.value;
        self.placed[operation] = true;
        self.value = after;
        self.known_left -= usize::from(operation < self.known);
        self.choices.push(Choice {
            operation,
            before,
            rank,
        });
        while self.first_open < self.known && self.placed[self.first_open] {
            self.first_open += 1;
        }
        if self.visited.insert(self.state()) {
            return true;
        }
        self.take_back();
        false
    }

    fn take_back(&mut self) -> Option<Choice> {
        let choice = self.choices.pop()?;
        self.placed[choice.operation] = false;
        self.value = choice.before;
        if choice.operation < self.known {
            self.known_left += 1;
            self.first_open = self.first_open.min(choice.operation);
        }
        Some(choice)
    }

    /// Goes back to the last real choice. Returns its rank.
    fn undo(&mut self) -> Option<usize> {
        loop {
            if let Some(rank) = self.take_back()?.rank {
                return Some(rank);
            }
        }
    }

    fn state(&self) -> State {
        let left = self.operations[..self.known].get(self.first_open);
        let limit = left.and_then(|op| op.interval.end).unwrap_or(0);
        let behind = (self.first_open..self.known)
            .take_while(|place| self.operations[*place].interval.begin <= limit);
        State {
            first_open: self.first_open,
            window: bits(behind.map(|place| self.placed[place])),
            unknown: bits(self.placed[self.known..].iter().copied()),
            value: self.value,
        }
    }
}

fn written(operation: &Operation) -> Option<Value> {
    match operation.action {
        Action::Read(_) => None,
        Action::Write(to) | Action::CompareAndSet { to, .. } => Some(to),
    }
}

fn needed(operation: &Operation) -> Option<Value> {
    match operation.action {
        Action::Read(seen) => Some(seen),
        Action::Write(_) => None,
        Action::CompareAndSet { from, .. } => Some(from),
    }
}

fn bits(flags: impl Iterator<Item = bool>) -> Box<[u64]> {
    let mut words = Vec::new();
    for (place, flag) in flags.enumerate() {
        if place % 64 == 0 {
            words.push(0);
        }
        if let Some(word) = words.last_mut() {
            *word |= u64::from(flag) << (place % 64);
        }
    }
    words.into()
}
