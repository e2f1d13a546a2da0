//! `phantom.split_shard('t', …)`: which key a split of a table's shard is at.

use super::actions::Call;
use crate::catalog::Relation;
use crate::catalog::descriptor::Table;
use crate::pg_catalog::names::split_qualified;
use crate::table_codec::{Access, TableCodec};
use std::ops::Bound;
use std::sync::Arc;
use txn::kv::Key;
use types::{Datum, Error, FormatContext, Result, SqlState, SqlType};

/// Splits the shard that holds the row with these primary key values, before it; the values may be the first ones of the
/// key only. Without values: the shard of the table's middle, in the middle. Returns the new shard's number.
pub(super) async fn split_shard(call: Call) -> Result<Datum> {
    let Some((Datum::Text(name), values)) = call.arguments.split_first() else {
        return Err(invalid("the first argument is a table's name"));
    };
    let table = table(&call, name)?;
    let codec = TableCodec::new(Arc::clone(&table))?;
    let cluster = call.cluster()?;
    let shard = if values.is_empty() {
        cluster.split_middle(codec.whole_span()).await?
    } else {
        let types = call.types.get(1..).unwrap_or_default();
        let at = key(&table, &codec, values, types)?;
        cluster.split_at(at).await?
    };
    let shard = i64::try_from(shard).map_err(|_| Error::internal("too many shards"))?;
    Ok(Datum::Int8(shard))
}

fn table(call: &Call, name: &str) -> Result<Arc<Table>> {
    let (schema, name) = split_qualified(name)?;
    let context = &call.context;
    let user = context.settings.user.to_string();
    let path = context.settings.search_path.iter();
    let path: Vec<String> = path
        .map(|schema| match schema.as_str() {
            "$user" => user.clone(),
            other => other.to_owned(),
        })
        .collect();
    let database = context.catalog.database_by_name(&context.settings.database);
    let database = database.ok_or_else(|| Error::internal("the session's database is gone"))?;
    let found = context
        .catalog
        .require(database.oid, &path, schema.as_deref(), &name)?;
    match found {
        Relation::Table(table) => Ok(table),
        _ => Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a table"),
        )),
    }
}

fn key(table: &Table, codec: &TableCodec, values: &[Datum], types: &[SqlType]) -> Result<Key> {
    let Some(primary) = &table.primary_key else {
        return Err(
            invalid(format!("table \"{}\" has no primary key", table.name))
                .hint("Without values the table is split in its middle."),
        );
    };
    if values.len() > primary.columns.len() {
        let message = format!(
            "the primary key of table \"{}\" has {} columns, not {}",
            table.name,
            primary.columns.len(),
            values.len()
        );
        return Err(invalid(message));
    }
    let context = FormatContext::default();
    let mut wanted = Vec::with_capacity(values.len());
    for ((value, given), position) in values.iter().zip(types).zip(&primary.columns) {
        let column = table
            .columns
            .get(*position)
            .ok_or_else(|| Error::internal("a key column is not in its table"))?;
        let text = value.to_text(given, &context);
        wanted.push(Datum::parse_text(&text, &column.sql_type, &context)?);
    }
    let unbounded = Bound::Unbounded;
    let spans = codec.ranges(Access::Primary, &wanted, unbounded, unbounded);
    match spans.as_slice() {
        [span] => Ok(span.start.clone()),
        _ => Err(
            invalid("these values do not say in which bucket the rows are")
                .hint("Give all columns of the primary key."),
        ),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}
