//! Fuzzing: inputs that nobody would write, and what they may not do to a node.
//!
//! A [`Target`] takes any bytes and hands them to a part of the product that meets bytes from
//! outside. Whatever they are, it must answer: no panic, no `XX000`, no overflow of a stack, no
//! endless run, no memory without bound.
//!
//! ```text
//! cargo xtask fuzz ──starts──► fuzz run sql --seed 7      (again, when an input ends the process)
//!                                │  corpus ─► mutate ─► target ─► complaints
//!                                └─ current: the input under way, so that a dead process has a cause
//! ```
//!
//! Inputs are made from what is known to be good ([`corpus`]: the `.slt` files, conversations,
//! encoded values) by changes that tend to hurt ([`mutate`]): tokens replaced, statements spliced,
//! nesting repeated, bits turned, ends cut off. The same seed gives the same inputs, and a complaint
//! is saved with the input that caused it; `fuzz replay` runs it again. What was found once and
//! mended stays in `kept`, and the tests below run it.
//!
//! There is no guidance by coverage. It needs instrumented builds of a nightly compiler and of
//! DataFusion, which take longer than the runs; targets are plain functions of bytes, so such an
//! engine can call them too.

#![allow(
    clippy::disallowed_methods,
    reason = "a fuzzer runs on the real clock and real threads"
)]

pub mod complaints;
pub mod corpus;
pub mod decode;
pub mod mutate;
pub mod sql_entry;
pub mod wire;
pub mod worker;
mod world;

use clap::ValueEnum;

/// A part of the product that meets bytes from outside.
pub trait Target {
    /// Gives the input to the product. What it did wrong is in [`complaints`] afterwards.
    fn run(&mut self, input: &[u8]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// A connection: startup, both protocols, COPY.
    Wire,
    /// A statement's text: parsed, bound, planned and run.
    Sql,
    /// Stored keys, rows and commands, and values as clients send them.
    Decode,
}

impl TargetName {
    pub const ALL: [TargetName; 3] = [TargetName::Wire, TargetName::Sql, TargetName::Decode];

    pub fn as_str(self) -> &'static str {
        match self {
            TargetName::Wire => "wire",
            TargetName::Sql => "sql",
            TargetName::Decode => "decode",
        }
    }

    pub fn target(self) -> std::io::Result<Box<dyn Target>> {
        Ok(match self {
            TargetName::Wire => Box::new(wire::WireTarget::new()?),
            TargetName::Sql => Box::new(sql_entry::SqlTarget::new()?),
            TargetName::Decode => Box::new(decode::DecodeTarget),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every input in `kept` once broke something. What still does, and how.
    fn broken(name: TargetName) -> Vec<String> {
        let mut target = name.target().expect("a target");
        let kept = corpus::kept(name).expect("the folder of kept inputs");
        let complaints = kept.into_iter().flat_map(|(path, input)| {
            target.run(&input);
            let found = complaints::take().into_iter();
            found.map(move |one| format!("{}: {}", path.display(), one.what))
        });
        complaints.collect()
    }

    /// One test, since complaints are the process's.
    #[test]
    fn what_was_found_stays_mended() {
        let usual = std::panic::take_hook();
        complaints::record_panics();
        let broken: Vec<String> = TargetName::ALL.into_iter().flat_map(broken).collect();
        std::panic::set_hook(usual);
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn a_seed_gives_the_same_inputs() {
        for name in TargetName::ALL {
            let corpus = corpus::Corpus::load(name).expect("a corpus");
            for index in 0..50 {
                let [one, other] = [(); 2].map(|()| mutate::input(name, &corpus, 7, index));
                assert_eq!(one, other);
            }
        }
    }
}
