//! CREATE TABLE, and the table of CREATE TABLE AS.

use super::DdlContext;
use super::constraints::{self, Pending};
use super::names::{INVALID_OBJECT_DEFINITION, ident, object_name};
use super::{like, sequence, sharding};
use crate::catalog::descriptor::*;
use crate::catalog::sharding::Sharding;
use crate::catalog::store::{self, NameKind};
use crate::functions::Volatility;
use crate::response::ResultColumn;
use sqlparser::ast::{
    self, ColumnOption, CreateTableOptions, DataType, Expr, GeneratedAs, SequenceOptions,
    SqlOption, TableConstraint,
};
use std::sync::Arc;
use types::row::MAX_COLUMNS;
use types::{Error, Result, SqlState, SqlType};

/// The first secondary index's id.
const FIRST_INDEX_ID: u16 = PRIMARY_INDEX_ID + 1;

pub(super) async fn create_table(
    d: &mut DdlContext<'_>,
    create: &ast::CreateTable,
) -> Result<&'static str> {
    refuse_unsupported(create)?;
    if create.query.is_some() {
        return Err(Error::internal("CREATE TABLE AS came without its rows"));
    }
    let (expanded, after) = match like::expand(d, create)? {
        Some((expanded, after)) => (Some(expanded), after),
        None => (None, like::Afterwards::default()),
    };
    let create = expanded.as_ref().unwrap_or(create);
    let Some(mut table) = begin(d, create).await? else {
        return Ok("CREATE TABLE");
    };
    let mut pending = Pending::default();
    let mut todo = Vec::new();
    for definition in &create.columns {
        let mut column = add_column(d, &mut table, definition, &mut pending).await?;
        todo.append(&mut column);
    }
    todo.extend(create.constraints.iter().cloned().map(Todo::Table));
    // Keys first, for a foreign key may refer to the table itself.
    for turn in [Turn::PrimaryKey, Turn::Other, Turn::ForeignKey] {
        for constraint in todo.iter().filter(|constraint| constraint.turn() == turn) {
            add_constraint(d, &mut table, constraint, &mut pending).await?;
        }
    }
    check_generated(d, &table)?;
    like::set_comments(&mut table, after.column_comments);
    settle_shards(d, &mut table).await?;
    d.put(Descriptor::Table(table))?;
    for sequence in pending.sequences {
        d.put(Descriptor::Sequence(sequence))?;
    }
    for index in &after.indexes {
        super::index::create_index(d, index).await?;
    }
    Ok("CREATE TABLE")
}

pub(super) async fn create_table_as(
    d: &mut DdlContext<'_>,
    create: &ast::CreateTable,
    columns: &[ResultColumn],
) -> Result<Option<ObjectId>> {
    refuse_unsupported(create)?;
    let Some(mut table) = begin(d, create).await? else {
        return Ok(None);
    };
    if create.columns.len() > columns.len() {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "too many column names were specified",
        ));
    }
    for (at, column) in columns.iter().enumerate() {
        let name = match create.columns.get(at) {
            Some(given) => ident(&given.name),
            None => column.name.clone(),
        };
        let sql_type = match &column.sql_type {
            SqlType::Unknown => SqlType::Text,
            SqlType::Void | SqlType::Record => {
                return Err(Error::new(
                    SqlState::INVALID_TABLE_DEFINITION,
                    format!(
                        "column \"{name}\" has pseudo-type {}",
                        column.sql_type.name()
                    ),
                ));
            }
            known => known.clone(),
        };
        push_column(&mut table, Column::new(name, sql_type))?;
    }
    let oid = table.oid;
    settle_shards(d, &mut table).await?;
    d.put(Descriptor::Table(table))?;
    Ok(Some(oid))
}

fn refuse_unsupported(create: &ast::CreateTable) -> Result<()> {
    let refused = [
        (create.temporary, "CREATE TEMPORARY TABLE"),
        (create.external, "CREATE EXTERNAL TABLE"),
        (create.or_replace, "CREATE OR REPLACE TABLE"),
        (create.partition_by.is_some(), "CREATE TABLE … PARTITION BY"),
        (create.partition_of.is_some(), "CREATE TABLE … PARTITION OF"),
        (create.inherits.is_some(), "CREATE TABLE … INHERITS"),
        (create.on_commit.is_some(), "CREATE TABLE … ON COMMIT"),
        (create.clone.is_some(), "CREATE TABLE … CLONE"),
        (create.global == Some(true), "CREATE GLOBAL TABLE"),
        (
            create.cluster_by.is_some() || create.clustered_by.is_some(),
            "CREATE TABLE … CLUSTER BY",
        ),
    ];
    match refused.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(Error::unsupported(what)),
        None => Ok(()),
    }
}

/// Claims the name and makes an empty descriptor; `None` if the table exists and may.
async fn begin(d: &mut DdlContext<'_>, create: &ast::CreateTable) -> Result<Option<Table>> {
    let (schema, name) = object_name(d, &create.name)?;
    let schema = d.creation_schema(schema.as_deref()).await?;
    if d.name_is_taken(NameKind::Relation, schema.oid, &name)
        .await?
    {
        let taken = store::name_taken(NameKind::Relation, &name);
        if !create.if_not_exists {
            return Err(taken);
        }
        d.notice_of(taken.state, format!("{}, skipping", taken.message));
        return Ok(None);
    }
    let oid = d.ids.object_id().await?;
    d.claim_name(NameKind::Relation, schema.oid, &name, oid)
        .await?;
    let (options, unlogged) = table_options(&create.table_options)?;
    Ok(Some(Table {
        oid,
        database: d.database,
        schema: schema.oid,
        name,
        owner: d.owner(),
        version: 1,
        data_id: 0,
        columns: Vec::with_capacity(create.columns.len()),
        primary_key: None,
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        next_index_id: FIRST_INDEX_ID,
        comment: None,
        options,
        sharding: Sharding::default(),
        replication_factor: None,
        unlogged,
    }))
}

/// Where the rows of a table that is otherwise complete will lie.
async fn settle_shards(d: &mut DdlContext<'_>, table: &mut Table) -> Result<()> {
    sharding::take_options(table)?;
    d.hold_database().await?;
    table.data_id = d.data_id_for(table).await?;
    Ok(())
}

/// Storage options are kept and shown; those that steer PostgreSQL's heap change nothing here.
pub(super) fn table_options(options: &CreateTableOptions) -> Result<(Vec<(String, String)>, bool)> {
    let list = match options {
        CreateTableOptions::None => return Ok((Vec::new(), false)),
        CreateTableOptions::With(list) | CreateTableOptions::Options(list) => list,
        CreateTableOptions::Plain(_) | CreateTableOptions::TableProperties(_) => {
            return Err(Error::unsupported("this form of table options"));
        }
    };
    let mut out = Vec::with_capacity(list.len());
    for option in list {
        match option {
            SqlOption::KeyValue { key, value } => {
                let text = match value {
                    Expr::Value(value) => match value.value.clone().into_string() {
                        Some(text) => text,
                        None => value.to_string(),
                    },
                    other => other.to_string(),
                };
                out.push((ident(key), text));
            }
            SqlOption::Ident(key) => out.push((ident(key), "true".into())),
            other => return Err(Error::unsupported(format!("table option {other}"))),
        }
    }
    Ok((out, false))
}

/// A constraint that waits until all columns are known.
#[expect(
    clippy::large_enum_variant,
    reason = "a handful, for the time of one statement"
)]
enum Todo {
    /// Written at a column, which it then is about.
    Column(usize, Option<ast::Ident>, ColumnOption),
    Table(TableConstraint),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    PrimaryKey,
    Other,
    ForeignKey,
}

impl Todo {
    fn turn(&self) -> Turn {
        match self {
            Todo::Table(TableConstraint::PrimaryKey(_))
            | Todo::Column(_, _, ColumnOption::PrimaryKey(_)) => Turn::PrimaryKey,
            Todo::Table(TableConstraint::ForeignKey(_))
            | Todo::Column(_, _, ColumnOption::ForeignKey(_)) => Turn::ForeignKey,
            _ => Turn::Other,
        }
    }
}

async fn add_constraint(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    constraint: &Todo,
    pending: &mut Pending,
) -> Result<()> {
    match constraint {
        Todo::Table(constraint) => {
            constraints::add(d, table, constraint, false, pending).await?;
        }
        Todo::Column(position, name, option) => {
            constraints::add_at_column(d, table, *position, name.as_ref(), option, pending).await?;
        }
    }
    Ok(())
}

/// Appends a column; 42701 if its name is there, 54011 if there are too many.
pub(super) fn push_column(table: &mut Table, column: Column) -> Result<usize> {
    if table.column_position(&column.name).is_some() {
        return Err(Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{}\" specified more than once", column.name),
        ));
    }
    if table.columns.len() >= MAX_COLUMNS {
        return Err(Error::new(
            SqlState::TOO_MANY_COLUMNS,
            format!("tables can have at most {MAX_COLUMNS} columns"),
        ));
    }
    table.columns.push(column);
    Ok(table.columns.len() - 1)
}

/// The integer type behind a SERIAL pseudo-type.
pub(super) fn serial_type(data_type: &DataType) -> Option<SqlType> {
    let DataType::Custom(name, modifiers) = data_type else {
        return None;
    };
    if !modifiers.is_empty() {
        return None;
    }
    match name.to_string().to_ascii_lowercase().as_str() {
        "serial" | "serial4" => Some(SqlType::Int4),
        "bigserial" | "serial8" => Some(SqlType::Int8),
        "smallserial" | "serial2" => Some(SqlType::Int2),
        _ => None,
    }
}

/// A column's type: one that can be stored.
pub(super) fn column_type(column: &str, data_type: &DataType) -> Result<SqlType> {
    let sql_type = SqlType::parse(&data_type.to_string())?;
    match sql_type {
        SqlType::Void | SqlType::Record | SqlType::Unknown => Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!("column \"{column}\" has pseudo-type {}", sql_type.name()),
        )),
        stored => Ok(stored),
    }
}

/// Reads a column definition with everything but its constraints, which are returned.
pub(super) async fn define_column(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    definition: &ast::ColumnDef,
    pending: &mut Pending,
) -> Result<(usize, Vec<(Option<ast::Ident>, ColumnOption)>)> {
    let name = ident(&definition.name);
    let serial = serial_type(&definition.data_type);
    let sql_type = match &serial {
        Some(sql_type) => sql_type.clone(),
        None => column_type(&name, &definition.data_type)?,
    };
    let position = push_column(table, Column::new(name.clone(), sql_type.clone()))?;
    let mut rest = Vec::new();
    let mut null = false;
    let mut identity: Option<(Identity, Vec<SequenceOptions>)> = None;
    for option in &definition.options {
        match &option.option {
            ColumnOption::Null => null = true,
            ColumnOption::NotNull => table.columns[position].not_null = true,
            ColumnOption::Default(value) => {
                if table.columns[position].default.is_some() || serial.is_some() {
                    return Err(Error::syntax(format!(
                        "multiple default values specified for column \"{name}\" of table \"{}\"",
                        table.name
                    )));
                }
                let column = table.columns[position].clone();
                table.columns[position].default = default_text(d, &column, value)?;
            }
            ColumnOption::Generated {
                generated_as,
                sequence_options,
                generation_expr,
                generation_expr_mode,
                ..
            } => {
                if let Some(expression) = generation_expr {
                    if matches!(
                        generation_expr_mode,
                        Some(ast::GeneratedExpressionMode::Virtual)
                    ) {
                        return Err(Error::unsupported("GENERATED … VIRTUAL"));
                    }
                    table.columns[position].generated = Some(expression.to_string());
                } else {
                    let kind = match generated_as {
                        GeneratedAs::Always => Identity::Always,
                        GeneratedAs::ByDefault => Identity::ByDefault,
                        GeneratedAs::ExpStored => {
                            return Err(Error::syntax("a generated column needs an expression"));
                        }
                    };
                    if identity.is_some() {
                        return Err(Error::syntax(format!(
                            "multiple identity specifications for column \"{name}\" of table \"{}\"",
                            table.name
                        )));
                    }
                    identity = Some((kind, sequence_options.clone().unwrap_or_default()));
                }
            }
            ColumnOption::Collation(collation) => check_collation(collation)?,
            ColumnOption::PrimaryKey(_)
            | ColumnOption::Unique(_)
            | ColumnOption::ForeignKey(_)
            | ColumnOption::Check(_) => {
                rest.push((option.name.clone(), option.option.clone()));
            }
            other => return Err(Error::unsupported(format!("column option {other}"))),
        }
    }
    let column = &table.columns[position];
    if null && (column.not_null || serial.is_some()) {
        return Err(Error::syntax(format!(
            "conflicting NULL/NOT NULL declarations for column \"{name}\" of table \"{}\"",
            table.name
        )));
    }
    if column.default.is_some() && identity.is_some() {
        return Err(Error::syntax(format!(
            "both default and identity specified for column \"{name}\" of table \"{}\"",
            table.name
        )));
    }
    if column.generated.is_some() && (column.default.is_some() || identity.is_some()) {
        return Err(Error::syntax(format!(
            "both default and generation expression specified for column \"{name}\" of table \"{}\"",
            table.name
        )));
    }
    if let Some(sql_type) = serial {
        let sequence = sequence::owned_sequence(d, table, position, sql_type, &[], pending).await?;
        let column = &mut table.columns[position];
        column.not_null = true;
        column.default = Some(sequence::nextval_text(sequence));
        column.owned_sequence = Some(sequence);
    } else if let Some((kind, options)) = identity {
        if !sql_type.is_integer() {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "identity column type must be smallint, integer, or bigint",
            ));
        }
        let sequence =
            sequence::owned_sequence(d, table, position, sql_type, &options, pending).await?;
        let column = &mut table.columns[position];
        column.not_null = true;
        column.identity = Some(kind);
        column.owned_sequence = Some(sequence);
    }
    Ok((position, rest))
}

async fn add_column(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    definition: &ast::ColumnDef,
    pending: &mut Pending,
) -> Result<Vec<Todo>> {
    let (position, rest) = define_column(d, table, definition, pending).await?;
    Ok(rest
        .into_iter()
        .map(|(name, option)| Todo::Column(position, name, option))
        .collect())
}

fn check_collation(collation: &ast::ObjectName) -> Result<()> {
    let name = collation.to_string().replace('"', "");
    match name.rsplit('.').next() {
        Some("C" | "POSIX" | "default" | "ucs_basic") => Ok(()),
        _ => Err(Error::unsupported(format!("collation {collation}"))),
    }
}

/// Checks a DEFAULT and returns the text to keep; `None` for `DEFAULT NULL`.
pub(super) fn default_text(
    d: &DdlContext<'_>,
    column: &Column,
    value: &Expr,
) -> Result<Option<String>> {
    if let Expr::Value(value) = value
        && value.value == ast::Value::Null
    {
        return Ok(None);
    }
    let value = sequence::bind_sequence_names(d, value)?;
    if constraints::has_subquery(&value) {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cannot use subquery in DEFAULT expression",
        ));
    }
    d.analyser
        .expression(d.catalog, None, &value, Some(&column.sql_type))
        .map_err(|error| match error.state {
            SqlState::UNDEFINED_COLUMN => Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot use column reference in DEFAULT expression",
            ),
            SqlState::DATATYPE_MISMATCH | SqlState::CANNOT_COERCE => {
                let found = d
                    .analyser
                    .expression(d.catalog, None, &value, None)
                    .map_or_else(|_| "unknown".into(), |found| found.sql_type.bare_name());
                Error::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "column \"{}\" is of type {} but default expression is of type {found}",
                        column.name,
                        column.sql_type.bare_name()
                    ),
                )
                .hint("You will need to rewrite or cast the expression.")
            }
            _ => error,
        })?;
    Ok(Some(value.to_string()))
}

/// Generated columns may use other columns, but no generated ones, and only immutable functions.
pub(super) fn check_generated(d: &DdlContext<'_>, table: &Table) -> Result<()> {
    if table
        .columns
        .iter()
        .all(|column| column.generated.is_none())
    {
        return Ok(());
    }
    let shared = Arc::new(table.clone());
    for (_, column) in table.live_columns() {
        let Some(text) = &column.generated else {
            continue;
        };
        let expression = constraints::parse_expression(text)?;
        for used in constraints::columns_used(table, &expression) {
            if table.columns[used].generated.is_some() {
                return Err(Error::new(
                    INVALID_OBJECT_DEFINITION,
                    format!(
                        "cannot use generated column \"{}\" in column generation expression",
                        table.columns[used].name
                    ),
                )
                .detail("A generated column cannot reference another generated column."));
            }
        }
        let found = d.analyser.expression(
            d.catalog,
            Some(&shared),
            &expression,
            Some(&column.sql_type),
        )?;
        if found.volatility != Volatility::Immutable {
            return Err(Error::new(
                INVALID_OBJECT_DEFINITION,
                "generation expression is not immutable",
            ));
        }
    }
    Ok(())
}
