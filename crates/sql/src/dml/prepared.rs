//! A table made ready for writing: its expressions compiled, its keys laid out.

use crate::catalog::descriptor::{ForeignKey, IndexKey, ObjectId, Table};
use crate::context::StatementContext;
use crate::direct::access::AccessPath;
use crate::direct::{Input, Scalar, convert};
use crate::functions::comparison::Comparison;
use crate::query::casts::CastUdf;
use crate::query::coerce::CastContext;
use crate::query::planner::Planner;
use crate::statement::grammar;
use crate::table_codec::{IndexEntryKey, TableCodec, table_lock_key};
use datafusion::common::DFSchema;
use sqlparser::ast;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Datum, Error, Result, Row, SqlState, SqlType};

/// An expression whose value goes into a column.
#[derive(Clone)]
pub struct Assigned {
    scalar: Scalar,
    /// What is left to do for the column's length or precision.
    cast: Option<Arc<CastUdf>>,
}

impl Assigned {
    pub fn eval(&self, row: &[Datum], params: &[Datum], ctx: &StatementContext) -> Result<Datum> {
        let value = self.scalar.eval(row, params, ctx)?;
        match &self.cast {
            Some(cast) => convert(value, cast, ctx),
            None => Ok(value),
        }
    }

    pub fn scalar(&self) -> &Scalar {
        &self.scalar
    }

    pub fn null() -> Assigned {
        Assigned {
            scalar: Scalar::Constant(Datum::Null),
            cast: None,
        }
    }
}

/// What a column gets when the statement says nothing of it.
#[derive(Clone)]
pub enum ColumnDefault {
    Null,
    Value(Assigned),
    /// The next value of an identity column's sequence.
    Sequence(ObjectId),
}

pub struct PreparedIndex {
    /// One for each index column, over the table's columns by position.
    values: Vec<Scalar>,
    predicate: Option<Scalar>,
}

/// A foreign key of this table, with the way to the row it points to. The key's values are the
/// path's parameters.
pub struct Outgoing {
    pub key: ForeignKey,
    pub parent: Arc<Table>,
    pub path: AccessPath,
}

/// A foreign key that points to this table, with the way to the rows that have it.
pub struct Incoming {
    pub key: ForeignKey,
    pub child: Arc<Table>,
    pub path: AccessPath,
}

pub struct Prepared {
    pub table: Arc<Table>,
    pub codec: Arc<TableCodec>,
    pub schema_name: String,
    pub lock_key: Vec<u8>,
    /// Positions of live columns.
    pub live: Vec<usize>,
    /// By position.
    pub defaults: Vec<ColumnDefault>,
    generated: Vec<(usize, Assigned)>,
    not_null: Vec<usize>,
    checks: Vec<(String, Scalar)>,
    pub indexes: Vec<PreparedIndex>,
    pub outgoing: Vec<Outgoing>,
    pub incoming: Vec<Incoming>,
}

/// The tables that one statement may write: its target and those its foreign keys' actions reach.
#[derive(Default)]
pub struct PreparedSet {
    tables: BTreeMap<ObjectId, Arc<Prepared>>,
}

impl PreparedSet {
    /// Prepares `table` and, through ON DELETE and ON UPDATE actions, all that changes of it change.
    pub fn new(planner: &Planner<'_>, table: &Arc<Table>) -> Result<PreparedSet> {
        let mut set = PreparedSet::default();
        let mut todo = vec![table.clone()];
        while let Some(table) = todo.pop() {
            if set.tables.contains_key(&table.oid) {
                continue;
            }
            let prepared = Prepared::new(planner, &table)?;
            todo.extend(prepared.incoming.iter().map(|key| key.child.clone()));
            set.tables.insert(table.oid, Arc::new(prepared));
        }
        Ok(set)
    }

    pub fn get(&self, table: ObjectId) -> Result<&Arc<Prepared>> {
        self.tables
            .get(&table)
            .ok_or_else(|| Error::internal(format!("table {table} was not prepared")))
    }

    pub fn tables(&self) -> impl Iterator<Item = &Prepared> {
        self.tables.values().map(AsRef::as_ref)
    }

    /// Object ids and versions, for plans to notice changes.
    pub fn versions(&self) -> impl Iterator<Item = (ObjectId, u64)> + '_ {
        self.tables
            .values()
            .map(|prepared| (prepared.table.oid, prepared.table.version))
    }
}

/// An expression from the catalog's text.
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    grammar::parse(text, |parser| parser.parse_expr())
        .map_err(|error| Error::internal(format!("stored expression {text}: {error}")))
}

/// The scalar of an expression over a table's columns by position. `None` if it needs a query.
pub fn compile_over(
    planner: &Planner<'_>,
    expr: &ast::Expr,
    schema: &DFSchema,
    places: &[usize],
    declared: &mut Vec<Option<SqlType>>,
) -> Result<Option<(Scalar, SqlType)>> {
    let (expr, sql_type) = planner.typed_scalar(expr, schema, None, declared)?;
    let input = Input {
        schema,
        places: Some(places),
    };
    Ok(Scalar::compile(&expr, &input).map(|scalar| (scalar, sql_type)))
}

/// A value for `column`, with PostgreSQL's error if its type does not fit. `None` if it needs a query.
pub fn assigned(
    planner: &Planner<'_>,
    expr: &ast::Expr,
    column: &crate::catalog::descriptor::Column,
    schema: &DFSchema,
    places: &[usize],
    declared: &mut Vec<Option<SqlType>>,
) -> Result<Option<Assigned>> {
    let target = &column.sql_type;
    let (expr, sql_type) = planner.typed_scalar(
        expr,
        schema,
        Some((target, CastContext::Assignment)),
        declared,
    )?;
    if !sql_type.same_base(target) {
        return Err(type_mismatch(&column.name, target, &sql_type));
    }
    let input = Input {
        schema,
        places: Some(places),
    };
    Ok(Scalar::compile(&expr, &input).map(|scalar| Assigned {
        scalar,
        cast: remaining_cast(&sql_type, target),
    }))
}

/// The conversion between types of one base that differ in their modifier.
pub fn remaining_cast(from: &SqlType, to: &SqlType) -> Option<Arc<CastUdf>> {
    if from == to || to.typmod() == -1 && from.same_base(to) {
        return None;
    }
    Some(Arc::new(CastUdf::new(from.clone(), to.clone(), false)))
}

pub fn type_mismatch(column: &str, target: &SqlType, found: &SqlType) -> Error {
    Error::new(
        SqlState::DATATYPE_MISMATCH,
        format!(
            "column \"{column}\" is of type {} but expression is of type {}",
            target.bare_name(),
            found.bare_name()
        ),
    )
    .hint("You will need to rewrite or cast the expression.")
}

fn needs_no_query<T>(compiled: Option<T>, what: &str) -> Result<T> {
    compiled.ok_or_else(|| {
        Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cannot use subquery in {what}"),
        )
    })
}

impl Prepared {
    pub fn new(planner: &Planner<'_>, table: &Arc<Table>) -> Result<Prepared> {
        let codec = Arc::new(TableCodec::new(table.clone())?);
        let schema = Planner::table_schema(table, &table.name)?;
        let live: Vec<usize> = table.live_columns().map(|(position, _)| position).collect();
        let empty = DFSchema::empty();
        // Stored expressions have no parameters.
        let mut declared = Vec::new();
        let mut defaults = vec![ColumnDefault::Null; table.columns.len()];
        let mut generated = Vec::new();
        let mut not_null = Vec::new();
        for (position, column) in table.live_columns() {
            if column.not_null {
                not_null.push(position);
            }
            if let Some(text) = &column.generated {
                let expr = parse_expression(text)?;
                let value = assigned(planner, &expr, column, &schema, &live, &mut declared)?;
                generated.push((
                    position,
                    needs_no_query(value, "column generation expression")?,
                ));
            } else if let (Some(_), Some(sequence)) = (column.identity, column.owned_sequence) {
                defaults[position] = ColumnDefault::Sequence(sequence);
            } else if let Some(text) = &column.default {
                let expr = parse_expression(text)?;
                let value = assigned(planner, &expr, column, &empty, &[], &mut declared)?;
                defaults[position] =
                    ColumnDefault::Value(needs_no_query(value, "DEFAULT expression")?);
            }
        }
        let mut over = |text: &str, what: &str| -> Result<Scalar> {
            let expr = parse_expression(text)?;
            let compiled = compile_over(planner, &expr, &schema, &live, &mut declared)?;
            Ok(needs_no_query(compiled, what)?.0)
        };
        let mut checks = Vec::with_capacity(table.checks.len());
        for check in &table.checks {
            checks.push((
                check.name.clone(),
                over(&check.expression, "check constraint")?,
            ));
        }
        let mut indexes = Vec::with_capacity(table.indexes.len());
        for index in &table.indexes {
            let mut values = Vec::with_capacity(index.columns.len());
            for column in &index.columns {
                values.push(match &column.key {
                    IndexKey::Column(position) => Scalar::Column(*position),
                    IndexKey::Expression(text, _) => over(text, "index expression")?,
                });
            }
            let predicate = match &index.predicate {
                Some(text) => Some(over(text, "index predicate")?),
                None => None,
            };
            indexes.push(PreparedIndex { values, predicate });
        }
        let catalog = planner.catalog;
        let mut outgoing = Vec::with_capacity(table.foreign_keys.len());
        for key in &table.foreign_keys {
            let parent = if key.referenced_table == table.oid {
                table.clone()
            } else {
                let found = catalog.table(key.referenced_table);
                found.cloned().ok_or_else(|| {
                    Error::internal(format!("table {} is not there", key.referenced_table))
                })?
            };
            outgoing.push(Outgoing {
                path: path_by_columns(&parent, &key.referenced_columns)?,
                parent,
                key: key.clone(),
            });
        }
        let mut incoming = Vec::new();
        for child in catalog.referencing_tables(table.oid) {
            for key in &child.foreign_keys {
                if key.referenced_table == table.oid {
                    incoming.push(Incoming {
                        key: key.clone(),
                        child: child.clone(),
                        path: path_by_columns(child, &key.columns)?,
                    });
                }
            }
        }
        Ok(Prepared {
            schema_name: catalog
                .schema(table.schema)
                .map_or_else(String::new, |schema| schema.name.clone()),
            lock_key: table_lock_key(table.oid),
            table: table.clone(),
            codec,
            live,
            defaults,
            generated,
            not_null,
            checks,
            indexes,
            outgoing,
            incoming,
        })
    }

    /// Computes generated columns, then looks at NOT NULL and CHECK constraints.
    pub fn complete(&self, row: &mut Row, ctx: &StatementContext) -> Result<()> {
        for (position, value) in &self.generated {
            row[*position] = value.eval(row, &[], ctx)?;
        }
        for position in &self.not_null {
            if row[*position].is_null() {
                return Err(super::violations::not_null(self, *position, row, ctx));
            }
        }
        for (name, condition) in &self.checks {
            // NULL passes a check.
            if condition.eval_ref(row, &[], ctx)?.as_ref() == &Datum::Bool(false) {
                return Err(super::violations::check(self, name, row, ctx));
            }
        }
        Ok(())
    }

    /// Fills a column that the statement does not give.
    pub async fn default_value(&self, position: usize, ctx: &StatementContext) -> Result<Datum> {
        match &self.defaults[position] {
            ColumnDefault::Null => Ok(Datum::Null),
            ColumnDefault::Value(value) => value.eval(&[], &[], ctx),
            ColumnDefault::Sequence(sequence) => {
                let value = ctx.effects.nextval(*sequence).await?;
                let sql_type = &self.table.columns[position].sql_type;
                Ok(match sql_type {
                    SqlType::Int2 => Datum::Int2(
                        i16::try_from(value)
                            .map_err(|_| crate::functions::arithmetic::smallint_out_of_range())?,
                    ),
                    SqlType::Int4 => Datum::Int4(
                        i32::try_from(value)
                            .map_err(|_| crate::functions::arithmetic::integer_out_of_range())?,
                    ),
                    _ => Datum::Int8(value),
                })
            }
        }
    }

    /// The values that an index holds for a row; `None` if its predicate leaves the row out.
    pub fn index_values(
        &self,
        index: usize,
        row: &[Datum],
        ctx: &StatementContext,
    ) -> Result<Option<Vec<Datum>>> {
        let prepared = &self.indexes[index];
        if let Some(predicate) = &prepared.predicate
            && !predicate.holds(row, &[], ctx)?
        {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(prepared.values.len());
        for value in &prepared.values {
            values.push(value.eval(row, &[], ctx)?);
        }
        Ok(Some(values))
    }

    /// The entry of an index for a row.
    pub fn index_entry(
        &self,
        index: usize,
        row: &[Datum],
        row_key: &[u8],
        ctx: &StatementContext,
    ) -> Result<Option<IndexEntryKey>> {
        let values = self.index_values(index, row, ctx)?;
        Ok(values.map(|values| self.codec.index_key(index, &values, row_key)))
    }

    /// Whether a change of these columns changes what other rows may refer to.
    pub fn is_key_change(&self, columns: &[usize]) -> bool {
        let in_primary = self
            .table
            .primary_key
            .iter()
            .any(|key| key.columns.iter().any(|column| columns.contains(column)));
        in_primary
            || self
                .table
                .indexes
                .iter()
                .filter(|index| index.unique)
                .any(|index| {
                    index.columns.iter().any(|column| match &column.key {
                        IndexKey::Column(position) => columns.contains(position),
                        IndexKey::Expression(..) => true,
                    })
                })
    }
}

/// The way to rows by equality of these columns, whose values are the parameters.
fn path_by_columns(table: &Arc<Table>, columns: &[usize]) -> Result<AccessPath> {
    let codec = Arc::new(TableCodec::new(table.clone())?);
    let terms: Vec<Scalar> = columns
        .iter()
        .enumerate()
        .map(|(number, position)| Scalar::Compare {
            comparison: Comparison::Eq,
            blank_padded: matches!(table.columns[*position].sql_type, SqlType::Char(_)),
            left: Box::new(Scalar::Column(*position)),
            right: Box::new(Scalar::Parameter(number)),
        })
        .collect();
    let condition = if terms.len() == 1 {
        terms.into_iter().next()
    } else {
        Some(Scalar::And(terms))
    };
    Ok(AccessPath::choose(codec, condition, &[]))
}
