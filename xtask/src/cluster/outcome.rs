//! What a client may conclude from an error: surely not done, or unknown.

use tokio_postgres::Error;

use crate::peer::{describe, sqlstate};

/// Classes of SQLSTATE (their first two characters) after which the statement has surely had no effect: the server
/// refused it, or rolled it back. All others leave the client in doubt.
const SURELY_FAILED: [&str; 9] = ["0A", "22", "23", "25", "40", "42", "53", "54", "55"];
/// … but this one says itself that nobody knows (PostgreSQL's manual, appendix A).
const COMPLETION_UNKNOWN: &str = "40003";
/// The server is starting, stopping or full, and took no statement.
const NOT_NOW: [&str; 2] = ["57P03", "53300"];
/// The server ended the connection in order.
const ENDED_IN_ORDER: [&str; 2] = ["57P01", "57P02"];

/// An error, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The statement has had no effect.
    Failed,
    /// It may have had its effect, or have it yet.
    Unknown,
}

/// An error with what it says.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub doubt: Doubt,
    /// The connection is gone, or ended in order.
    pub broken: bool,
    pub sqlstate: Option<String>,
    pub text: String,
}

impl Trouble {
    pub fn of(error: &Error) -> Trouble {
        let code = sqlstate(error);
        Trouble {
            doubt: code.map_or(Doubt::Unknown, judge),
            broken: code.is_none_or(|code| ENDED_IN_ORDER.contains(&code)),
            sqlstate: code.map(str::to_owned),
            text: describe(error),
        }
    }

    /// No answer in time: the connection is given up.
    pub fn timeout() -> Trouble {
        Trouble {
            doubt: Doubt::Unknown,
            broken: true,
            sqlstate: None,
            text: "no answer in time".to_owned(),
        }
    }

    /// SQLSTATE, or what happened to the connection: few different words, to count by.
    pub fn kind(&self) -> String {
        match &self.sqlstate {
            Some(code) => code.clone(),
            None if self.text == Trouble::timeout().text => self.text.clone(),
            None => "connection broken".to_owned(),
        }
    }
}

fn judge(code: &str) -> Doubt {
    let sure = NOT_NOW.contains(&code)
        || (code != COMPLETION_UNKNOWN
            && SURELY_FAILED.iter().any(|class| code.starts_with(class)));
    if sure { Doubt::Failed } else { Doubt::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_rolled_back_counts_as_failed() {
        for failed in ["40001", "40P01", "23505", "53100", "57P03"] {
            assert_eq!(judge(failed), Doubt::Failed, "{failed}");
        }
        for unknown in ["40003", "08006", "08007", "57P01", "57014", "XX000"] {
            assert_eq!(judge(unknown), Doubt::Unknown, "{unknown}");
        }
    }
}
