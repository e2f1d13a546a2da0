//! The fourteen plays, after Martin Kleppmann's Hermitage test suite and Adya's names.
//!
//! A line of a script is `session [label =] statement`; `begin` opens the transaction at the level under
//! test. Every play starts with the table `hermitage` holding (1, 10) and (2, 20).

use super::Level::{self, ReadCommitted, RepeatableRead, Serializable};
use super::stage::Seen;

pub struct Anomaly {
    pub name: &'static str,
    /// The weakest level at which PostgreSQL prevents it; it is prevented at all stronger ones too.
    pub prevented_from: Level,
    pub script: &'static str,
    /// Whether what was seen is the anomaly.
    pub happened: fn(&Seen) -> bool,
}

pub const ANOMALIES: &[Anomaly] = &[
    Anomaly {
        // Write cycle: two transactions' writes of two rows interleave.
        name: "G0",
        prevented_from: ReadCommitted,
        script: "
            1 begin
            2 begin
            1 update hermitage set value = 11 where id = 1
            2 update hermitage set value = 12 where id = 1
            1 update hermitage set value = 21 where id = 2
            1 commit
            2 update hermitage set value = 22 where id = 2
            2 commit",
        happened: |seen| {
            let values = (seen.finally(1), seen.finally(2));
            seen.committed(1)
                && seen.committed(2)
                && !matches!(values, (Some(11), Some(21)) | (Some(12), Some(22)))
        },
    },
    Anomaly {
        // Aborted read.
        name: "G1a",
        prevented_from: ReadCommitted,
        script: "
            1 begin
            2 begin
            1 update hermitage set value = 101 where id = 1
            2 before = select id, value from hermitage
            1 rollback
            2 after = select id, value from hermitage
            2 commit",
        happened: |seen| {
            seen.value("before", 1) == Some(101) || seen.value("after", 1) == Some(101)
        },
    },
    Anomaly {
        // Intermediate read.
        name: "G1b",
        prevented_from: ReadCommitted,
        script: "
            1 begin
            2 begin
            1 update hermitage set value = 101 where id = 1
            2 before = select id, value from hermitage
            1 update hermitage set value = 11 where id = 1
            1 commit
            2 after = select id, value from hermitage
            2 commit",
        happened: |seen| {
            seen.value("before", 1) == Some(101) || seen.value("after", 1) == Some(101)
        },
    },
    Anomaly {
        // Circular information flow.
        name: "G1c",
        prevented_from: ReadCommitted,
        script: "
            1 begin
            2 begin
            1 update hermitage set value = 11 where id = 1
            2 update hermitage set value = 22 where id = 2
            1 first = select id, value from hermitage where id = 2
            2 second = select id, value from hermitage where id = 1
            1 commit
            2 commit",
        happened: |seen| {
            seen.committed(1)
                && seen.committed(2)
                && seen.value("first", 2) == Some(22)
                && seen.value("second", 1) == Some(11)
        },
    },
    Anomaly {
        // Observed transaction vanishes: session 3 sees writes of 2, then older ones of 1.
        name: "OTV",
        prevented_from: ReadCommitted,
        script: "
            1 begin
            2 begin
            3 begin
            1 update hermitage set value = 11 where id = 1
            1 update hermitage set value = 19 where id = 2
            2 update hermitage set value = 12 where id = 1
            1 commit
            3 a = select id, value from hermitage where id = 1
            2 update hermitage set value = 18 where id = 2
            3 b = select id, value from hermitage where id = 2
            2 commit
            3 c = select id, value from hermitage where id = 2
            3 d = select id, value from hermitage where id = 1
            3 commit",
        happened: |seen| {
            // Which transaction wrote what was read, in reading order: it must never fall.
            let writers: Vec<u8> = [("a", 1), ("b", 2), ("c", 2), ("d", 1)]
                .into_iter()
                .filter_map(|(label, id)| seen.value(label, id))
                .map(|value| match value {
                    11 | 19 => 1,
                    12 | 18 => 2,
                    _ => 0,
                })
                .collect();
            seen.committed(3) && writers.windows(2).any(|pair| pair[0] > pair[1])
        },
    },
    Anomaly {
        // Predicate many preceders, read.
        name: "PMP",
        prevented_from: RepeatableRead,
        script: "
            1 begin
            2 begin
            1 none = select id, value from hermitage where value = 30
            2 insert into hermitage values (3, 30)
            2 commit
            1 some = select id, value from hermitage where value % 3 = 0
            1 commit",
        happened: |seen| seen.committed(1) && seen.value("some", 3).is_some(),
    },
    Anomaly {
        // Predicate many preceders, write: the delete's predicate and the later read disagree.
        name: "PMP-write",
        prevented_from: RepeatableRead,
        script: "
            1 begin
            2 begin
            1 update hermitage set value = value + 10
            2 delete from hermitage where value = 20
            1 commit
            2 left = select id, value from hermitage where value = 20
            2 commit",
        happened: |seen| seen.committed(2) && seen.rows("left") > 0,
    },
    Anomaly {
        // Lost update.
        name: "P4",
        prevented_from: RepeatableRead,
        script: "
            1 begin
            2 begin
            1 select id, value from hermitage where id = 1
            2 select id, value from hermitage where id = 1
            1 update hermitage set value = 11 where id = 1
            2 update hermitage set value = 11 where id = 1
            1 commit
            2 commit",
        happened: |seen| seen.committed(1) && seen.committed(2),
    },
    Anomaly {
        // Read skew.
        name: "G-single",
        prevented_from: RepeatableRead,
        script: "
            1 begin
            2 begin
            1 select id, value from hermitage where id = 1
            2 select id, value from hermitage
            2 update hermitage set value = 12 where id = 1
            2 update hermitage set value = 18 where id = 2
            2 commit
            1 late = select id, value from hermitage where id = 2
            1 commit",
        happened: |seen| seen.committed(1) && seen.value("late", 2) == Some(18),
    },
    Anomaly {
        // Read skew through predicates.
        name: "G-single-pred",
        prevented_from: RepeatableRead,
        script: "
            1 begin
            2 begin
            1 select id, value from hermitage where value % 5 = 0
            2 update hermitage set value = 12 where value = 10
            2 commit
            1 late = select id, value from hermitage where value % 3 = 0
            1 commit",
        happened: |seen| seen.committed(1) && seen.rows("late") > 0,
    },
    Anomaly {
        // Read skew through a write's predicate: the delete misses a row that the snapshot has.
        name: "G-single-write",
        prevented_from: RepeatableRead,
        script: "
            1 begin
            2 begin
            1 select id, value from hermitage where id = 1
            2 select id, value from hermitage
            2 update hermitage set value = 12 where id = 1
            2 update hermitage set value = 18 where id = 2
            2 commit
            1 delete from hermitage where value = 20
            1 commit",
        happened: |seen| seen.committed(1) && seen.finally(2) == Some(18),
    },
    Anomaly {
        // Write skew over rows.
        name: "G2-item",
        prevented_from: Serializable,
        script: "
            1 begin
            2 begin
            1 select id, value from hermitage where id in (1, 2)
            2 select id, value from hermitage where id in (1, 2)
            1 update hermitage set value = 11 where id = 1
            2 update hermitage set value = 21 where id = 2
            1 commit
            2 commit",
        happened: |seen| seen.committed(1) && seen.committed(2),
    },
    Anomaly {
        // Write skew over predicates.
        name: "G2",
        prevented_from: Serializable,
        script: "
            1 begin
            2 begin
            1 select id, value from hermitage where value % 3 = 0
            2 select id, value from hermitage where value % 3 = 0
            1 insert into hermitage values (3, 30)
            2 insert into hermitage values (4, 42)
            1 commit
            2 commit",
        happened: |seen| seen.committed(1) && seen.committed(2),
    },
    Anomaly {
        // Write skew with a read-only third: Fekete's cycle of two anti-dependency edges.
        name: "G2-two-edges",
        prevented_from: Serializable,
        script: "
            1 begin
            1 select id, value from hermitage
            2 begin
            2 update hermitage set value = value + 5 where id = 2
            2 commit
            3 begin
            3 third = select id, value from hermitage
            3 commit
            1 update hermitage set value = 0 where id = 1
            1 commit",
        happened: |seen| {
            seen.committed(1)
                && seen.committed(2)
                && seen.committed(3)
                && seen.value("third", 2) == Some(25)
        },
    },
];
