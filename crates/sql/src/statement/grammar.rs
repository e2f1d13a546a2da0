//! The one way from text to `sqlparser`'s syntax trees: PostgreSQL's dialect, with bounds.
//!
//! The parser backtracks: where a construct does not go on as hoped, it begins again and reads it as
//! another one. Nested, that doubles the work at each level, and a few hundred bytes would take days.
//! Two measures:
//!
//! - An argument's name (`f(name => value)`) is an identifier here. `sqlparser` 0.62 takes any
//!   expression for one and so reads each argument twice. (What is lost: `json_object('a': 1)`.)
//! - [`Grammar`] counts the operands that are read. A text that needs many times more of them than it
//!   has bytes is refused like one that is nested too deep.

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use std::any::TypeId;
use std::cell::Cell;

/// Deepest nesting of expressions and subqueries in one statement; guards the parser's stack.
pub(crate) const MAX_PARSE_DEPTH: usize = 120;

/// Operands read per byte of text. Without backtracking there is less than one.
const OPERANDS_PER_BYTE: usize = 4;

/// Operands that a short text may take.
const MIN_OPERANDS: usize = 4096;

/// Reads a text, or a part of one, with `read`.
pub(crate) fn parse<T>(
    text: &str,
    read: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> Result<T, ParserError> {
    let grammar = Grammar::for_text(text);
    let mut parser = Parser::new(&grammar)
        .with_recursion_limit(MAX_PARSE_DEPTH)
        .try_with_sql(text)?;
    read(&mut parser)
}

/// PostgreSQL's dialect within bounds, for one text.
#[derive(Debug)]
struct Grammar {
    postgres: PostgreSqlDialect,
    operands_left: Cell<usize>,
}

impl Grammar {
    fn for_text(text: &str) -> Self {
        Grammar {
            postgres: PostgreSqlDialect {},
            operands_left: Cell::new(MIN_OPERANDS + text.len() * OPERANDS_PER_BYTE),
        }
    }
}

/// Forwards to PostgreSQL's dialect what that does not leave at the default.
macro_rules! as_postgres {
    ($($method:ident),* $(,)?) => {
        $(fn $method(&self) -> bool {
            self.postgres.$method()
        })*
    };
}

impl Dialect for Grammar {
    /// The parser asks "is this PostgreSQL?" in many places.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, _: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match self.operands_left.get().checked_sub(1) {
            Some(left) => {
                self.operands_left.set(left);
                None
            }
            // The one error that ends backtracking.
            None => Some(Err(ParserError::RecursionLimitExceeded)),
        }
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.postgres.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.postgres.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.postgres.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.postgres.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        self.postgres.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.postgres.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        self.postgres.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        self.postgres.prec_value(precedence)
    }

    as_postgres! {
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_alter_column_type_using,
        supports_array_typedef_with_brackets,
        supports_bitwise_shift_operators,
        supports_comma_separated_trim,
        supports_comment_on,
        supports_comment_optimizer_hint,
        supports_create_index_with_clause,
        supports_create_table_like_parenthesized,
        supports_empty_projections,
        supports_explain_with_utility_options,
        supports_factorial_operator,
        supports_filter_during_aggregation,
        supports_geometric_types,
        supports_group_by_expr,
        supports_insert_table_alias,
        supports_interval_options,
        supports_listen_notify,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_nested_comments,
        supports_notnull_operator,
        supports_numeric_literal_underscores,
        supports_select_wildcard_with_alias,
        supports_set_names,
        supports_string_escape_constant,
        supports_unicode_string_literal,
        supports_xml_expressions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> Result<Expr, ParserError> {
        parse(text, |parser| parser.parse_expr())
    }

    #[test]
    fn nested_calls_are_read_once() {
        let deep = format!("{}1{}", "abs(".repeat(100), ")".repeat(100));
        assert_eq!(expression(&deep).expect("an expression").to_string(), deep);
    }

    #[test]
    fn backtracking_has_an_end() {
        // Each CAST that fails is read again as a name.
        let broken = "CAST(".repeat(1000);
        assert_eq!(
            expression(&broken),
            Err(ParserError::RecursionLimitExceeded)
        );
    }

    #[test]
    fn arguments_have_names() {
        let call = expression("make_interval(days => 10)").expect("an expression");
        assert_eq!(call.to_string(), "make_interval(days => 10)");
    }
}
