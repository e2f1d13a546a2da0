//! Functions that put text together from other values: `concat`, `format`, quoting, arrays as text.

use super::define::*;
use super::{Registry, Volatility};
use crate::context::StatementContext;
use crate::ddl::quote_ident;
use types::{Datum, Error, Result, SqlState};

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Stable);
    // The text form of times depends on the session's zone.
    d.nullable("concat(variadic any) text", |context, args| {
        text_datum(joined(context, args, ""))
    });
    d.nullable(
        "concat_ws(text, variadic any) text",
        |context, args| match args.split_first() {
            Some((Datum::Text(separator), rest)) => text_datum(joined(context, rest, separator)),
            _ => Ok(Datum::Null),
        },
    );
    d.nullable(
        "format(text, variadic any) text",
        |context, args| match args.split_first() {
            Some((Datum::Text(template), values)) => text_datum(format(context, template, values)?),
            _ => Ok(Datum::Null),
        },
    );
    d.strict("quote_literal(anyelement) text", |context, args| {
        text_datum(quote_literal(&shown(context, &args[0])))
    });
    d.nullable(
        "quote_nullable(anyelement) text",
        |context, args| match args {
            [Datum::Null] => text_datum("NULL"),
            [value] => text_datum(quote_literal(&shown(context, value))),
            _ => Ok(Datum::Null),
        },
    );
    d.nullable("array_to_string(anyarray, text) text", |context, args| {
        array_to_string(context, args, None)
    });
    d.nullable(
        "array_to_string(anyarray, text, text) text",
        |context, args| array_to_string(context, args, args.get(2).and_then(Datum::as_str)),
    );
    let mut d = Definitions::new(registry, Volatility::Immutable);
    d.strict("quote_literal(text) text", |_, args| {
        text_datum(quote_literal(text(args, 0)?))
    });
    d.nullable("quote_nullable(text) text", |_, args| match args {
        [Datum::Text(text)] => text_datum(quote_literal(text)),
        _ => text_datum("NULL"),
    });
    d.nullable("string_to_array(text, text) text[]", |_, args| {
        string_to_array(args)
    });
    d.nullable("string_to_array(text, text, text) text[]", |_, args| {
        string_to_array(args)
    });
}

fn joined(context: &StatementContext, values: &[Datum], separator: &str) -> String {
    let shown: Vec<String> = values
        .iter()
        .filter(|value| !value.is_null())
        .map(|value| shown(context, value))
        .collect();
    shown.join(separator)
}

/// A string as a literal of SQL.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''").replace('\\', "\\\\");
    let mark = if text.contains('\\') { "E" } else { "" };
    format!("{mark}'{quoted}'")
}

fn array_to_string(
    context: &StatementContext,
    args: &[Datum],
    null: Option<&str>,
) -> Result<Datum> {
    let (Some(Datum::Array(array)), Some(Datum::Text(separator))) = (args.first(), args.get(1))
    else {
        return Ok(Datum::Null);
    };
    let format = format_context(context);
    let items: Vec<String> = array
        .elements
        .iter()
        .filter_map(|element| match element {
            Datum::Null => null.map(str::to_string),
            value => Some(value.to_text(&array.element_type, &format)),
        })
        .collect();
    text_datum(items.join(separator))
}

pub(super) fn string_to_array(args: &[Datum]) -> Result<Datum> {
    let Some(Datum::Text(text)) = args.first() else {
        return Ok(Datum::Null);
    };
    let null = args.get(2).and_then(Datum::as_str);
    if text.is_empty() {
        return Ok(text_array(Vec::<Option<&str>>::new()));
    }
    let item = |part: String| (Some(part.as_str()) != null).then_some(part);
    Ok(match args.get(1) {
        Some(Datum::Text(separator)) if separator.is_empty() => {
            text_array([item(text.to_string())])
        }
        Some(Datum::Text(separator)) => {
            text_array(text.split(&**separator).map(|part| item(part.into())))
        }
        _ => text_array(text.chars().map(|c| item(c.to_string()))),
    })
}

// ---- format -----------------------------------------------------------------------------------

/// One conversion of a template: `%[n$][-][width]type`.
#[derive(Default)]
struct Conversion {
    position: Option<usize>,
    left: bool,
    width: Width,
}

#[derive(Default)]
enum Width {
    #[default]
    None,
    Fixed(i32),
    /// From the next argument, or the n-th.
    Argument(Option<usize>),
}

struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Scanner<'_> {
    fn number(&mut self) -> Result<Option<i32>> {
        let mut value: Option<i32> = None;
        while let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(10)) {
            self.rest.next();
            value = Some(
                value
                    .unwrap_or(0)
                    .checked_mul(10)
                    .and_then(|v| v.checked_add(digit as i32))
                    .ok_or_else(|| out_of_range("number is out of range"))?,
            );
        }
        Ok(value)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    fn conversion(&mut self) -> Result<Conversion> {
        let mut found = Conversion::default();
        let mut number = self.number()?;
        if let Some(n) = number
            && self.eat('$')
        {
            found.position = Some(argument_number(n)?);
            number = None;
        }
        if let Some(n) = number {
            found.width = Width::Fixed(n);
            return Ok(found);
        }
        while self.eat('-') {
            found.left = true;
        }
        if self.eat('*') {
            let position = match self.number()? {
                Some(n) if self.eat('$') => Some(argument_number(n)?),
                Some(_) => {
                    return Err(invalid("width argument position must be ended by \"$\""));
                }
                None => None,
            };
            found.width = Width::Argument(position);
        } else if let Some(n) = self.number()? {
            found.width = Width::Fixed(n);
        }
        Ok(found)
    }
}

fn argument_number(n: i32) -> Result<usize> {
    if n == 0 {
        return Err(invalid(
            "format specifies argument 0, but arguments are numbered from 1",
        ));
    }
    Ok(n as usize)
}

fn unterminated() -> Error {
    invalid("unterminated format() type specifier").hint("For a single \"%\" use \"%%\".")
}

fn format(context: &StatementContext, template: &str, values: &[Datum]) -> Result<String> {
    let mut scanner = Scanner {
        rest: template.chars().peekable(),
    };
    let mut out = String::new();
    let mut next = 0;
    while let Some(c) = scanner.rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match scanner.rest.peek() {
            None => return Err(unterminated()),
            Some('%') => {
                scanner.rest.next();
                out.push('%');
                continue;
            }
            Some(_) => {}
        }
        let conversion = scanner.conversion()?;
        let kind = scanner.rest.next().ok_or_else(unterminated)?;
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(
                invalid(format!("unrecognized format() type specifier \"{kind}\""))
                    .hint("For a single \"%\" use \"%%\"."),
            );
        }
        let mut take = |position: Option<usize>| {
            let at = position.unwrap_or(next + 1);
            next = at;
            values
                .get(at - 1)
                .ok_or_else(|| invalid("too few arguments for format()"))
        };
        let (mut left, mut width) = (conversion.left, 0);
        match conversion.width {
            Width::None => {}
            Width::Fixed(n) => width = n,
            Width::Argument(position) => match take(position)? {
                Datum::Null => {}
                value => {
                    let n = value
                        .as_i64()
                        .and_then(|n| i32::try_from(n).ok())
                        .ok_or_else(|| out_of_range("number is out of range"))?;
                    left |= n < 0;
                    width = n
                        .checked_abs()
                        .ok_or_else(|| out_of_range("number is out of range"))?;
                }
            },
        }
        let text = converted(context, kind, take(conversion.position)?)?;
        let missing = (width as usize).saturating_sub(text.chars().count());
        check_length(out.len() + missing + text.len())?;
        if !left {
            out.extend(std::iter::repeat_n(' ', missing));
        }
        out.push_str(&text);
        if left {
            out.extend(std::iter::repeat_n(' ', missing));
        }
    }
    Ok(out)
}

fn converted(context: &StatementContext, kind: char, value: &Datum) -> Result<String> {
    Ok(match (kind, value) {
        ('s', Datum::Null) => String::new(),
        ('L', Datum::Null) => "NULL".into(),
        ('I', Datum::Null) => {
            return Err(Error::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "null values cannot be formatted as an SQL identifier",
            ));
        }
        ('I', value) => quote_ident(&shown(context, value)),
        ('L', value) => quote_literal(&shown(context, value)),
        (_, value) => shown(context, value),
    })
}
