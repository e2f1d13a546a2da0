//! `phantom.databases`, `phantom.tables` and `phantom.buckets`: what definitions say about shards.
//!
//! Keys are shown as `phantom.shards` shows them, so that a bucket's shards are found by comparing them. As in
//! `pg_catalog`, the tables are those of the database that asks.

use super::VirtualTable;
use super::relations::{database, schema_name};
use super::value::{oid, text};
use crate::catalog::descriptor::Table;
use crate::catalog::sharding::Sharding;
use crate::context::StatementContext;
use types::key::{bucket_prefix, table_prefix};
use types::{Datum, Result, Row, SqlType};

const SCHEMA: &str = "phantom";
/// Object ids of the views, in their order.
const FIRST_OID: u32 = 13_950;

/// The views as tables.
pub(super) fn tables() -> impl Iterator<Item = VirtualTable> {
    use SqlType::{Int8, Oid, Text};
    let view = |at: u32, name, columns, rows| VirtualTable {
        oid: FIRST_OID + at,
        schema: SCHEMA,
        name,
        columns,
        rows,
    };
    let of_databases = vec![("name", Text), ("replication_factor", Int8)];
    let of_tables = vec![
        ("id", Oid),
        ("schema", Text),
        ("name", Text),
        ("sharding", Text),
        ("shards", Int8),
        ("shard_by", Text),
        ("replication_factor", Int8),
        ("start_key", Text),
        ("end_key", Text),
    ];
    let of_buckets = vec![
        ("table_id", Oid),
        ("bucket", Int8),
        ("shard_group", Text),
        ("start_key", Text),
        ("end_key", Text),
    ];
    [
        view(0, "databases", of_databases, databases),
        view(1, "tables", of_tables, all_tables),
        view(2, "buckets", of_buckets, buckets),
    ]
    .into_iter()
}

/// NULL: as the cluster says.
fn factor(factor: Option<u8>) -> Datum {
    factor.map_or(Datum::Null, |factor| Datum::Int8(factor.into()))
}

fn databases(ctx: &StatementContext) -> Result<Vec<Row>> {
    let databases = ctx.catalog.databases();
    let row =
        databases.map(|database| vec![text(&database.name), factor(database.replication_factor)]);
    Ok(row.collect())
}

fn all_tables(ctx: &StatementContext) -> Result<Vec<Row>> {
    let rows = ctx.catalog.tables(database(ctx)).map(|table| {
        let of_database = || ctx.catalog.database(table.database)?.replication_factor;
        let columns = table.sharding.columns().iter();
        let columns: Vec<&str> = columns.map(|at| table.columns[*at].name.as_str()).collect();
        let (start, end) = span(table, 0, 0);
        vec![
            oid(table.oid),
            text(&schema_name(&ctx.catalog, table.schema)),
            text(&table.name),
            text(table.sharding.name()),
            match table.sharding.buckets() {
                0 => Datum::Null,
                buckets => Datum::Int8(buckets.into()),
            },
            match columns.is_empty() {
                true => Datum::Null,
                false => text(&columns.join(",")),
            },
            factor(table.replication_factor.or_else(of_database)),
            start,
            end,
        ]
    });
    Ok(rows.collect())
}

fn buckets(ctx: &StatementContext) -> Result<Vec<Row>> {
    let rows = ctx.catalog.tables(database(ctx)).flat_map(|table| {
        let count = table.sharding.buckets();
        (0..count).map(move |bucket| {
            let group = match &table.sharding {
                Sharding::Directory { groups, .. } => match bucket.checked_sub(1) {
                    None => text("others"),
                    Some(at) => text(&groups[usize::from(at)].name),
                },
                _ => Datum::Null,
            };
            let (start, end) = span(table, bucket, count - 1);
            vec![
                oid(table.oid),
                Datum::Int8(bucket.into()),
                group,
                start,
                end,
            ]
        })
    });
    Ok(rows.collect())
}

/// Where the shards of a bucket begin and end; the first and the last one reach to the table's ends.
fn span(table: &Table, bucket: u16, last: u16) -> (Datum, Datum) {
    let id = table.data_id;
    let start = match bucket {
        0 => hex(&table_prefix(id)),
        bucket => hex(&bucket_prefix(id, bucket)),
    };
    let end = match bucket == last {
        true => id
            .checked_add(1)
            .map_or(Datum::Null, |next| hex(&table_prefix(next))),
        false => hex(&bucket_prefix(id, bucket + 1)),
    };
    (start, end)
}

fn hex(bytes: &[u8]) -> Datum {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text(&digits)
}
