use super::*;

/// A replica of term `term` whose log has an entry of each of these terms; what an entry says follows from
/// its index and term.
fn replica(node: u64, term: u64, terms: &[u64]) -> Observation {
    let log = (1..).zip(terms).map(|(index, term)| Entry {
        index,
        term: *term,
        checksum: index * 1000 + term,
    });
    Observation {
        node,
        group: 1,
        term,
        log: log.collect(),
        ..Observation::default()
    }
}

fn leads(mut seen: Observation) -> Observation {
    seen.is_leader = true;
    seen
}

fn commits(mut seen: Observation, commit: u64, applied: u64) -> Observation {
    seen.commit = commit;
    seen.applied = applied;
    seen
}

fn truncated(mut seen: Observation, upto: u64) -> Observation {
    while seen.before.0 < upto {
        let first = seen.log.remove(0);
        seen.before = (first.index, first.term);
    }
    seen
}

/// The rule that the last of these breaks, all others being fine.
fn rule(story: &[Observation]) -> Option<&'static str> {
    let mut checker = Checker::default();
    let (last, before) = story.split_last().expect("a story");
    for seen in before {
        checker.observe(seen).expect("sound so far");
    }
    checker.observe(last).err().map(|broken| broken.rule)
}

#[test]
fn a_sound_story_passes() {
    let mut checker = Checker::default();
    let story = [
        leads(replica(1, 1, &[1, 1])),
        replica(2, 1, &[1]),
        leads(commits(replica(1, 1, &[1, 1, 1]), 2, 1)),
        // A new leader, whose follower gives up what was never committed.
        leads(commits(replica(2, 2, &[1, 1, 2]), 2, 2)),
        commits(replica(3, 2, &[1, 1, 2]), 3, 3),
        commits(replica(1, 2, &[1, 1, 2]), 3, 3),
        truncated(commits(replica(1, 2, &[1, 1, 2]), 3, 3), 2),
        leads(commits(replica(2, 2, &[1, 1, 2, 2]), 3, 2)),
    ];
    for seen in &story {
        checker.observe(seen).unwrap();
    }
    // A crash may take back what was not synced.
    checker.restarted(1);
    checker
        .observe(&commits(replica(1, 2, &[1, 1, 2]), 2, 0))
        .unwrap();
    assert_eq!(
        checker.checked().to_string(),
        "9 observations, 1 groups, 2 leaders, 3 committed, 3 applied"
    );
}

#[test]
fn two_leaders_of_a_term() {
    let story = [leads(replica(1, 3, &[1])), leads(replica(2, 3, &[1]))];
    assert_eq!(rule(&story), Some("election safety"));
}

#[test]
fn a_leader_that_rewrites_its_log() {
    let story = [leads(replica(1, 3, &[1, 3])), leads(replica(1, 3, &[1]))];
    assert_eq!(rule(&story), Some("leader append-only"));
    let story = [
        leads(replica(1, 3, &[1, 1, 3])),
        leads(replica(1, 3, &[1, 2, 3])),
    ];
    assert_eq!(rule(&story), Some("leader append-only"));
}

#[test]
fn logs_that_do_not_match() {
    let mut other = replica(2, 3, &[1, 1]);
    other.log[1].checksum += 1;
    assert_eq!(rule(&[replica(1, 3, &[1, 1]), other]), Some("log matching"));
    // Equal at 3, and not before.
    let story = [replica(1, 3, &[1, 1, 3]), replica(2, 3, &[1, 2, 3])];
    assert_eq!(rule(&story), Some("log matching"));
    // Also where one of them is truncated.
    let story = [
        replica(1, 3, &[1, 1, 3]),
        truncated(commits(replica(2, 3, &[1, 2, 3]), 2, 2), 2),
    ];
    assert_eq!(rule(&story), Some("log matching"));
}

#[test]
fn a_leader_without_what_was_committed() {
    let story = [
        commits(leads(replica(1, 1, &[1, 1])), 2, 0),
        leads(replica(2, 2, &[1])),
    ];
    assert_eq!(rule(&story), Some("leader completeness"));
    // The leader comes first and the commit is seen later.
    let story = [
        leads(replica(2, 2, &[1])),
        commits(replica(1, 1, &[1, 1]), 2, 0),
        leads(replica(2, 2, &[1, 2])),
    ];
    assert_eq!(rule(&story), Some("leader completeness"));
    // A leader of the past need not know.
    let story = [
        leads(replica(2, 2, &[1])),
        commits(replica(1, 3, &[1, 3]), 2, 0),
        leads(replica(2, 2, &[1, 2])),
    ];
    assert_eq!(rule(&story), None);
}

#[test]
fn different_entries_applied() {
    let story = [
        commits(replica(1, 2, &[1, 1]), 2, 2),
        commits(replica(2, 2, &[1, 2]), 2, 2),
    ];
    assert_eq!(rule(&story), Some("state machine safety"));
    let story = [commits(replica(1, 2, &[1, 1]), 1, 2)];
    assert_eq!(rule(&story), Some("state machine safety"));
}

#[test]
fn what_only_rises() {
    let sound = commits(replica(1, 2, &[1, 1]), 2, 2);
    for worse in [
        commits(replica(1, 1, &[1, 1]), 2, 2),
        commits(replica(1, 2, &[1, 1]), 1, 1),
        commits(replica(1, 2, &[1, 1]), 2, 1),
        commits(replica(1, 2, &[1]), 2, 2),
    ] {
        assert_eq!(rule(&[sound.clone(), worse]), Some("state machine safety"));
    }
}
