//! `pg_catalog` and `information_schema` as virtual tables: rows made from the catalog on demand.

mod attributes;
mod constraints;
pub mod definitions;
pub mod deparse;
mod dependencies;
pub mod indexes;
mod information_schema;
pub mod keywords;
pub mod names;
pub mod relations;
mod server;
mod shard_views;
pub mod value;

use crate::context::StatementContext;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use types::{Result, Row, SqlType};

/// A relation whose rows are computed, not stored.
pub struct VirtualTable {
    pub oid: u32,
    /// `pg_catalog`, `information_schema` or `phantom`.
    pub schema: &'static str,
    pub name: &'static str,
    pub columns: Vec<(&'static str, SqlType)>,
    pub rows: fn(&StatementContext) -> Result<Vec<Row>>,
}

/// The virtual tables by schema and name.
#[derive(Default)]
pub struct VirtualTables {
    by_name: BTreeMap<&'static str, BTreeMap<&'static str, Arc<VirtualTable>>>,
}

impl VirtualTables {
    pub fn add(&mut self, table: VirtualTable) {
        self.by_name
            .entry(table.schema)
            .or_default()
            .insert(table.name, Arc::new(table));
    }

    pub fn lookup(&self, schema: &str, name: &str) -> Option<&Arc<VirtualTable>> {
        self.by_name.get(schema)?.get(name)
    }

    pub fn by_oid(&self, oid: u32) -> Option<&Arc<VirtualTable>> {
        self.iter().find(|table| table.oid == oid)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<VirtualTable>> {
        self.by_name.values().flat_map(BTreeMap::values)
    }
}

/// All virtual tables; made once.
pub fn virtual_tables() -> Arc<VirtualTables> {
    static ALL: OnceLock<Arc<VirtualTables>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut tables = definitions::build(COMPUTED);
        crate::cluster::tables().for_each(|table| tables.add(table));
        shard_views::tables().for_each(|table| tables.add(table));
        Arc::new(tables)
    })
    .clone()
}

/// The relations whose rows come from the catalog, the session or the instance.
const COMPUTED: &[(&str, &str, definitions::RowsFunction)] = &[
    ("pg_catalog", "pg_class", relations::pg_class),
    ("pg_catalog", "pg_attribute", attributes::pg_attribute),
    ("pg_catalog", "pg_attrdef", attributes::pg_attrdef),
    ("pg_catalog", "pg_index", indexes::pg_index),
    ("pg_catalog", "pg_constraint", constraints::pg_constraint),
    ("pg_catalog", "pg_sequence", relations::pg_sequence),
    ("pg_catalog", "pg_description", dependencies::pg_description),
    ("pg_catalog", "pg_depend", dependencies::pg_depend),
    ("pg_catalog", "pg_rewrite", dependencies::pg_rewrite),
    ("pg_catalog", "pg_namespace", server::pg_namespace),
    ("pg_catalog", "pg_database", server::pg_database),
    ("pg_catalog", "pg_roles", server::pg_roles),
    ("pg_catalog", "pg_authid", server::pg_authid),
    ("pg_catalog", "pg_user", server::pg_user),
    ("pg_catalog", "pg_shadow", server::pg_shadow),
    ("pg_catalog", "pg_shdescription", server::pg_shdescription),
    ("pg_catalog", "pg_extension", server::pg_extension),
    ("pg_catalog", "pg_settings", server::pg_settings),
    ("pg_catalog", "pg_stat_activity", server::pg_stat_activity),
    ("pg_catalog", "pg_tables", server::pg_tables),
    ("pg_catalog", "pg_indexes", server::pg_indexes),
    ("pg_catalog", "pg_views", server::pg_views),
    ("pg_catalog", "pg_sequences", server::pg_sequences),
    (
        "pg_catalog",
        "pg_stat_user_tables",
        server::pg_stat_user_tables,
    ),
    (
        "pg_catalog",
        "pg_stat_all_tables",
        server::pg_stat_all_tables,
    ),
    ("pg_catalog", "pg_timezone_names", server::pg_timezone_names),
    (
        "information_schema",
        "information_schema_catalog_name",
        information_schema::catalog_name_rows,
    ),
    (
        "information_schema",
        "schemata",
        information_schema::schemata,
    ),
    ("information_schema", "tables", information_schema::tables),
    ("information_schema", "columns", information_schema::columns),
    (
        "information_schema",
        "table_constraints",
        information_schema::table_constraints,
    ),
    (
        "information_schema",
        "key_column_usage",
        information_schema::key_column_usage,
    ),
    (
        "information_schema",
        "constraint_column_usage",
        information_schema::constraint_column_usage,
    ),
    (
        "information_schema",
        "constraint_table_usage",
        information_schema::constraint_table_usage,
    ),
    (
        "information_schema",
        "referential_constraints",
        information_schema::referential_constraints,
    ),
    (
        "information_schema",
        "check_constraints",
        information_schema::check_constraints,
    ),
    ("information_schema", "views", information_schema::views),
    (
        "information_schema",
        "sequences",
        information_schema::sequences,
    ),
];
