//! CREATE SEQUENCE, and the sequences of SERIAL and IDENTITY columns.

use super::DdlContext;
use super::constraints::Pending;
use super::names::{choose_relation_name, object_name};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::{self, NameKind};
use sqlparser::ast::{
    self, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName,
    SequenceOptions, UnaryOperator, Value,
};
use std::ops::ControlFlow;
use types::{Error, Result, SqlState, SqlType};

pub(super) struct CreateSequence<'a> {
    pub name: &'a ObjectName,
    pub if_not_exists: bool,
    pub data_type: Option<&'a DataType>,
    pub options: &'a [SequenceOptions],
    pub owned_by: Option<&'a ObjectName>,
}

pub(super) async fn create_sequence(
    d: &mut DdlContext<'_>,
    create: CreateSequence<'_>,
) -> Result<&'static str> {
    let (schema, name) = object_name(d, create.name)?;
    let schema = d.creation_schema(schema.as_deref()).await?;
    if d.name_is_taken(NameKind::Relation, schema.oid, &name)
        .await?
    {
        let taken = store::name_taken(NameKind::Relation, &name);
        if !create.if_not_exists {
            return Err(taken);
        }
        d.notice_of(taken.state, format!("{}, skipping", taken.message));
        return Ok("CREATE SEQUENCE");
    }
    let sql_type = match create.data_type {
        Some(given) => SqlType::parse(&given.to_string())?,
        None => SqlType::Int8,
    };
    let oid = d.ids.object_id().await?;
    let mut sequence = blank(d, oid, schema.oid, name, sql_type)?;
    apply(&mut sequence, create.options, true)?;
    if let Some(column) = create.owned_by {
        sequence.owned_by = owner_column(d, column, schema.oid)?;
    }
    d.claim_name(NameKind::Relation, schema.oid, &sequence.name, oid)
        .await?;
    d.put(Descriptor::Sequence(sequence))?;
    Ok("CREATE SEQUENCE")
}

/// The table and column that `OWNED BY` names; `None` for `OWNED BY NONE`.
pub(super) fn owner_column(
    d: &DdlContext<'_>,
    column: &ObjectName,
    schema: ObjectId,
) -> Result<Option<(ObjectId, usize)>> {
    if column.0.len() == 1 {
        if column.to_string().eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        return Err(Error::syntax("invalid OWNED BY option")
            .hint("Specify OWNED BY table.column or OWNED BY NONE."));
    }
    let mut parts = column.0.clone();
    let last = parts.pop().map(|part| ObjectName(vec![part]));
    let column = super::names::simple_name(&last.unwrap_or_else(|| column.clone()))?;
    let (table_schema, table) = object_name(d, &ObjectName(parts))?;
    let Relation::Table(table) = d.require(table_schema.as_deref(), &table)? else {
        return Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("sequence cannot be owned by relation \"{table}\""),
        ));
    };
    if table.schema != schema {
        return Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "sequence must be in same schema as table it is linked to",
        ));
    }
    let position = table
        .column_position(&column)
        .ok_or_else(|| super::names::no_column(&table.name, &column))?;
    Ok(Some((table.oid, position)))
}

/// Makes the sequence of a SERIAL or IDENTITY column; it is written with its table.
pub(super) async fn owned_sequence(
    d: &mut DdlContext<'_>,
    table: &Table,
    position: usize,
    sql_type: SqlType,
    options: &[SequenceOptions],
    pending: &mut Pending,
) -> Result<ObjectId> {
    let column = &table.columns[position].name;
    let name = choose_relation_name(
        d,
        table.schema,
        &table.name,
        Some(column),
        "seq",
        &pending.names,
    );
    let oid = d.ids.object_id().await?;
    let mut sequence = blank(d, oid, table.schema, name, sql_type)?;
    apply(&mut sequence, options, true)?;
    sequence.owned_by = Some((table.oid, position));
    d.claim_name(NameKind::Relation, table.schema, &sequence.name, oid)
        .await?;
    pending.names.insert(sequence.name.clone());
    pending.sequences.push(sequence);
    Ok(oid)
}

fn blank(
    d: &DdlContext<'_>,
    oid: ObjectId,
    schema: ObjectId,
    name: String,
    sql_type: SqlType,
) -> Result<Sequence> {
    let (_, max) = type_bounds(&sql_type)?;
    Ok(Sequence {
        oid,
        database: d.database,
        schema,
        name,
        owner: d.owner(),
        version: 1,
        sql_type,
        start: 1,
        increment: 1,
        min: 1,
        max,
        cache: 1,
        cycle: false,
        owned_by: None,
        comment: None,
        generation: 0,
        restart: None,
    })
}

pub(super) fn type_bounds(sql_type: &SqlType) -> Result<(i64, i64)> {
    match sql_type {
        SqlType::Int2 => Ok((i64::from(i16::MIN), i64::from(i16::MAX))),
        SqlType::Int4 => Ok((i64::from(i32::MIN), i64::from(i32::MAX))),
        SqlType::Int8 => Ok((i64::MIN, i64::MAX)),
        _ => Err(invalid(
            "sequence type must be smallint, integer, or bigint".into(),
        )),
    }
}

fn invalid(message: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Applies options to a new sequence, or to an old one (then only what is said changes).
pub(super) fn apply(sequence: &mut Sequence, options: &[SequenceOptions], new: bool) -> Result<()> {
    let (type_min, type_max) = type_bounds(&sequence.sql_type)?;
    let mut start = None;
    let (mut min, mut max) = (None, None);
    let (mut min_said, mut max_said) = (new, new);
    for option in options {
        match option {
            SequenceOptions::IncrementBy(value, _) => {
                sequence.increment = integer(value)?;
                if sequence.increment == 0 {
                    return Err(invalid("INCREMENT must not be zero".into()));
                }
            }
            SequenceOptions::MinValue(value) => {
                min_said = true;
                min = value.as_ref().map(integer).transpose()?;
            }
            SequenceOptions::MaxValue(value) => {
                max_said = true;
                max = value.as_ref().map(integer).transpose()?;
            }
            SequenceOptions::StartWith(value, _) => start = Some(integer(value)?),
            SequenceOptions::Cache(value) => {
                sequence.cache = integer(value)?;
                if sequence.cache <= 0 {
                    return Err(invalid(format!(
                        "CACHE ({}) must be greater than zero",
                        sequence.cache
                    )));
                }
            }
            SequenceOptions::Cycle(no) => sequence.cycle = !*no,
        }
    }
    let ascending = sequence.increment > 0;
    if min_said {
        sequence.min = min.unwrap_or(if ascending { 1 } else { type_min });
    }
    if max_said {
        sequence.max = max.unwrap_or(if ascending { type_max } else { -1 });
    }
    for (label, value) in [("MAXVALUE", sequence.max), ("MINVALUE", sequence.min)] {
        if value < type_min || value > type_max {
            return Err(invalid(format!(
                "{label} ({value}) is out of range for sequence data type {}",
                sequence.sql_type.name()
            )));
        }
    }
    if sequence.min >= sequence.max {
        return Err(invalid(format!(
            "MINVALUE ({}) must be less than MAXVALUE ({})",
            sequence.min, sequence.max
        )));
    }
    match start {
        Some(value) => sequence.start = value,
        None if new => {
            sequence.start = if ascending {
                sequence.min
            } else {
                sequence.max
            }
        }
        None => {}
    }
    check_bounds(sequence, "START", sequence.start)
}

pub(super) fn check_bounds(sequence: &Sequence, label: &str, value: i64) -> Result<()> {
    if value < sequence.min {
        return Err(invalid(format!(
            "{label} value ({value}) cannot be less than MINVALUE ({})",
            sequence.min
        )));
    }
    if value > sequence.max {
        return Err(invalid(format!(
            "{label} value ({value}) cannot be greater than MAXVALUE ({})",
            sequence.max
        )));
    }
    Ok(())
}

/// An integer written as a literal, with or without a sign.
pub(super) fn integer(expr: &Expr) -> Result<i64> {
    let text = match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.to_string(),
            _ => value.to_string(),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => format!("-{expr}"),
        Expr::UnaryOp {
            op: UnaryOperator::Plus,
            expr,
        } => expr.to_string(),
        Expr::Nested(inner) => return integer(inner),
        other => other.to_string(),
    };
    text.parse().map_err(|_| {
        Error::syntax(format!("syntax error at or near \"{text}\""))
            .detail("A whole number is needed here.")
    })
}

/// The DEFAULT of a SERIAL column. The sequence stands as its object id, so renaming or moving it
/// changes nothing.
pub(super) fn nextval_text(sequence: ObjectId) -> String {
    format!("nextval('{sequence}'::regclass)")
}

/// Turns `nextval('name')` into `nextval('oid'::regclass)`, as PostgreSQL resolves the name when the
/// default is declared. `currval` and `setval` likewise.
pub(super) fn bind_sequence_names(d: &DdlContext<'_>, expr: &Expr) -> Result<Expr> {
    let mut bound = expr.clone();
    let outcome = ast::visit_expressions_mut(&mut bound, |part| {
        let Expr::Function(function) = part else {
            return ControlFlow::Continue(());
        };
        let name = function.name.to_string().to_ascii_lowercase();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        if !matches!(name, "nextval" | "currval" | "setval") {
            return ControlFlow::Continue(());
        }
        match bind_argument(d, function) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    });
    match outcome {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(bound),
    }
}

fn bind_argument(d: &DdlContext<'_>, function: &mut Function) -> Result<()> {
    let FunctionArguments::List(list) = &mut function.args else {
        return Ok(());
    };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.first_mut() else {
        return Ok(());
    };
    let literal = match &*argument {
        Expr::Cast { expr, .. } => (**expr).clone(),
        other => other.clone(),
    };
    let Expr::Value(value) = &literal else {
        return Ok(());
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return Ok(());
    };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    let (schema, name) = crate::pg_catalog::names::split_qualified(text)?;
    let oid = match d.require(schema.as_deref(), &name)? {
        Relation::Sequence(sequence) => sequence.oid,
        _ => return Err(super::context::wrong_kind(&name, "a sequence")),
    };
    let bound = super::constraints::parse_expression(&format!("'{oid}'::regclass"))?;
    *argument = bound;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(sql_type: SqlType) -> Sequence {
        Sequence {
            oid: 1,
            database: 1,
            schema: 1,
            name: "s".into(),
            owner: 1,
            version: 1,
            max: type_bounds(&sql_type).map_or(0, |bounds| bounds.1),
            sql_type,
            start: 1,
            increment: 1,
            min: 1,
            cache: 1,
            cycle: false,
            owned_by: None,
            comment: None,
            generation: 0,
            restart: None,
        }
    }

    fn number(value: &str) -> Expr {
        super::super::constraints::parse_expression(value).unwrap()
    }

    #[test]
    fn defaults_follow_type_and_direction() {
        let mut down = sequence(SqlType::Int4);
        let options = [SequenceOptions::IncrementBy(number("-2"), false)];
        apply(&mut down, &options, true).unwrap();
        assert_eq!(
            (down.min, down.max, down.start),
            (i64::from(i32::MIN), -1, -1)
        );
    }

    #[test]
    fn refusals() {
        let check = |options: &[SequenceOptions], message: &str| {
            let error = apply(&mut sequence(SqlType::Int2), options, true).unwrap_err();
            assert_eq!(error.message, message);
        };
        check(
            &[SequenceOptions::IncrementBy(number("0"), false)],
            "INCREMENT must not be zero",
        );
        check(
            &[SequenceOptions::MaxValue(Some(number("40000")))],
            "MAXVALUE (40000) is out of range for sequence data type smallint",
        );
        check(
            &[
                SequenceOptions::MinValue(Some(number("5"))),
                SequenceOptions::MaxValue(Some(number("5"))),
            ],
            "MINVALUE (5) must be less than MAXVALUE (5)",
        );
        check(
            &[SequenceOptions::StartWith(number("0"), false)],
            "START value (0) cannot be less than MINVALUE (1)",
        );
        check(
            &[SequenceOptions::Cache(number("0"))],
            "CACHE (0) must be greater than zero",
        );
    }
}
