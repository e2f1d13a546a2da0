//! Names of objects inside strings: `to_regclass('public."T"')`, `nextval('s')`.

use types::{Error, Result, SqlState};

/// Splits `schema.name` as PostgreSQL reads it from a string: parts outside quotes are folded to
/// lower case. A database before the schema is dropped.
pub fn split_qualified(text: &str) -> Result<(Option<String>, String)> {
    let mut parts = split(text)?;
    let name = parts.pop();
    let schema = parts.pop();
    match name {
        Some(name) if parts.len() <= 1 => Ok((schema, name)),
        _ => Err(invalid()),
    }
}

fn invalid() -> Error {
    Error::new(SqlState::INVALID_NAME, "invalid name syntax")
}

fn split(text: &str) -> Result<Vec<String>> {
    let mut parts = Vec::new();
    let mut chars = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        part.push('"');
                    }
                    Some('"') => break,
                    Some(c) => part.push(c),
                    None => return Err(invalid()),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                if c.is_whitespace() || c == '"' {
                    return Err(invalid());
                }
                part.extend(c.to_lowercase());
            }
        }
        if part.is_empty() {
            return Err(invalid());
        }
        parts.push(part);
        match chars.next() {
            None => return Ok(parts),
            Some('.') => {}
            Some(_) => return Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_quotes() {
        let pair = |schema: Option<&str>, name: &str| {
            Ok((schema.map(ToString::to_string), name.to_string()))
        };
        assert_eq!(split_qualified("T"), pair(None, "t"));
        assert_eq!(
            split_qualified("Public.\"A.b\"\"c\""),
            pair(Some("public"), "A.b\"c")
        );
        assert_eq!(split_qualified("db.s.t"), pair(Some("s"), "t"));
        for bad in ["", ".", "a.", "\"a", "a b", "a.b.c.d"] {
            assert!(split_qualified(bad).is_err(), "{bad}");
        }
    }
}
