//! A direct plan in words, for EXPLAIN.

use super::access::{AccessPath, Locator};
use super::query::{DirectQuery, Source};
use super::steps::Step;
use crate::table_codec::Access;

impl DirectQuery {
    /// Lines as PostgreSQL's EXPLAIN would have them: the last step first, what it reads indented.
    pub fn explain(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self.steps.iter().rev().filter_map(describe_step).collect();
        if self.locks_rows() {
            nodes.insert(0, "LockRows".to_string());
        }
        nodes.push(match &self.source {
            Source::OneRow => "Result".to_string(),
            Source::Table { path, .. } => path.describe(),
        });
        let indented = nodes.iter().enumerate().map(|(depth, node)| match depth {
            0 => format!("{node}  (direct)"),
            depth => format!("{}->  {node}", " ".repeat(6 * depth - 4)),
        });
        indented.collect()
    }
}

impl AccessPath {
    /// `Index Scan using t_pkey on t`.
    pub fn describe(&self) -> String {
        let table = self.codec.table();
        let direction = if self.reverse { " Backward" } else { "" };
        let index = match self.access {
            Access::Primary => table.primary_key.as_ref().map(|key| key.name.clone()),
            Access::Secondary(index) => Some(table.indexes[index].name.clone()),
        };
        let bounded = match &self.locator {
            Locator::Points { .. } => true,
            Locator::Range {
                equal,
                lower,
                upper,
            } => !(equal.is_empty() && lower.is_empty() && upper.is_empty()),
        };
        let buckets = match self.buckets() {
            None => String::new(),
            Some((read, all)) if self.merged => format!(" (buckets: {read} of {all}, merged)"),
            Some((read, all)) => format!(" (buckets: {read} of {all})"),
        };
        match index {
            Some(index) if bounded || self.access != Access::Primary => {
                format!(
                    "Index Scan{direction} using {index} on {}{buckets}",
                    table.name
                )
            }
            _ => format!("Seq Scan{direction} on {}{buckets}", table.name),
        }
    }
}

fn describe_step(step: &Step) -> Option<String> {
    Some(match step {
        Step::Project(_) => return None,
        Step::Filter(_) => "Filter".to_string(),
        Step::Sort(keys) => format!("Sort ({} keys)", keys.len()),
        Step::Limit { .. } => "Limit".to_string(),
        Step::Distinct(_) => "Unique".to_string(),
        Step::Aggregate(_) => "Aggregate".to_string(),
    })
}
