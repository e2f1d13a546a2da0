//! Text cut or padded to the limit of its type.

use super::MAX_NAME_BYTES;
use crate::{Error, Result, SqlState};
use std::sync::Arc;

/// Fits text into `varchar(n)`: blanks beyond the length are cut, other characters are 22001. With
/// `cut`, as an explicit cast has it, anything beyond is cut.
pub fn fit_varchar(text: &str, limit: Option<u32>, cut: bool) -> Result<&str> {
    let Some(limit) = limit else { return Ok(text) };
    let limit = limit as usize;
    if text.len() <= limit {
        return Ok(text);
    }
    let Some((end, _)) = text.char_indices().nth(limit) else {
        return Ok(text);
    };
    if !cut && text[end..].bytes().any(|b| b != b' ') {
        return Err(Error::new(
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type character varying({limit})"),
        ));
    }
    Ok(&text[..end])
}

/// Fits text into `char(n)`: as [`fit_varchar`], then padded with blanks to n characters.
pub fn fit_char(text: &str, limit: u32, cut: bool) -> Result<Arc<str>> {
    if limit == 0 {
        return Ok(text.into());
    }
    let kept = fit_varchar(text, Some(limit), cut).map_err(|e| {
        Error::new(
            e.state,
            format!("value too long for type character({limit})"),
        )
    })?;
    let chars = kept.chars().count();
    let missing = (limit as usize).saturating_sub(chars);
    if missing == 0 {
        return Ok(kept.into());
    }
    let mut padded = String::with_capacity(kept.len() + missing);
    padded.push_str(kept);
    padded.extend(std::iter::repeat_n(' ', missing));
    Ok(padded.into())
}

/// Cuts an identifier to its limit at a character's boundary.
pub fn fit_name(text: &str) -> &str {
    if text.len() <= MAX_NAME_BYTES {
        return text;
    }
    let mut end = MAX_NAME_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The first byte, as `"char"` keeps it; a multi-byte character is kept whole.
pub(crate) fn fit_internal_char(text: &str) -> &str {
    let end = text.chars().next().map_or(0, char::len_utf8);
    &text[..end]
}
