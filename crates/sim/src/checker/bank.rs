//! Does money neither appear nor vanish? Every snapshot of all accounts must have the sum they opened with.

use super::{Broken, Checked, Interval, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// All balances as one transaction read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub interval: Interval,
    pub balances: BTreeMap<u64, i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    pub accounts: u64,
    /// Of all accounts.
    pub sum: i64,
    /// Whether transfers may overdraw an account.
    pub overdraft: bool,
}

/// Counts `snapshots`, and `different` ones among them: a bank in which nothing moves proves nothing.
pub fn check(bank: Bank, snapshots: &[Snapshot]) -> Result {
    for snapshot in snapshots {
        let found = snapshot.balances.len() as u64;
        if found != bank.accounts {
            let what = format!("{found} accounts instead of {}", bank.accounts);
            return broken(bank, snapshot, &what);
        }
        let sum: i64 = snapshot.balances.values().sum();
        if sum != bank.sum {
            let what = format!("a sum of {sum} instead of {}", bank.sum);
            return broken(bank, snapshot, &what);
        }
        if !bank.overdraft && snapshot.balances.values().any(|balance| *balance < 0) {
            return broken(bank, snapshot, "an overdrawn account");
        }
    }
    let mut different: Vec<_> = snapshots
        .iter()
        .map(|snapshot| &snapshot.balances)
        .collect();
    different.sort_unstable();
    different.dedup();
    Ok(Checked::new([
        ("snapshots", snapshots.len() as u64),
        ("different", different.len() as u64),
    ]))
}

fn broken(bank: Bank, snapshot: &Snapshot, what: &str) -> Result {
    let mut text = format!("the snapshot {} has {what}:", snapshot.interval);
    for account in 0..bank.accounts {
        // Writing to a string cannot fail.
        let _ = match snapshot.balances.get(&account) {
            Some(balance) => write!(text, " {account}={balance}"),
            None => write!(text, " {account} is missing"),
        };
    }
    Err(Broken::new("bank", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(balances: &[i64]) -> Snapshot {
        Snapshot {
            interval: Interval {
                begin: 1_000_000,
                end: Some(2_000_000),
            },
            balances: (0..).zip(balances.iter().copied()).collect(),
        }
    }

    #[test]
    fn sums_stay() {
        let bank = Bank {
            accounts: 3,
            sum: 30,
            overdraft: false,
        };
        let snapshots = [[10, 10, 10], [5, 15, 10], [10, 10, 10]].map(|b| snapshot(&b));
        let checked = check(bank, &snapshots).unwrap();
        assert_eq!(checked.to_string(), "3 snapshots, 2 different");
        let why = |balances: &[i64]| check(bank, &[snapshot(balances)]).unwrap_err().explanation;
        assert_eq!(
            why(&[5, 10, 10]),
            "the snapshot [1.000 to 2.000 ms] has a sum of 25 instead of 30: 0=5 1=10 2=10"
        );
        assert!(why(&[20, 10]).ends_with("2 accounts instead of 3: 0=20 1=10 2 is missing"));
        assert!(why(&[-1, 21, 10]).contains("overdrawn"));
    }
}
