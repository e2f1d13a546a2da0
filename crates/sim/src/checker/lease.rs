//! Is there at most one lease holder for each shard at each moment?
//!
//! Whoever sees all nodes at one moment of true time (a simulator does) tells what each of them would answer
//! then. That a node *may serve* is the rule for its clients; that its lease is *valid* is what this follows
//! from, so it is checked, too, and tells of trouble before a client can see it.

use super::{Broken, Checked, Nanos, Result};
use std::collections::BTreeMap;

/// What a node thinks of its lease on a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub node: u64,
    pub shard: u64,
    pub lease_valid: bool,
    /// It would answer a client now.
    pub may_serve: bool,
    /// The term in which it leads the shard's group.
    pub term: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Checker {
    /// The last one to serve each shard: claim, and when.
    holders: BTreeMap<u64, (Claim, Nanos)>,
    moments: u64,
    served: u64,
    changes: u64,
}

impl Checker {
    /// Takes the claims of all nodes at one moment; those that have none may be left out.
    pub fn observe(&mut self, at: Nanos, claims: &[Claim]) -> Result<()> {
        self.moments += 1;
        for (place, claim) in claims.iter().enumerate() {
            if claim.may_serve && !claim.lease_valid {
                let what = format!(
                    "node {} serves shard {} without a lease",
                    claim.node, claim.shard
                );
                return broken(at, what);
            }
            let others = claims[..place].iter();
            let mut rivals =
                others.filter(|other| other.shard == claim.shard && other.node != claim.node);
            if let Some(rival) = rivals.find(|rival| rival.lease_valid && claim.lease_valid) {
                let serves = match rival.may_serve && claim.may_serve {
                    true => "both serve",
                    false => "both hold a lease on",
                };
                let what = format!(
                    "node {} (term {}) and node {} (term {}) {serves} shard {}",
                    rival.node, rival.term, claim.node, claim.term, claim.shard
                );
                return broken(at, what);
            }
        }
        let mut serving = claims.iter().filter(|claim| claim.may_serve);
        serving.try_for_each(|claim| self.note(at, claim))
    }

    fn note(&mut self, at: Nanos, claim: &Claim) -> Result<()> {
        self.served += 1;
        let Some((last, when)) = self.holders.insert(claim.shard, (*claim, at)) else {
            return Ok(());
        };
        self.changes += u64::from(last.node != claim.node);
        if claim.term < last.term {
            let what = format!(
                "node {} serves shard {} by term {}, although node {} did so by term {} at {:.3} ms",
                claim.node,
                claim.shard,
                claim.term,
                last.node,
                last.term,
                when as f64 / 1e6
            );
            return broken(at, what);
        }
        Ok(())
    }

    /// Counts `moments`, how often a shard was `served` at one, and `changes` of the holder.
    pub fn checked(&self) -> Checked {
        Checked::new([
            ("moments", self.moments),
            ("served", self.served),
            ("changes", self.changes),
        ])
    }
}

fn broken(at: Nanos, what: String) -> Result<()> {
    let what = format!("at {:.3} ms {what}", at as f64 / 1e6);
    Err(Broken::new("one lease holder", what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(node: u64, shard: u64, term: u64) -> Claim {
        Claim {
            node,
            shard,
            lease_valid: true,
            may_serve: true,
            term,
        }
    }

    #[test]
    fn one_holder_at_a_time() {
        let mut checker = Checker::default();
        checker
            .observe(1, &[claim(1, 1, 1), claim(2, 2, 1)])
            .unwrap();
        checker.observe(2, &[]).unwrap();
        checker
            .observe(3, &[claim(2, 1, 2), claim(2, 2, 1)])
            .unwrap();
        assert_eq!(
            checker.checked().to_string(),
            "3 moments, 4 served, 1 changes"
        );

        let both = checker.observe(4, &[claim(1, 1, 1), claim(2, 1, 2)]);
        assert!(both.unwrap_err().explanation.contains("both serve shard 1"));
        let quiet = Claim {
            may_serve: false,
            ..claim(1, 1, 3)
        };
        let valid = checker.observe(5, &[quiet, claim(2, 1, 2)]);
        assert!(valid.unwrap_err().explanation.contains("both hold a lease"));
        let without = Claim {
            lease_valid: false,
            ..claim(1, 1, 3)
        };
        assert!(checker.observe(6, &[without]).is_err());
        let old = checker.observe(7, &[claim(1, 1, 1)]);
        assert!(old.unwrap_err().explanation.contains("by term 1"));
    }
}
