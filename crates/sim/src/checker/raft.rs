//! The five safety properties of Raft (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", figure 3), over what the replicas of all groups show of themselves after each step.
//!
//! | Property | How it is seen to break |
//! | --- | --- |
//! | election safety | two replicas lead in one term |
//! | leader append-only | a leader's log changes where it had entries |
//! | log matching | entries of the same index and term differ, or follow different terms |
//! | leader completeness | a leader lacks an entry that was committed in its term or an earlier one |
//! | state machine safety | two replicas apply different entries at one index |
//!
//! And what these rest on: within one life, terms, commit and applied indexes only rise; nothing is applied
//! that is not committed, nor lost once it was.
//!
//! It remembers what it has seen, so each observation costs as much as the log has changed.

use super::{Broken, Checked, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[cfg(test)]
mod tests;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    /// Of its content.
    pub checksum: u64,
}

/// What a replica of a group is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    pub node: u64,
    pub group: u64,
    pub term: u64,
    pub is_leader: bool,
    /// Index and term of the entry before the first one that is kept; zeros at the start.
    pub before: (u64, u64),
    /// Without gaps.
    pub log: Vec<Entry>,
    pub commit: u64,
    pub applied: u64,
}

impl Observation {
    fn last_index(&self) -> u64 {
        self.before.0 + self.log.len() as u64
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.before.0 + 1)?;
        self.log.get(usize::try_from(place).ok()?)
    }

    /// The entries above an index.
    fn above(&self, index: u64) -> &[Entry] {
        let skipped = index.saturating_sub(self.before.0);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.log.get(skipped..).unwrap_or_default()
    }
}

/// An entry, and who showed it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    entry: Entry,
    node: u64,
}

/// What is known of one group.
#[derive(Debug, Default)]
struct Group {
    leaders: BTreeMap<u64, u64>,
    /// By term and index: the entry, and the term of the one before it.
    entries: BTreeMap<(u64, u64), (Seen, u64)>,
    /// By index, with the lowest term of a replica that called it committed.
    committed: BTreeMap<u64, (Seen, u64)>,
    applied: BTreeMap<u64, Seen>,
    replicas: BTreeMap<u64, Observation>,
    /// By node and term that it led: up to where its log was compared with `committed`.
    complete: BTreeMap<(u64, u64), u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Checker {
    groups: BTreeMap<u64, Group>,
    observations: u64,
    leaders: u64,
    committed: u64,
    applied: u64,
}

impl Checker {
    /// Takes what a replica shows now. Once a rule is broken, further observations mean nothing.
    pub fn observe(&mut self, seen: &Observation) -> Result<()> {
        self.observations += 1;
        let group = self.groups.entry(seen.group).or_default();
        let last = group.replicas.get(&seen.node);
        if last == Some(seen) {
            return Ok(());
        }
        if let Some(last) = last {
            check_rising(last, seen)?;
            if last.is_leader && seen.is_leader && last.term == seen.term {
                check_append_only(last, seen)?;
            }
        }
        let known_log = unchanged_upto(last, seen);
        self.leaders += u64::from(group.check_election(seen)?);
        group.check_matching(seen, known_log)?;
        self.committed += group.note_committed(seen)?;
        self.applied += group.check_applied(seen)?;
        group.check_completeness(seen)?;
        group.replicas.insert(seen.node, seen.clone());
        Ok(())
    }

    /// The node begins a new life: what it had not synced may be gone.
    pub fn restarted(&mut self, node: u64) {
        for group in self.groups.values_mut() {
            group.replicas.remove(&node);
            group.complete.retain(|(of, _), _| *of != node);
        }
    }

    /// The last observation of each replica, one a line.
    pub fn describe(&self) -> String {
        let replicas = self
            .groups
            .values()
            .flat_map(|group| group.replicas.values());
        let lines = replicas.map(|seen| {
            let role = if seen.is_leader { "leads" } else { "follows" };
            format!(
                "  group {}, node {}: {role} in term {}, log {} to {}, committed {}, applied {}",
                seen.group,
                seen.node,
                seen.term,
                seen.before.0 + 1,
                seen.last_index(),
                seen.commit,
                seen.applied
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Counts `observations`, `groups`, `leaders`, entries `committed` and entries `applied` first.
    pub fn checked(&self) -> Checked {
        Checked::new([
            ("observations", self.observations),
            ("groups", self.groups.len() as u64),
            ("leaders", self.leaders),
            ("committed", self.committed),
            ("applied", self.applied),
        ])
    }
}

impl Group {
    /// Whether this is a new leader.
    fn check_election(&mut self, seen: &Observation) -> Result<bool> {
        if !seen.is_leader {
            return Ok(false);
        }
        match self.leaders.insert(seen.term, seen.node) {
            None => Ok(true),
            Some(leader) if leader == seen.node => Ok(false),
            Some(leader) => {
                let what = format!(
                    "nodes {leader} and {} both lead term {}",
                    seen.node, seen.term
                );
                Err(broken("election safety", seen, what))
            }
        }
    }

    fn check_matching(&mut self, seen: &Observation, known_log: u64) -> Result<()> {
        for entry in seen.above(known_log) {
            let before = match seen.entry(entry.index - 1) {
                Some(before) => before.term,
                None => seen.before.1,
            };
            let new = Seen {
                entry: *entry,
                node: seen.node,
            };
            let known = self.entries.entry((entry.term, entry.index));
            let (known, known_before) = *known.or_insert((new, before));
            if known.entry != *entry {
                let what = format!("{} differs from {}", line(new), line(known));
                return Err(broken("log matching", seen, what));
            }
            if known_before != before {
                let what = format!(
                    "{} follows term {before}, and {} follows term {known_before}",
                    line(new),
                    line(known)
                );
                return Err(broken("log matching", seen, what));
            }
        }
        Ok(())
    }

    /// How many entries were not known to be committed.
    fn note_committed(&mut self, seen: &Observation) -> Result<u64> {
        let last = self.replicas.get(&seen.node);
        let known = last.map_or(0, |last| last.commit.min(last.last_index()));
        let mut new = 0;
        for entry in seen.above(known) {
            if entry.index > seen.commit {
                break;
            }
            let this = Seen {
                entry: *entry,
                node: seen.node,
            };
            match self.committed.get_mut(&entry.index) {
                None => {
                    self.committed.insert(entry.index, (this, seen.term));
                    for checked in self.complete.values_mut() {
                        *checked = entry.index.saturating_sub(1).min(*checked);
                    }
                    new += 1;
                }
                Some((other, term)) if other.entry == *entry => *term = seen.term.min(*term),
                Some((other, _)) => {
                    let what = format!("{} and {} are both committed", line(this), line(*other));
                    return Err(broken("state machine safety", seen, what));
                }
            }
        }
        Ok(new)
    }

    /// How many entries nobody had applied before.
    fn check_applied(&mut self, seen: &Observation) -> Result<u64> {
        if seen.applied > seen.commit {
            let what = format!("{} is applied, and {} committed", seen.applied, seen.commit);
            return Err(broken("state machine safety", seen, what));
        }
        let last = self.replicas.get(&seen.node);
        let known = last.map_or(0, |last| last.applied.min(last.last_index()));
        let mut new = 0;
        for entry in seen.above(known) {
            if entry.index > seen.applied {
                break;
            }
            let this = Seen {
                entry: *entry,
                node: seen.node,
            };
            let first = *self.applied.entry(entry.index).or_insert_with(|| {
                new += 1;
                this
            });
            if first.entry != *entry {
                let what = format!("{} and {} are both applied", line(this), line(first));
                return Err(broken("state machine safety", seen, what));
            }
        }
        Ok(new)
    }

    fn check_completeness(&mut self, seen: &Observation) -> Result<()> {
        if !seen.is_leader {
            return Ok(());
        }
        let checked = self.complete.entry((seen.node, seen.term)).or_default();
        let mut gapless = true;
        for (index, (other, term)) in self.committed.range(*checked + 1..) {
            if *term > seen.term {
                // Committed after this leader's time: it may not know.
                gapless = false;
                continue;
            }
            let holds = *index <= seen.before.0 || seen.entry(*index) == Some(&other.entry);
            if !holds {
                let what = format!(
                    "the leader of term {} lacks {}, which was committed in term {term}{}",
                    seen.term,
                    line(*other),
                    around(seen, *index)
                );
                return Err(broken("leader completeness", seen, what));
            }
            // For the rest of this leader's time, its log only grows.
            if gapless {
                *checked = *index;
            }
        }
        Ok(())
    }
}

/// Up to which index the log is as it was.
fn unchanged_upto(last: Option<&Observation>, seen: &Observation) -> u64 {
    let Some(last) = last else {
        return 0;
    };
    // Above both first entries; below is truncated in one of them.
    let start = last.before.0.max(seen.before.0);
    if start > last.last_index() || start > seen.last_index() {
        return 0;
    }
    if seen.before.0 < last.before.0 {
        return 0;
    }
    let same = last.above(start).iter().zip(seen.above(start));
    start + same.take_while(|(a, b)| a == b).count() as u64
}

fn check_rising(last: &Observation, seen: &Observation) -> Result<()> {
    let pairs = [
        ("term", last.term, seen.term),
        ("commit index", last.commit, seen.commit),
        ("applied index", last.applied, seen.applied),
    ];
    for (name, before, after) in pairs {
        if after < before {
            let what = format!("the {name} falls from {before} to {after}");
            return Err(broken("state machine safety", seen, what));
        }
    }
    let kept = seen.before.0.max(seen.last_index());
    let committed = last.commit.min(last.last_index());
    if kept < committed {
        let what = format!("the log ends at {kept}, and had {committed} committed entries");
        return Err(broken("state machine safety", seen, what));
    }
    Ok(())
}

fn check_append_only(last: &Observation, seen: &Observation) -> Result<()> {
    for entry in last.above(seen.before.0) {
        if seen.entry(entry.index) != Some(entry) {
            let what = format!(
                "the leader of term {} had {} and then{}",
                seen.term,
                line(Seen {
                    entry: *entry,
                    node: seen.node
                }),
                around(seen, entry.index)
            );
            return Err(broken("leader append-only", seen, what));
        }
    }
    Ok(())
}

fn line(seen: Seen) -> String {
    let Entry {
        index,
        term,
        checksum,
    } = seen.entry;
    format!(
        "entry {index} of term {term} ({checksum:x}) on node {}",
        seen.node
    )
}

/// The log around an index, in words.
fn around(seen: &Observation, index: u64) -> String {
    let mut text = String::from("; its log there:");
    for index in index.saturating_sub(1)..=index + 1 {
        // Writing to a string cannot fail.
        let _ = match seen.entry(index) {
            Some(entry) => write!(text, " {index}/{} ({:x})", entry.term, entry.checksum),
            None => write!(text, " {index}/none"),
        };
    }
    text
}

fn broken(rule: &'static str, seen: &Observation, what: String) -> Broken {
    Broken::new(
        rule,
        format!("group {}, node {}: {what}", seen.group, seen.node),
    )
}
