//! `WITH (sharding = …, replication_factor = …)`: reading the options, and what a sharded table must keep to.
//!
//! | option | with | says |
//! | --- | --- | --- |
//! | `sharding` | | `range` (default), `hash`, `consistent` or `directory` |
//! | `shards` | hash, consistent | how many buckets, each a shard; 16 if not given |
//! | `shard_by` | all but range | columns of the primary key that decide the bucket: all of them if not given; one for a directory |
//! | `shard_groups` | directory | JSON: `{"eu": ["de", "fr"], "us": ["us"]}` |
//! | `split_at` | range | JSON: values of the first key column before which shards begin, `[1000, 2000]` |
//! | `replication_factor` | | copies of each shard: 1, 3, 5 or 7; also by ALTER TABLE and ALTER DATABASE |

use crate::catalog::descriptor::{IndexKey, Table};
use crate::catalog::sharding::{ShardGroup, Sharding};
use serde_json::Value;
use sharding::strategy::MAX_BUCKETS;
use types::{Error, Result, SqlState};

/// Buckets of a table that does not say how many: some for each node of a usual cluster.
const DEFAULT_BUCKETS: u16 = 16;
/// What replication factors may be: with an even one a shard survives no more failures than with one less.
const REPLICATION_FACTORS: [u8; 4] = [1, 3, 5, 7];

const SHARDING: &str = "sharding";
const SHARDS: &str = "shards";
const SHARD_BY: &str = "shard_by";
const SHARD_GROUPS: &str = "shard_groups";
const SPLIT_AT: &str = "split_at";
pub(super) const REPLICATION_FACTOR: &str = "replication_factor";

/// Options that are in the keys, and so for ever.
const LASTING: [&str; 5] = [SHARDING, SHARDS, SHARD_BY, SHARD_GROUPS, SPLIT_AT];

fn invalid(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Moves the options about shards out of a new table's options to its fields. Its columns and keys are there.
pub(super) fn take_options(table: &mut Table) -> Result<()> {
    let mut take = |name: &str| -> Option<String> {
        let at = table.options.iter().position(|(key, _)| key == name)?;
        Some(table.options.remove(at).1)
    };
    let strategy = take(SHARDING);
    let given = [SHARDS, SHARD_BY, SHARD_GROUPS, SPLIT_AT].map(&mut take);
    if let Some(factor) = take(REPLICATION_FACTOR) {
        table.replication_factor = replication_factor(&factor)?;
    }
    let [shards, by, groups, split_at] = given;
    let strategy = strategy
        .unwrap_or_else(|| "range".into())
        .to_ascii_lowercase();
    let refused: &[(&str, bool)] = match strategy.as_str() {
        "range" => &[
            (SHARDS, shards.is_some()),
            (SHARD_BY, by.is_some()),
            (SHARD_GROUPS, groups.is_some()),
        ],
        "hash" | "consistent" => &[
            (SHARD_GROUPS, groups.is_some()),
            (SPLIT_AT, split_at.is_some()),
        ],
        "directory" => &[(SHARDS, shards.is_some()), (SPLIT_AT, split_at.is_some())],
        _ => {
            return Err(invalid(format!(
                "invalid value for option \"{SHARDING}\": \"{strategy}\""
            ))
            .hint("Valid values are \"range\", \"hash\", \"consistent\" and \"directory\"."));
        }
    };
    if let Some((option, _)) = refused.iter().find(|(_, given)| *given) {
        return Err(invalid(format!(
            "option \"{option}\" does not go with {SHARDING} = '{strategy}'"
        ))
        .hint(match *option {
            SHARDS => "It goes with sharding = 'hash' and 'consistent'.",
            SHARD_BY => "It goes with sharding = 'hash', 'consistent' and 'directory'.",
            SHARD_GROUPS => "It goes with sharding = 'directory'.",
            _ => "It goes with sharding = 'range'.",
        }));
    }
    table.sharding = match strategy.as_str() {
        "hash" => Sharding::Hash {
            columns: shard_columns(table, by.as_deref())?,
            buckets: buckets(shards.as_deref())?,
        },
        "consistent" => Sharding::Consistent {
            columns: shard_columns(table, by.as_deref())?,
            buckets: buckets(shards.as_deref())?,
        },
        "directory" => directory(table, by.as_deref(), groups.as_deref())?,
        _ => Sharding::Range {
            split_at: split_values(split_at.as_deref())?,
        },
    };
    Ok(())
}

/// A changed option of a table that exists. `false`: it is none of these.
pub(super) fn change_option(table: &mut Table, name: &str, value: &str) -> Result<bool> {
    if LASTING.contains(&name) {
        return Err(
            Error::unsupported(format!("changing \"{name}\" of a table")).hint(
                "It is in the key of every row. Make a new table with it, and copy the rows.",
            ),
        );
    }
    if name != REPLICATION_FACTOR {
        return Ok(false);
    }
    table.replication_factor = replication_factor(value)?;
    Ok(true)
}

/// `default`: `None`.
pub(super) fn replication_factor(text: &str) -> Result<Option<u8>> {
    if text.eq_ignore_ascii_case("default") {
        return Ok(None);
    }
    let factor = text.trim().parse().ok();
    match factor.filter(|factor| REPLICATION_FACTORS.contains(factor)) {
        Some(factor) => Ok(Some(factor)),
        None => Err(invalid(format!(
            "invalid value for option \"{REPLICATION_FACTOR}\": \"{text}\""
        ))
        .hint("Valid values are 1, 3, 5, 7, and default.")),
    }
}

fn buckets(text: Option<&str>) -> Result<u16> {
    let Some(text) = text else {
        return Ok(DEFAULT_BUCKETS);
    };
    let count = text.trim().parse().ok();
    count
        .filter(|count| (1..=MAX_BUCKETS).contains(count))
        .ok_or_else(|| {
            invalid(format!("invalid value for option \"{SHARDS}\": \"{text}\""))
                .hint(format!("Valid values are between 1 and {MAX_BUCKETS}."))
        })
}

/// The columns named, or all of the primary key.
fn shard_columns(table: &Table, by: Option<&str>) -> Result<Vec<usize>> {
    let Some(by) = by else {
        let primary = table.primary_key.as_ref();
        return Ok(primary.map(|key| key.columns.clone()).unwrap_or_default());
    };
    let mut columns = Vec::new();
    for name in by.split(',') {
        let name = name.trim();
        let name = match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
            Some(quoted) => quoted.to_owned(),
            None => name.to_lowercase(),
        };
        let position = table.column_position(&name).ok_or_else(|| {
            Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" named in \"{SHARD_BY}\" does not exist"),
            )
        })?;
        if columns.contains(&position) {
            return Err(invalid(format!(
                "column \"{name}\" is twice in \"{SHARD_BY}\""
            )));
        }
        columns.push(position);
    }
    Ok(columns)
}

fn directory(table: &Table, by: Option<&str>, groups: Option<&str>) -> Result<Sharding> {
    let columns = shard_columns(table, by)?;
    let [column] = columns[..] else {
        return Err(
            invalid(format!("{SHARDING} = 'directory' goes by one column"))
                .hint("Name it: shard_by = 'region'."),
        );
    };
    let groups = groups.ok_or_else(|| {
        invalid(format!("{SHARDING} = 'directory' needs \"{SHARD_GROUPS}\"")).hint(GROUPS_HINT)
    })?;
    let malformed =
        || invalid(format!("invalid value for option \"{SHARD_GROUPS}\"")).hint(GROUPS_HINT);
    let Ok(Value::Object(groups)) = serde_json::from_str(groups) else {
        return Err(malformed());
    };
    if groups.is_empty() || groups.len() >= usize::from(MAX_BUCKETS) {
        return Err(invalid(format!(
            "\"{SHARD_GROUPS}\" needs at least one group, and less than {MAX_BUCKETS}"
        )));
    }
    let mut list = Vec::with_capacity(groups.len());
    for (name, values) in groups {
        let values = texts(&values).ok_or_else(malformed)?;
        list.push(ShardGroup { name, values });
    }
    Ok(Sharding::Directory {
        column,
        groups: list,
    })
}

const GROUPS_HINT: &str = "Say which values belong together: shard_groups = '{\"eu\": [\"de\", \"fr\"], \"us\": [\"us\"]}'.";

fn split_values(text: Option<&str>) -> Result<Vec<String>> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let values: Option<Vec<String>> = serde_json::from_str(text).ok().as_ref().and_then(texts);
    values
        .filter(|values| values.len() < usize::from(MAX_BUCKETS))
        .ok_or_else(|| {
            invalid(format!("invalid value for option \"{SPLIT_AT}\"")).hint(
                "List values of the first column of the primary key: split_at = '[1000, 2000]'.",
            )
        })
}

/// The members of a JSON array as text; `None` if it is none, or one is no scalar.
fn texts(array: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    array.as_array()?.iter().map(text).collect()
}

/// What every definition of a table keeps to: the columns that decide a row's bucket are in the primary key, so
/// that a row is found by it, and in every unique key, so that equal ones meet in one bucket.
pub(super) fn check(table: &Table) -> Result<()> {
    if table.sharding.is_default() {
        return Ok(());
    }
    let strategy = table.sharding.name();
    let Some(primary) = &table.primary_key else {
        return Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!(
                "table \"{}\" with sharding = '{strategy}' needs a primary key",
                table.name
            ),
        )
        .hint("Rows are put in shards by columns of the primary key."));
    };
    let columns = table.sharding.columns();
    let outside = |key: &[usize]| columns.iter().find(|column| !key.contains(column)).copied();
    let name = |column: usize| table.columns[column].name.as_str();
    if let Some(column) = outside(&primary.columns) {
        return Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!(
                "column \"{}\" decides the shard of a row, so it must be part of the primary key",
                name(column)
            ),
        )
        .hint(format!(
            "Add it to the primary key: PRIMARY KEY ({}, …).",
            name(column)
        )));
    }
    for index in table.indexes.iter().filter(|index| index.unique) {
        let key = index.columns.iter().filter_map(|column| match &column.key {
            IndexKey::Column(position) => Some(*position),
            IndexKey::Expression(..) => None,
        });
        if let Some(column) = outside(&key.collect::<Vec<_>>()) {
            return Err(Error::unsupported(format!(
                "unique index \"{}\" without column \"{}\", which decides the shard of a row,",
                index.name,
                name(column)
            ))
            .hint(format!(
                "Add \"{}\" to the index, or use sharding = 'range' for the table.",
                name(column)
            )));
        }
    }
    table.bucket_strategy()?;
    table.split_keys().map(drop)
}
