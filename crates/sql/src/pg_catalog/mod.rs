//! `pg_catalog` and `information_schema` as virtual tables: rows made from the catalog on demand.

pub mod keywords;
pub mod names;

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
    ALL.get_or_init(Arc::default).clone()
}
