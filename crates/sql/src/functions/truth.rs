//! Functions held to PostgreSQL's own answers.
//!
//! Each line of `truth.txt` is a call and what PostgreSQL 18 answered: `name¦type:text¦… => text`, an
//! error as `!SQLSTATE`. `\N` is NULL, `\n` a line feed. The session's zone is Europe/Berlin.

use super::{Registry, ReturnType};
use crate::catalog::Catalog;
use crate::context::*;
use crate::query::coerce::CastContext;
use crate::query::overload;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::testing::{MapShards, still_env};
use types::{Datum, Error, MaybeReady, Result, SqlType, Timestamp};

/// Effects that none of these functions may have.
struct Nothing;

fn nothing<T>() -> MaybeReady<Result<T>> {
    MaybeReady::ready(Err(Error::internal("no effects in this test")))
}

impl SessionEffects for Nothing {
    fn nextval(&self, _: u32) -> MaybeReady<Result<i64>> {
        nothing()
    }
    fn currval(&self, _: u32) -> Result<i64> {
        Err(Error::internal("no sequence in this test"))
    }
    fn lastval(&self) -> Result<i64> {
        Err(Error::internal("no sequence in this test"))
    }
    fn setval(&self, _: u32, _: i64, _: bool) -> MaybeReady<Result<i64>> {
        nothing()
    }
    fn setting(&self, name: &str) -> Option<String> {
        (name == "work_mem").then(|| "4MB".into())
    }
    fn set_setting(&self, _: &str, value: &str, _: bool) -> Result<String> {
        Ok(value.into())
    }
}

/// 2024-03-10 12:34:56.789012 UTC.
const NOW: i64 = 1_710_074_096_789_012;

pub(super) fn context() -> StatementContext {
    StatementContext {
        view: ReadView {
            shards: Arc::new(MapShards::default()),
            at: Timestamp::default(),
            overlay: None,
            reads: None,
            guard: None,
        },
        settings: Arc::new(ExprSettings {
            time_zone: "Europe/Berlin".into(),
            user: "phantom".into(),
            session_user: "phantom".into(),
            database: "phantom".into(),
            search_path: Arc::from(vec!["public".to_string()]),
            application_name: "".into(),
            backend_pid: 1,
            transaction_micros: NOW,
            statement_micros: NOW,
        }),
        session: Arc::new(SessionContext {
            catalog: Arc::new(Catalog::default()),
            cancel: CancelToken::default(),
            env: still_env(NOW, 0x0123_4567_89ab_cdef),
            effects: Arc::new(Nothing),
            lock_timeout_nanos: None,
            row_ids: Arc::default(),
        }),
        read_only: false,
        parts: None,
    }
}

/// Calls a function as a statement would: overload, conversion of the arguments, evaluation.
pub(super) fn call(
    registry: &Registry,
    context: &StatementContext,
    name: &str,
    arguments: &[(SqlType, Datum)],
) -> Result<String> {
    let types: Vec<SqlType> = arguments.iter().map(|(ty, _)| ty.clone()).collect();
    let chosen = overload::choose(registry.overloads(name), &types, false)?
        .ok_or_else(|| overload::undefined_function(name, &types))?;
    let format = super::define::format_context(context);
    let mut values = Vec::new();
    for ((from, value), to) in arguments.iter().zip(&chosen.arguments) {
        let context = CastContext::Implicit;
        let value = if *from == SqlType::Unknown && !value.is_null() {
            Datum::parse_text(value.as_str().unwrap_or(""), to, &format)?
        } else {
            types::cast(value.clone(), from, to, context, &format)?
        };
        values.push(value);
    }
    let function = chosen.function;
    if function.strict && values.iter().any(Datum::is_null) {
        return Ok("\\N".into());
    }
    let result = (function.evaluate)(context, &values)?;
    if result.is_null() {
        return Ok("\\N".into());
    }
    if let ReturnType::Exact(declared) = &function.returns {
        // The representation must be that of the declared type.
        let own = super::operators::type_of_datum(&result);
        let same = own.oid() == declared.oid()
            || (own.is_string() && declared.is_string())
            || (own.is_oid() && declared.is_oid());
        assert!(same, "{name} gives {own} and declares {declared}");
    }
    Ok(result.to_text(&chosen.returns, &format))
}

fn check_line(registry: &Registry, context: &StatementContext, line: &str) -> Result<(), String> {
    let (left, wanted) = line.split_once(" => ").ok_or("no ` => `")?;
    let mut pieces = left.split('¦');
    let name = pieces.next().ok_or("no name")?;
    let format = super::define::format_context(context);
    let mut arguments = Vec::new();
    for piece in pieces {
        let (ty, text) = piece.split_once(':').ok_or("no `:`")?;
        let ty = SqlType::parse(ty).map_err(|e| e.to_string())?;
        let value = match text {
            "\\N" => Datum::Null,
            text => Datum::parse_text(&text.replace("\\n", "\n"), &ty, &format)
                .map_err(|e| e.to_string())?,
        };
        arguments.push((ty, value));
    }
    let found = match call(registry, context, name, &arguments) {
        Ok(text) => text.replace('\n', "\\n"),
        Err(error) => format!("!{} {}", error.state.as_str(), error.message),
    };
    // Faults of regular expressions are worded by another parser.
    let same_state = found.starts_with("!2201B") && wanted.starts_with("!2201B");
    if found == wanted || same_state {
        return Ok(());
    }
    Err(format!(
        "{left}\n  PostgreSQL: {wanted}\n  here:       {found}"
    ))
}

#[test]
fn functions_answer_as_postgresql_does() {
    let registry = Registry::with_all();
    let context = context();
    let failures: Vec<String> = include_str!("truth.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| check_line(&registry, &context, line).err())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn overloads_differ() {
    let registry = Registry::with_all();
    for name in registry.names() {
        let mut seen = BTreeMap::new();
        for function in registry.overloads(name) {
            let shape = format!("{:?} {}", function.arguments, function.variadic);
            assert!(seen.insert(shape, ()).is_none(), "{name} stands twice");
        }
    }
}

#[test]
fn clocks_and_identities() {
    let registry = Registry::with_all();
    let context = context();
    for (name, wanted) in [
        ("now", "2024-03-10 13:34:56.789012+01"),
        ("current_date", "2024-03-10"),
        ("localtime", "13:34:56.789012"),
        ("localtimestamp", "2024-03-10 13:34:56.789012"),
        ("gen_random_uuid", "01234567-89ab-4def-8123-456789abcdef"),
        ("uuidv7", "018e285b-ec95-7031-8123-456789abcdef"),
    ] {
        let found = call(&registry, &context, name, &[]);
        assert_eq!(found.as_deref(), Ok(wanted), "{name}");
    }
}
