//! `pg_catalog` and `information_schema` as virtual tables: rows made from the catalog on demand.

use crate::context::StatementContext;
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
