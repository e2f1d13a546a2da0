//! What a plan is, for the session and for EXPLAIN.

use super::change::Find;
use super::insert::Source;
use super::{DmlPlan, Work};
use crate::context::StatementContext;
use txn::kv::LockMode;
use types::Datum;

impl DmlPlan {
    /// The keys that are locked in KeyShare while rows are written: those of the target and, if rows that
    /// others refer to may change, of the tables that refer to it.
    pub fn lock_keys(&self) -> impl Iterator<Item = &[u8]> {
        let adds_only = matches!(&self.work, Work::Insert(insert) if !insert.updates());
        let target = self.target.table.oid;
        let tables = self.set.tables();
        tables
            .filter(move |prepared| !adds_only || prepared.table.oid == target)
            .map(|prepared| &prepared.lock_key[..])
    }

    /// The key of the one row that it changes, and how it locks that. `None`: that is not known before it runs.
    pub fn point(
        &self,
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Option<(Vec<u8>, Option<LockMode>)> {
        let Work::Change(change) = &self.work else {
            return None;
        };
        let Find::Direct { path, .. } = &change.find else {
            return None;
        };
        Some((path.point_ahead(params, ctx)?, Some(change.mode)))
    }

    /// Rows are found without DataFusion.
    pub fn is_direct(&self) -> bool {
        match &self.work {
            Work::Insert(insert) => matches!(insert.source, Source::Values(_)),
            Work::Change(change) => matches!(change.find, Find::Direct { .. }),
        }
    }

    /// Lines as PostgreSQL's EXPLAIN would have them.
    pub fn explain(&self) -> Vec<String> {
        let verb = match self.command {
            "INSERT" => "Insert",
            "UPDATE" => "Update",
            _ => "Delete",
        };
        let source = match &self.work {
            Work::Insert(insert) => match &insert.source {
                Source::Values(rows) if rows.len() == 1 => "Result".to_string(),
                Source::Values(_) => "Values Scan".to_string(),
                Source::Query { .. } => "Query".to_string(),
            },
            Work::Change(change) => match &change.find {
                Find::Direct { path, .. } => path.describe(),
                _ => "Query".to_string(),
            },
        };
        let road = if self.is_direct() { "  (direct)" } else { "" };
        let table = &self.target.table.name;
        vec![
            format!("{verb} on {table}{road}"),
            format!("  ->  {source}"),
        ]
    }
}
