//! What the clients know, and what must therefore be in the store.
//!
//! Every transaction has an id and writes a *marker* under it that says what else it wrote. So the
//! content of the store can be computed from the markers that are there, and every transaction whose fate
//! is known has to have its marker, or not.

use crate::executor::mix;
use std::collections::BTreeMap;

pub const ACCOUNTS: u64 = 8;
pub const OPENING_BALANCE: i64 = 1000;
/// Pairs of doctors of whom one must be on duty.
pub const PAIRS: u64 = 4;

/// What is known about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not answered, or answered that nobody knows: whole or absent. Decided by the next restart.
    Open,
    /// Acknowledged: there for ever.
    Committed,
    /// Refused or rolled back: never there.
    Aborted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Transfer {
        from: u64,
        to: u64,
        amount: i64,
    },
    /// Made a value of a unique column its own.
    Unique {
        value: u64,
    },
    /// Changed a doctor's duty.
    Duty {
        pair: u64,
        side: u64,
        on: bool,
    },
}

impl Effect {
    pub fn encode(&self) -> String {
        match self {
            Effect::Transfer { from, to, amount } => format!("transfer {from} {to} {amount}"),
            Effect::Unique { value } => format!("unique {value} 0 0"),
            Effect::Duty { pair, side, on } => format!("duty {pair} {side} {}", i64::from(*on)),
        }
    }

    pub fn decode(text: &str) -> Option<Effect> {
        let mut words = text.split(' ');
        let kind = words.next()?;
        let first = words.next()?.parse().ok()?;
        let second = words.next()?.parse().ok()?;
        let third: i64 = words.next()?.parse().ok()?;
        match kind {
            "transfer" => Some(Effect::Transfer {
                from: first,
                to: second,
                amount: third,
            }),
            "unique" => Some(Effect::Unique { value: first }),
            "duty" => Some(Effect::Duty {
                pair: first,
                side: second,
                on: third == 1,
            }),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Model {
    next_id: u64,
    transactions: BTreeMap<u64, (Effect, Fate)>,
    /// Something that a client saw while the node ran, and must not have.
    pub violation: Option<String>,
    pub committed: u64,
    pub aborted: u64,
    pub undecided: u64,
    pub errors: BTreeMap<String, u64>,
    /// A running hash of what clients were told.
    pub hash: u64,
}

impl Model {
    pub fn note(&mut self, what: u64, detail: u64) {
        for part in [what, detail] {
            self.hash = mix(self.hash, part);
        }
    }

    pub fn violate(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert(what.into());
    }

    /// A transaction is about to ask for its commit.
    pub fn attempt(&mut self, effect: Effect) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.transactions.insert(id, (effect, Fate::Open));
        id
    }

    pub fn decide(&mut self, id: u64, fate: Fate) {
        if let Some((_, known)) = self.transactions.get_mut(&id) {
            *known = fate;
        }
        match fate {
            Fate::Committed => self.committed += 1,
            Fate::Aborted => self.aborted += 1,
            Fate::Open => {}
        }
        self.note(id, fate as u64);
    }

    /// Some acknowledged transaction.
    pub fn some_committed(&self, choice: u64) -> Option<u64> {
        let next = |range| {
            self.transactions
                .range::<u64, _>(range)
                .find(|(_, (_, fate))| *fate == Fate::Committed)
                .map(|(id, _)| *id)
        };
        let from = choice.checked_rem(self.next_id)?;
        next((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
    }

    /// Compares a whole restarted store with what is known, and decides the open fates by it.
    pub fn check_restarted(&mut self, rows: &BTreeMap<String, String>) -> Result<(), String> {
        let mut balances: BTreeMap<u64, i64> = (0..ACCOUNTS)
            .map(|account| (account, OPENING_BALANCE))
            .collect();
        let mut owners = BTreeMap::new();
        for (id, (effect, fate)) in &mut self.transactions {
            let marker = rows.get(&marker_key(*id));
            self.undecided += u64::from(*fate == Fate::Open);
            match (*fate, marker) {
                (Fate::Committed, None) => {
                    return Err(format!("acknowledged transaction {id} is lost"));
                }
                (Fate::Aborted, Some(_)) => {
                    return Err(format!("transaction {id} was refused and is there"));
                }
                (_, Some(text)) if *text != effect.encode() => {
                    return Err(format!("transaction {id} says {text:?}, not {effect:?}"));
                }
                (_, Some(_)) => *fate = Fate::Committed,
                (_, None) => *fate = Fate::Aborted,
            }
            if *fate == Fate::Aborted {
                continue;
            }
            match effect {
                Effect::Transfer { from, to, amount } => {
                    *balances.entry(*from).or_default() -= *amount;
                    *balances.entry(*to).or_default() += *amount;
                }
                Effect::Unique { value } => {
                    if let Some(other) = owners.insert(*value, *id) {
                        return Err(format!("value {value} is owned by {other} and {id}"));
                    }
                }
                Effect::Duty { .. } => {}
            }
        }
        for (account, balance) in balances {
            let found = rows
                .get(&account_key(account))
                .and_then(|text| text.parse().ok());
            if found != Some(balance) && !(found.is_none() && self.committed == 0) {
                return Err(format!(
                    "account {account} has {found:?}; the transfers that are there make {balance}"
                ));
            }
        }
        for (value, id) in &owners {
            let found = rows.get(&unique_key(*value));
            if found != Some(&id.to_string()) {
                return Err(format!(
                    "value {value} is {id}'s, but the row says {found:?}"
                ));
            }
        }
        let uniques = rows.keys().filter(|key| key.starts_with("unique/")).count();
        if uniques != owners.len() {
            return Err(format!(
                "{uniques} unique rows of {} transactions",
                owners.len()
            ));
        }
        check_duties(rows)
    }
}

/// Under SERIALIZABLE never both doctors of a pair are off duty.
pub fn check_duties(rows: &BTreeMap<String, String>) -> Result<(), String> {
    for pair in 0..PAIRS {
        let off = |side| rows.get(&duty_key(pair, side)).is_some_and(|on| on == "0");
        if off(0) && off(1) {
            return Err(format!("write skew: both of pair {pair} are off duty"));
        }
    }
    Ok(())
}

pub fn marker_key(id: u64) -> String {
    format!("marker/{id:08}")
}

pub fn account_key(account: u64) -> String {
    format!("account/{account:03}")
}

pub fn unique_key(value: u64) -> String {
    format!("unique/{value:06}")
}

pub fn duty_key(pair: u64, side: u64) -> String {
    format!("duty/{pair}/{side}")
}
