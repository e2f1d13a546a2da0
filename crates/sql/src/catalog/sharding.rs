//! How a table's rows are spread over shards, as its descriptor says it.
//!
//! [`Sharding`] is what `WITH (sharding = …)` asked for, with columns as positions, so that a rename changes
//! nothing. The strategy itself is [`sharding::ShardingStrategy`]; what the cluster manager is to make of
//! it is the table's [`TableRule`].

use super::Catalog;
use super::descriptor::{PRIMARY_INDEX_ID, Table};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sharding::strategy::{Consistent, Directory, Hash};
use sharding::{ShardingStrategy, TableRule};
use types::{Datum, Error, FormatContext, Result, SqlState, SqlType, key};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Sharding {
    /// Keys in the order of the primary key. Shards are to begin before these values of its first column, as
    /// text.
    Range {
        split_at: Vec<String>,
    },
    /// By these columns of the primary key.
    Hash {
        columns: Vec<usize>,
        buckets: u16,
    },
    Consistent {
        columns: Vec<usize>,
        buckets: u16,
    },
    Directory {
        column: usize,
        groups: Vec<ShardGroup>,
    },
}

/// Values that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardGroup {
    pub name: String,
    /// As text.
    pub values: Vec<String>,
}

impl Default for Sharding {
    fn default() -> Self {
        Sharding::Range {
            split_at: Vec::new(),
        }
    }
}

impl Sharding {
    pub fn name(&self) -> &'static str {
        match self {
            Sharding::Range { .. } => "range",
            Sharding::Hash { .. } => "hash",
            Sharding::Consistent { .. } => "consistent",
            Sharding::Directory { .. } => "directory",
        }
    }

    /// Positions of the columns that decide a row's bucket; none: there are no buckets.
    pub fn columns(&self) -> &[usize] {
        match self {
            Sharding::Range { .. } => &[],
            Sharding::Hash { columns, .. } | Sharding::Consistent { columns, .. } => columns,
            Sharding::Directory { column, .. } => std::slice::from_ref(column),
        }
    }

    /// How many buckets stand in the keys; 0: none.
    pub fn buckets(&self) -> u16 {
        match self {
            Sharding::Range { .. } => 0,
            Sharding::Hash { buckets, .. } | Sharding::Consistent { buckets, .. } => *buckets,
            Sharding::Directory { groups, .. } => groups.len() as u16 + 1,
        }
    }

    /// It asks for nothing.
    pub fn is_default(&self) -> bool {
        *self == Sharding::default()
    }
}

impl Table {
    /// What puts its rows in buckets; `None`: nothing does. 22P02 if a group's value is not one of the
    /// column's type.
    pub fn bucket_strategy(&self) -> Result<Option<Box<dyn ShardingStrategy>>> {
        Ok(match &self.sharding {
            Sharding::Range { .. } => None,
            Sharding::Hash { buckets, .. } => Some(Box::new(Hash::new(*buckets))),
            Sharding::Consistent { buckets, .. } => Some(Box::new(Consistent::new(*buckets))),
            Sharding::Directory { column, groups } => {
                let encoded = |group: &ShardGroup| -> Result<Vec<Vec<u8>>> {
                    let values = group.values.iter();
                    values.map(|text| self.key_value(*column, text)).collect()
                };
                let groups: Vec<Vec<Vec<u8>>> =
                    groups.iter().map(encoded).collect::<Result<_>>()?;
                let directory = Directory::new(groups).ok_or_else(|| {
                    Error::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        "a value is in two shard groups, or there are too many",
                    )
                    .hint("Each value belongs to one group.")
                })?;
                Some(Box::new(directory))
            }
        })
    }

    /// A column's value as it stands in a key.
    fn key_value(&self, position: usize, text: &str) -> Result<Vec<u8>> {
        let column = self
            .columns
            .get(position)
            .ok_or_else(|| Error::internal("a shard column is not in its table"))?;
        let mut value = Datum::parse_text(text, &column.sql_type, &FormatContext::default())?;
        if let (SqlType::Char(_), Datum::Text(text)) = (&column.sql_type, &value) {
            value = Datum::Text(text.trim_end_matches(' ').into());
        }
        let mut out = Vec::new();
        key::encode(&mut out, &value, false, false);
        Ok(out)
    }

    /// The keys before which shards are to begin within a table without buckets. 22P02 if a value is not one
    /// of the first key column's type.
    pub fn split_keys(&self) -> Result<Vec<Bytes>> {
        let (Sharding::Range { split_at }, Some(primary)) = (&self.sharding, &self.primary_key)
        else {
            return Ok(Vec::new());
        };
        let prefix = key::index_prefix(self.data_id, PRIMARY_INDEX_ID);
        let first = primary.columns.first().copied().unwrap_or_default();
        let key_of = |text: &String| -> Result<Bytes> {
            Ok([&prefix[..], &self.key_value(first, text)?].concat().into())
        };
        split_at.iter().map(key_of).collect()
    }

    /// What the table asks of its shards.
    pub fn rule(&self, catalog: &Catalog) -> Result<TableRule> {
        let of_database = || catalog.database(self.database)?.replication_factor;
        let strategy = self.bucket_strategy()?;
        Ok(TableRule {
            buckets: self.sharding.buckets(),
            split_at: self.split_keys()?,
            separate: self.replication_factor.is_some(),
            placement: strategy
                .map(|strategy| strategy.placement())
                .unwrap_or_default(),
            replication_factor: self.replication_factor.or_else(of_database),
        })
    }

    /// All `WITH (…)` options as one would write them.
    pub fn shown_options(&self) -> Vec<(String, String)> {
        let mut shown = self.options.clone();
        let mut show = |name: &str, value: String| shown.push((name.to_owned(), value));
        if !self.sharding.is_default() {
            show("sharding", self.sharding.name().to_owned());
        }
        match &self.sharding {
            Sharding::Range { split_at } if split_at.is_empty() => {}
            Sharding::Range { split_at } => show("split_at", json(split_at)),
            Sharding::Hash { buckets, .. } | Sharding::Consistent { buckets, .. } => {
                show("shards", buckets.to_string());
            }
            Sharding::Directory { .. } => {}
        }
        let columns = self.sharding.columns();
        let primary = self.primary_key.as_ref().map(|key| &key.columns[..]);
        if !columns.is_empty() && Some(columns) != primary {
            let names = columns.iter().map(|at| self.columns[*at].name.as_str());
            show("shard_by", names.collect::<Vec<_>>().join(","));
        }
        if let Sharding::Directory { groups, .. } = &self.sharding {
            let groups = groups.iter().map(|group| {
                let values = serde_json::Value::from(group.values.clone());
                (group.name.clone(), values)
            });
            let groups: serde_json::Map<String, serde_json::Value> = groups.collect();
            show("shard_groups", serde_json::Value::from(groups).to_string());
        }
        if let Some(factor) = self.replication_factor {
            show("replication_factor", factor.to_string());
        }
        shown
    }
}

fn json(values: &[String]) -> String {
    serde_json::Value::from(values.to_vec()).to_string()
}

#[cfg(test)]
mod tests {
    use crate::catalog::descriptor::{Descriptor, Table};

    /// What was written before there were strategies is a table without one.
    #[test]
    fn old_descriptors_are_ranges() {
        let old = r#"{"Table": {"oid": 20000, "database": 1, "schema": 1, "name": "t", "owner": 1,
            "version": 1, "data_id": 500, "columns": [], "primary_key": null, "indexes": [],
            "checks": [], "foreign_keys": [], "next_index_id": 2, "comment": null,
            "options": [["fillfactor", "70"]]}}"#;
        let Ok(Descriptor::Table(table)) = serde_json::from_str(old) else {
            panic!("the old form is read");
        };
        let rule = table.rule(&Default::default()).expect("nothing to parse");
        assert!(rule.is_empty());
        assert_eq!(table.sharding.buckets(), 0);
        assert_eq!(table.shown_options(), [("fillfactor".into(), "70".into())]);
        let now = serde_json::to_string(&table).expect("a descriptor is JSON");
        let again: Table = serde_json::from_str(&now).expect("what was just written");
        assert_eq!(again, table);
    }
}
