//! Is every acknowledged member of a set there, and none that was never put in or was taken out?
//!
//! A member is inserted once and removed at most once, so its life is: absent, present, absent. A read of all
//! members tells for each one which of the three it can be in at some moment of the read. Reads that do not
//! overlap must agree with the order of a life.

use super::{Broken, Checked, Interval, Nanos, Outcome, Result};
use std::collections::{BTreeMap, BTreeSet};

/// An insert or a removal of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub member: u64,
    pub interval: Interval,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub inserts: Vec<Change>,
    pub removals: Vec<Change>,
    pub reads: Vec<Read>,
}

/// All members at one moment of the interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub begin: Nanos,
    pub end: Nanos,
    pub members: BTreeSet<u64>,
}

const RULE: &str = "set";

/// When a member can have come and must have come, and the same for its going.
#[derive(Clone, Debug)]
struct Life {
    /// It is absent before this.
    may_come: Nanos,
    /// It has come when this is over.
    must_come: Option<Bound>,
    may_go: Option<Nanos>,
    must_go: Option<Bound>,
}

/// The end of what proves something, and its words.
#[derive(Clone, Debug)]
struct Bound {
    at: Nanos,
    proof: String,
}

impl Bound {
    fn earlier(known: &mut Option<Bound>, at: Nanos, proof: impl FnOnce() -> String) {
        if known.as_ref().is_none_or(|known| at < known.at) {
            *known = Some(Bound { at, proof: proof() });
        }
    }
}

/// Counts `inserts acknowledged`, `inserts unknown`, `removals`, and `reads`.
pub fn check(history: &History) -> Result {
    let mut lives = lives(history)?;
    let mut reads: Vec<&Read> = history.reads.iter().collect();
    // By their ends: what a read proves holds for those that begin after its end.
    reads.sort_by_key(|read| read.end);
    for read in &reads {
        for member in &read.members {
            let Some(life) = lives.get_mut(member) else {
                return broken(read, *member, "is there and was never inserted");
            };
            check_present(read, *member, life)?;
            Bound::earlier(&mut life.must_come, read.end, || {
                format!("it was read {}", span(read))
            });
        }
    }
    for read in &reads {
        for (member, life) in &mut lives {
            if !read.members.contains(member) {
                check_absent(read, *member, life)?;
            }
        }
    }
    check_order(&lives, &reads)?;
    let with = |outcome| {
        let inserts = history.inserts.iter();
        inserts.filter(|insert| insert.outcome == outcome).count() as u64
    };
    Ok(Checked::new([
        ("inserts acknowledged", with(Outcome::Acknowledged)),
        ("inserts unknown", with(Outcome::Unknown)),
        ("removals", history.removals.len() as u64),
        ("reads", history.reads.len() as u64),
    ]))
}

fn lives(history: &History) -> Result<BTreeMap<u64, Life>> {
    let mut lives = BTreeMap::new();
    for insert in &history.inserts {
        let acknowledged = insert.outcome == Outcome::Acknowledged;
        let must_come = insert.interval.end.filter(|_| acknowledged);
        let life = Life {
            may_come: match insert.outcome {
                Outcome::Refused => Nanos::MAX,
                _ => insert.interval.begin,
            },
            must_come: must_come.map(|at| Bound {
                at,
                proof: format!("its insert was acknowledged {}", insert.interval),
            }),
            may_go: None,
            must_go: None,
        };
        if lives.insert(insert.member, life).is_some() {
            let what = format!("member {} is inserted twice in the history", insert.member);
            return Err(Broken::new(RULE, what));
        }
    }
    for removal in &history.removals {
        let Some(life) = lives.get_mut(&removal.member) else {
            let what = format!("member {} is removed and never inserted", removal.member);
            return Err(Broken::new(RULE, what));
        };
        if removal.outcome == Outcome::Refused {
            continue;
        }
        let begin = removal.interval.begin;
        life.may_go = Some(life.may_go.map_or(begin, |known| known.min(begin)));
        if let (Outcome::Acknowledged, Some(end)) = (removal.outcome, removal.interval.end) {
            Bound::earlier(&mut life.must_go, end, || {
                format!("its removal was acknowledged {}", removal.interval)
            });
        }
    }
    Ok(lives)
}

fn check_present(read: &Read, member: u64, life: &Life) -> Result<()> {
    if life.may_come == Nanos::MAX {
        return broken(read, member, "is there although its insert was refused");
    }
    if read.end < life.may_come {
        return broken(read, member, "is there before its insert began");
    }
    match &life.must_go {
        Some(gone) if gone.at < read.begin => {
            let what = format!("has come back: {}", gone.proof);
            broken(read, member, &what)
        }
        _ => Ok(()),
    }
}

fn check_absent(read: &Read, member: u64, life: &Life) -> Result<()> {
    let may_be_gone = life.may_go.is_some_and(|at| at <= read.end);
    match &life.must_come {
        Some(come) if come.at < read.begin && !may_be_gone => {
            broken(read, member, &format!("is lost: {}", come.proof))
        }
        _ => Ok(()),
    }
}

/// A member that was seen, then missed, may not be seen again.
fn check_order(lives: &BTreeMap<u64, Life>, reads: &[&Read]) -> Result<()> {
    for (member, life) in lives {
        let Some(come) = life.must_come.as_ref().filter(|_| life.may_go.is_some()) else {
            continue;
        };
        let mut gone: Option<&Read> = None;
        for read in reads {
            if !read.members.contains(member) {
                let proves = read.begin > come.at;
                let earlier = gone.is_none_or(|known| read.end < known.end);
                if proves && earlier {
                    gone = Some(read);
                }
            }
        }
        let back = |gone: &Read| {
            let mut later = reads.iter().filter(|read| read.begin > gone.end);
            later.find(|read| read.members.contains(member)).copied()
        };
        if let Some(gone) = gone
            && let Some(read) = back(gone)
        {
            let what = format!(
                "has come back: {}; it was missing {}",
                come.proof,
                span(gone)
            );
            return broken(read, *member, &what);
        }
    }
    Ok(())
}

fn span(read: &Read) -> Interval {
    Interval {
        begin: read.begin,
        end: Some(read.end),
    }
}

fn broken<T>(read: &Read, member: u64, what: &str) -> Result<T> {
    let what = format!("in the read {} member {member} {what}", span(read));
    Err(Broken::new(RULE, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(member: u64, begin: u64, end: Option<u64>, outcome: Outcome) -> Change {
        Change {
            member,
            interval: Interval { begin, end },
            outcome,
        }
    }

    fn read(begin: u64, members: &[u64]) -> Read {
        Read {
            begin,
            end: begin + 5,
            members: members.iter().copied().collect(),
        }
    }

    /// 1 is acknowledged at 10, 2 unknown from 20, 3 refused, 4 acknowledged at 10 and removed by 50.
    fn history(reads: &[Read]) -> History {
        History {
            inserts: vec![
                change(1, 0, Some(10), Outcome::Acknowledged),
                change(2, 20, None, Outcome::Unknown),
                change(3, 0, Some(10), Outcome::Refused),
                change(4, 0, Some(10), Outcome::Acknowledged),
            ],
            removals: vec![change(4, 40, Some(50), Outcome::Acknowledged)],
            reads: reads.to_vec(),
        }
    }

    fn why(reads: &[Read]) -> String {
        match check(&history(reads)) {
            Ok(_) => String::new(),
            Err(broken) => broken.explanation,
        }
    }

    #[test]
    fn sound_reads_pass() {
        let reads = [
            read(2, &[]),
            read(3, &[1, 4]),
            read(11, &[1, 4]),
            read(25, &[1, 2, 4]),
            read(42, &[1, 2]),
            read(43, &[1, 2, 4]),
            read(60, &[1, 2]),
        ];
        let checked = check(&history(&reads)).unwrap();
        assert_eq!(
            checked.to_string(),
            "2 inserts acknowledged, 1 inserts unknown, 1 removals, 7 reads"
        );
    }

    #[test]
    fn broken_reads_do_not() {
        assert!(why(&[read(11, &[4])]).contains("member 1 is lost"));
        assert!(why(&[read(25, &[1, 2, 4]), read(35, &[1, 4])]).contains("member 2 is lost"));
        assert!(why(&[read(60, &[1, 3])]).contains("insert was refused"));
        assert!(why(&[read(60, &[1, 4])]).contains("member 4 has come back"));
        assert!(why(&[read(11, &[1, 2, 4])]).contains("before its insert"));
        assert!(why(&[read(11, &[1, 4, 9])]).contains("never inserted"));
        // Removed while the removal runs, and back before it ends.
        let reads = [read(40, &[1]), read(46, &[1, 4])];
        assert!(why(&reads).contains("has come back"), "{}", why(&reads));
        // A stale read is found however the reads are ordered.
        let stale = [read(36, &[1, 4]), read(22, &[1, 2, 4])];
        assert!(why(&stale).contains("member 2 is lost"));
    }
}
