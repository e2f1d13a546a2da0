//! Errors and notices as people read them.

use std::fmt::Write;
use tokio_postgres::error::{DbError, ErrorPosition};

/// Most characters of the statement's line shown around an error's position.
const SHOWN_LINE: usize = 100;

/// An error with what the server says about it; the place in the statement is shown by a caret.
pub fn error_text(error: &tokio_postgres::Error, statement: &str) -> String {
    match error.as_db_error() {
        Some(error) => db_error_text(error, statement),
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(source) = cause {
                let _ = write!(text, ": {source}");
                cause = source.source();
            }
            text
        }
    }
}

pub fn db_error_text(error: &DbError, statement: &str) -> String {
    let mut text = format!(
        "{} {}: {}",
        error.severity(),
        error.code().code(),
        error.message()
    );
    if let Some(ErrorPosition::Original(position)) = error.position()
        && let Some(place) = place(statement, *position)
    {
        text.push('\n');
        text.push_str(&place);
    }
    for (label, value) in [
        ("DETAIL", error.detail()),
        ("HINT", error.hint()),
        ("CONTEXT", error.where_()),
    ] {
        if let Some(value) = value {
            let _ = write!(text, "\n{label}: {value}");
        }
    }
    text
}

/// The line of the statement that holds the `position`-th character (from 1), and a caret under it.
fn place(statement: &str, position: u32) -> Option<String> {
    let before: usize = usize::try_from(position).ok()?.checked_sub(1)?;
    let offset = statement
        .char_indices()
        .nth(before)
        .map_or(statement.len(), |(at, _)| at);
    let line_start = statement[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line_number = statement[..offset].matches('\n').count() + 1;
    let line = statement[line_start..].lines().next().unwrap_or("");
    let column = statement[line_start..offset].chars().count();
    // Of a long line, the part around the place.
    let skipped = column.saturating_sub(SHOWN_LINE / 2);
    let shown: String = line
        .chars()
        .skip(skipped)
        .take(SHOWN_LINE)
        .map(|c| if c == '\t' { ' ' } else { c })
        .collect();
    let dots = if skipped > 0 { "…" } else { "" };
    let label = format!("LINE {line_number}: {dots}");
    let indent = label.chars().count() + column - skipped;
    Some(format!("{label}{shown}\n{}^", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_marks_the_place() {
        assert_eq!(
            place("select 1,\n  nope", 13).as_deref(),
            Some("LINE 2:   nope\n          ^")
        );
        let long = format!("select {} oops", "x,".repeat(200));
        let shown = place(&long, 409).expect("a place");
        let (line, caret) = shown.split_once('\n').expect("two lines");
        let at = caret.chars().count() - 1;
        assert_eq!(line.chars().nth(at), Some('o'));
        assert_eq!(place("x", 0), None);
    }
}
