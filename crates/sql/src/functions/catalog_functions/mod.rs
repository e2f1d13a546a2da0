//! Functions over the catalog and the session (PostgreSQL manual, section 9.26): what `psql`, drivers
//! and ORMs call in their catalog queries.
//!
//! Sizes of relations are not known to a node's SQL layer yet: those functions return NULL.

mod absent;
mod comments;
mod definitions;
mod lookups;
mod privileges;
mod session;
mod sizes;
mod visibility;

use super::{ArgType, Evaluate, Registry, ReturnType, ScalarFunction, Volatility};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::context::StatementContext;
use crate::ddl::quote_ident;
use crate::pg_catalog::definitions::{definition, definition_by_oid};
use crate::pg_catalog::relations::{PG_AUTHID, PG_CLASS, PG_DATABASE, PG_NAMESPACE, database};
use crate::pg_catalog::value::{array, optional_text, text};
use crate::pg_catalog::{deparse, names};
use types::{Datum, Error, Numeric, Result, SqlState, SqlType};

/// What `version()` says: the PostgreSQL release whose behaviour is followed, and the product's own.
pub const VERSION_TEXT: &str = concat!(
    "PostgreSQL 15.0 (PhantomDB ",
    env!("CARGO_PKG_VERSION"),
    ") on ",
    "rust",
    ", 64-bit"
);

/// Attributes of a relation that can be written to by UPDATE, INSERT and DELETE, as bits.
const UPDATABLE_EVENTS: i32 = (1 << 2) | (1 << 3) | (1 << 4);

use SqlType::{Bool, Int2, Int4, Int8, Name, Oid, Regclass, Text};

/// Puts the functions into the registry. Those that another module has already are left alone, so this
/// one comes last.
pub fn register(registry: &mut Registry) {
    let mut to = Register {
        registry,
        general: Vec::new(),
    };
    session::session(&mut to);
    visibility::visibility(&mut to);
    definitions::definitions(&mut to);
    comments::comments(&mut to);
    sizes::sizes(&mut to);
    privileges::privileges(&mut to);
    lookups::lookups(&mut to);
    absent::absent(&mut to);
}

struct Register<'a> {
    registry: &'a mut Registry,
    /// Names that this module may give overloads to.
    general: Vec<&'static str>,
}

impl Register<'_> {
    fn add(
        &mut self,
        name: &'static str,
        arguments: &[SqlType],
        returns: SqlType,
        evaluate: Evaluate,
    ) {
        self.add_with(name, arguments, returns, Volatility::Stable, evaluate);
    }

    fn immutable(
        &mut self,
        name: &'static str,
        arguments: &[SqlType],
        returns: SqlType,
        evaluate: Evaluate,
    ) {
        self.add_with(name, arguments, returns, Volatility::Immutable, evaluate);
    }

    fn add_with(
        &mut self,
        name: &'static str,
        arguments: &[SqlType],
        returns: SqlType,
        volatility: Volatility,
        evaluate: Evaluate,
    ) {
        if !self.general.contains(&name) {
            if !self.registry.overloads(name).is_empty() {
                return;
            }
            self.general.push(name);
        }
        self.registry.add(ScalarFunction {
            name,
            arguments: arguments.iter().cloned().map(ArgType::Exact).collect(),
            variadic: false,
            returns: ReturnType::Exact(returns),
            volatility,
            // All but format_type, which reads a NULL modifier as none.
            strict: name != "format_type",
            evaluate,
            kernel: None,
        });
    }
}

fn bad_call(name: &str) -> Error {
    Error::internal(format!("{name} was called with other types than declared"))
}

fn oid_at(args: &[Datum], at: usize) -> Result<u32> {
    match args.get(at) {
        Some(Datum::Oid(oid)) => Ok(*oid),
        _ => Err(bad_call("a catalog function")),
    }
}

fn text_at(args: &[Datum], at: usize) -> Result<&str> {
    match args.get(at) {
        Some(Datum::Text(value)) => Ok(value),
        _ => Err(bad_call("a catalog function")),
    }
}

fn int4_at(args: &[Datum], at: usize) -> Result<i32> {
    match args.get(at) {
        Some(Datum::Int4(value)) => Ok(*value),
        Some(Datum::Int2(value)) => Ok(i32::from(*value)),
        _ => Err(bad_call("a catalog function")),
    }
}

// ---- visibility ---------------------------------------------------------------------------------
// ---- comments -----------------------------------------------------------------------------------
// ---- privileges ---------------------------------------------------------------------------------
// ---- about what there is none of ------------------------------------------------------------------
#[cfg(test)]
mod tests {
    use super::definitions::format_type;
    use super::sizes::size_pretty;
    use super::*;

    #[test]
    fn sizes_are_pretty() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (-20_480, "-20 kB"),
            (1 << 40, "1024 GB"),
        ] {
            assert_eq!(size_pretty(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn types_are_formatted() {
        assert_eq!(format_type(23, Some(-1)), "integer");
        assert_eq!(format_type(1043, Some(14)), "character varying(10)");
        assert_eq!(format_type(1043, None), "character varying");
        assert_eq!(format_type(1042, None), "character");
        assert_eq!(format_type(1007, Some(-1)), "integer[]");
        assert_eq!(format_type(0, None), "-");
        assert_eq!(format_type(99_999, None), "???");
    }

    #[test]
    fn all_functions_are_there() {
        let mut registry = Registry::default();
        register(&mut registry);
        let names: Vec<&str> = registry.names().collect();
        for name in [
            "version",
            "format_type",
            "pg_table_is_visible",
            "has_table_privilege",
        ] {
            assert!(names.contains(&name), "{name}");
        }
    }
}
