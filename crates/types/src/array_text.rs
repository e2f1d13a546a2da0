//! The text form of arrays: `{1,2,NULL,"a b"}`, `{{1,2},{3,4}}`, `[2:3]={5,6}`.

use crate::array::{Array, ArrayDim, ArrayDims, MAX_DIMENSIONS, MAX_ELEMENTS};
use crate::numeric::is_sql_space;
use crate::text::FormatContext;
use crate::{Datum, Error, Result, SqlState, SqlType};

fn malformed(text: &str, detail: &str) -> Error {
    Error::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("malformed array literal: \"{text}\""),
    )
    .detail(detail)
}

/// Reads an array's text form.
pub fn parse_array(text: &str, element_type: &SqlType, ctx: &FormatContext) -> Result<Array> {
    let mut parser = Parser {
        text,
        rest: text.trim_matches(is_sql_space),
        lens: Vec::new(),
        elements: Vec::new(),
        element_type,
        ctx,
    };
    let declared = parser.declared_dims()?;
    if !parser.rest.starts_with('{') {
        return Err(if declared.is_some() {
            malformed(text, "Array contents must start with \"{\".")
        } else {
            malformed(
                text,
                "Array value must start with \"{\" or dimension information.",
            )
        });
    }
    parser.level(0)?;
    if !parser.rest.trim_start_matches(is_sql_space).is_empty() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let Parser { lens, elements, .. } = parser;
    if elements.is_empty() {
        return Ok(Array::from_elements(element_type.clone(), elements));
    }
    let dims: ArrayDims = match declared {
        Some(dims) => {
            let matches =
                dims.len() == lens.len() && dims.iter().zip(&lens).all(|(d, l)| Some(d.len) == *l);
            if !matches {
                return Err(malformed(
                    text,
                    "Specified array dimensions do not match array contents.",
                ));
            }
            dims
        }
        None => lens
            .iter()
            .map(|l| ArrayDim {
                len: l.unwrap_or(0),
                lower_bound: 1,
            })
            .collect(),
    };
    Array::with_dims(element_type.clone(), dims, elements)
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    /// Length of each nesting level, known once its first list is closed.
    lens: Vec<Option<i32>>,
    elements: Vec<Datum>,
    element_type: &'a SqlType,
    ctx: &'a FormatContext,
}

impl<'a> Parser<'a> {
    /// `[2:3][1:2]=`, if there.
    fn declared_dims(&mut self) -> Result<Option<ArrayDims>> {
        if !self.rest.starts_with('[') {
            return Ok(None);
        }
        let mut dims = ArrayDims::new();
        let bad = |text: &str| {
            malformed(
                text,
                "\"[\" must introduce explicitly-specified array dimensions.",
            )
        };
        while let Some(after) = self.rest.strip_prefix('[') {
            let (inside, tail) = after
                .split_once(']')
                .ok_or_else(|| malformed(self.text, "Missing \"]\" after array dimensions."))?;
            let (lower, upper) = match inside.split_once(':') {
                Some((l, u)) => (l.trim(), u.trim()),
                None => ("1", inside.trim()),
            };
            let lower: i32 = lower.parse().map_err(|_| bad(self.text))?;
            let upper: i32 = upper.parse().map_err(|_| bad(self.text))?;
            if upper < lower {
                return Err(Error::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    "upper bound cannot be less than lower bound",
                ));
            }
            let len = i64::from(upper) - i64::from(lower) + 1;
            if len > MAX_ELEMENTS as i64 || dims.len() == MAX_DIMENSIONS {
                return Err(Error::new(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    format!("array size exceeds the maximum allowed ({MAX_ELEMENTS})"),
                ));
            }
            dims.push(ArrayDim {
                len: len as i32,
                lower_bound: lower,
            });
            self.rest = tail;
        }
        let after = self.rest.trim_start_matches(is_sql_space);
        let after = after
            .strip_prefix('=')
            .ok_or_else(|| malformed(self.text, "Missing \"=\" after array dimensions."))?;
        self.rest = after.trim_start_matches(is_sql_space);
        Ok(Some(dims))
    }

    fn end(&self) -> Error {
        malformed(self.text, "Unexpected end of input.")
    }

    fn level(&mut self, depth: usize) -> Result<()> {
        if depth == MAX_DIMENSIONS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "number of array dimensions ({}) exceeds the maximum allowed ({MAX_DIMENSIONS})",
                    depth + 1
                ),
            ));
        }
        let ragged = |p: &Self| {
            malformed(
                p.text,
                "Multidimensional arrays must have sub-arrays with matching dimensions.",
            )
        };
        // A level holds either lists or values; the first member of all decides.
        let first_visit = self.lens.len() == depth;
        if first_visit {
            self.lens.push(None);
        }
        self.rest = &self.rest[1..];
        let mut count = 0i32;
        loop {
            self.rest = self.rest.trim_start_matches(is_sql_space);
            let next = self.rest.chars().next().ok_or_else(|| self.end())?;
            match next {
                '}' if count == 0 => {
                    if depth > 0 && !self.elements.is_empty() {
                        return Err(ragged(self));
                    }
                }
                '{' => {
                    if self.lens.len() == depth + 1 && !self.elements.is_empty() {
                        return Err(ragged(self));
                    }
                    self.level(depth + 1)?;
                    count += 1;
                }
                ',' | '}' => {
                    return Err(malformed(
                        self.text,
                        &format!("Unexpected \"{next}\" character."),
                    ));
                }
                _ => {
                    if self.lens.len() > depth + 1 {
                        return Err(ragged(self));
                    }
                    let element = self.element()?;
                    self.elements.push(element);
                    if self.elements.len() > MAX_ELEMENTS {
                        return Err(Error::new(
                            SqlState::PROGRAM_LIMIT_EXCEEDED,
                            format!("array size exceeds the maximum allowed ({MAX_ELEMENTS})"),
                        ));
                    }
                    count += 1;
                }
            }
            self.rest = self.rest.trim_start_matches(is_sql_space);
            match self.rest.chars().next() {
                Some(',') => self.rest = &self.rest[1..],
                Some('}') => {
                    self.rest = &self.rest[1..];
                    break;
                }
                Some(_) => {
                    return Err(malformed(self.text, "Unexpected array element."));
                }
                None => return Err(self.end()),
            }
        }
        match self.lens[depth] {
            None => self.lens[depth] = Some(count),
            Some(len) if len == count => {}
            Some(_) => return Err(ragged(self)),
        }
        Ok(())
    }

    fn element(&mut self) -> Result<Datum> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        let quoted = self.rest.starts_with('"');
        if quoted {
            chars.next();
            loop {
                match chars.next() {
                    Some((_, '\\')) => {
                        let (_, c) = chars.next().ok_or_else(|| self.end())?;
                        value.push(c);
                    }
                    Some((i, '"')) => {
                        self.rest = &self.rest[i + 1..];
                        break;
                    }
                    Some((_, c)) => value.push(c),
                    None => return Err(self.end()),
                }
            }
        } else {
            let mut escaped = false;
            // Blanks at the end do not belong to the value, unless escaped.
            let mut keep = 0;
            loop {
                match chars.next() {
                    Some((_, '\\')) => {
                        let (_, c) = chars.next().ok_or_else(|| self.end())?;
                        value.push(c);
                        keep = value.len();
                        escaped = true;
                    }
                    Some((i, ',' | '}')) => {
                        self.rest = &self.rest[i..];
                        break;
                    }
                    Some((_, c @ ('"' | '{'))) => {
                        return Err(malformed(
                            self.text,
                            &if c == '"' {
                                "Incorrectly quoted array element.".to_string()
                            } else {
                                format!("Unexpected \"{c}\" character.")
                            },
                        ));
                    }
                    Some((_, c)) => {
                        value.push(c);
                        if !is_sql_space(c) {
                            keep = value.len();
                        }
                    }
                    None => return Err(self.end()),
                }
            }
            value.truncate(keep);
            if !escaped && value.eq_ignore_ascii_case("null") {
                return Ok(Datum::Null);
            }
        }
        Datum::parse_text(&value, self.element_type, self.ctx)
    }
}

/// Appends an array's text form.
pub fn write_array(array: &Array, ctx: &FormatContext, out: &mut Vec<u8>) {
    if array.dims.is_empty() {
        return out.extend_from_slice(b"{}");
    }
    if array.dims.iter().any(|d| d.lower_bound != 1) {
        if let Some(dims) = array.dims_text() {
            out.extend_from_slice(dims.as_bytes());
        }
        out.push(b'=');
    }
    let mut elements = array.elements.iter();
    write_level(&array.dims, &mut elements, &array.element_type, ctx, out);
}

fn write_level<'a>(
    dims: &[ArrayDim],
    elements: &mut impl Iterator<Item = &'a Datum>,
    element_type: &SqlType,
    ctx: &FormatContext,
    out: &mut Vec<u8>,
) {
    let Some((dim, inner)) = dims.split_first() else {
        return;
    };
    out.push(b'{');
    for i in 0..dim.len {
        if i > 0 {
            out.push(b',');
        }
        if inner.is_empty() {
            if let Some(element) = elements.next() {
                write_element(element, element_type, ctx, out);
            }
        } else {
            write_level(inner, elements, element_type, ctx, out);
        }
    }
    out.push(b'}');
}

fn write_element(element: &Datum, element_type: &SqlType, ctx: &FormatContext, out: &mut Vec<u8>) {
    if element.is_null() {
        return out.extend_from_slice(b"NULL");
    }
    let start = out.len();
    element.write_text(element_type, ctx, out);
    let written = &out[start..];
    let special =
        |b: &u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || is_sql_space(char::from(*b));
    let needs_quotes =
        written.is_empty() || written.iter().any(special) || written.eq_ignore_ascii_case(b"null");
    if !needs_quotes {
        return;
    }
    let raw = out.split_off(start);
    out.push(b'"');
    for byte in raw {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Reads `int2vector` and `oidvector`: numbers with blanks between, counted from 0.
pub fn parse_vector(text: &str, sql_type: &SqlType, ctx: &FormatContext) -> Result<Array> {
    let element_type = sql_type.element_type().unwrap_or(SqlType::Int2);
    let elements = text
        .split(is_sql_space)
        .filter(|word| !word.is_empty())
        .map(|word| Datum::parse_text(word, &element_type, ctx))
        .collect::<Result<Vec<_>>>()?;
    let mut array = Array::from_elements(element_type, elements);
    for dim in &mut array.dims {
        dim.lower_bound = 0;
    }
    Ok(array)
}

pub fn write_vector(array: &Array, ctx: &FormatContext, out: &mut Vec<u8>) {
    for (i, element) in array.elements.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        element.write_text(&array.element_type, ctx, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, element_type: &SqlType) -> Result<String> {
        let ctx = FormatContext::default();
        let mut out = Vec::new();
        write_array(&parse_array(text, element_type, &ctx)?, &ctx, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn there_and_back() {
        for (element_type, text, expected) in [
            (SqlType::Int4, "{1,2,NULL}", "{1,2,NULL}"),
            (SqlType::Int4, " { 1 , 2 } ", "{1,2}"),
            (SqlType::Int4, "{}", "{}"),
            (SqlType::Int4, "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
            (SqlType::Int4, "[2:3]={5,6}", "[2:3]={5,6}"),
            (SqlType::Int4, "[1:2]={5,6}", "{5,6}"),
            (
                SqlType::Text,
                r#"{a,"b c","d\"e","NULL",null,""," x"}"#,
                r#"{a,"b c","d\"e","NULL",NULL,""," x"}"#,
            ),
            (SqlType::Text, r"{a b , c\,d}", r#"{"a b","c,d"}"#),
            (SqlType::Bool, "{t,f}", "{t,f}"),
            (
                SqlType::Timestamp,
                "{\"2024-01-01 00:00:00\"}",
                "{\"2024-01-01 00:00:00\"}",
            ),
        ] {
            assert_eq!(
                shown(text, &element_type).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "1",
            "{1",
            "{1}}",
            "{1,}",
            "{,1}",
            "{{1},2}",
            "{{1,2},{3}}",
            "{1,{2}}",
            "[1:2]{1,2}",
            "[1:3]={1,2}",
            "{\"a",
            "{1 2}",
            "{{{{{{{1}}}}}}}",
        ] {
            assert!(shown(text, &SqlType::Int4).is_err(), "{text}");
        }
        let error = shown("1", &SqlType::Int4).unwrap_err();
        assert_eq!(error.message, "malformed array literal: \"1\"");
    }
}
