//! The run-time parameters that exist, with their kinds and defaults.

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// Whole number within bounds.
    Integer(i64, i64),
    /// Milliseconds by default; takes units.
    Milliseconds,
    Real,
    Text,
    /// One of these words.
    Enum(&'static [&'static str]),
    TimeZone,
    DateStyle,
    /// Can be shown only (55P02).
    Fixed,
}

pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    /// Told to the client in ParameterStatus when it changes.
    pub reported: bool,
}

const fn silent(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition {
        name,
        kind,
        default,
        reported: false,
    }
}

const fn reported(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition {
        name,
        kind,
        default,
        reported: true,
    }
}

const ISOLATION_LEVELS: Kind = Kind::Enum(&[
    "read uncommitted",
    "read committed",
    "repeatable read",
    "serializable",
]);
const MESSAGE_LEVELS: Kind = Kind::Enum(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error",
]);

/// Those that change what this program does.
const EFFECTIVE: &[Definition] = &[
    reported("application_name", Kind::Text, ""),
    reported(
        "client_encoding",
        Kind::Enum(&["utf8", "utf-8", "unicode", "sql_ascii"]),
        "UTF8",
    ),
    silent("client_min_messages", MESSAGE_LEVELS, "notice"),
    silent(
        "default_transaction_isolation",
        ISOLATION_LEVELS,
        "read committed",
    ),
    reported("default_transaction_read_only", Kind::Bool, "off"),
    silent(
        "idle_in_transaction_session_timeout",
        Kind::Milliseconds,
        "0",
    ),
    silent("idle_session_timeout", Kind::Milliseconds, "0"),
    silent("lock_timeout", Kind::Milliseconds, "0"),
    reported("search_path", Kind::Text, "\"$user\", public"),
    silent("statement_timeout", Kind::Milliseconds, "0"),
    reported("timezone", Kind::TimeZone, "Etc/UTC"),
    silent("transaction_isolation", ISOLATION_LEVELS, "read committed"),
    silent("transaction_read_only", Kind::Bool, "off"),
];

/// Those that tell a fact.
const FIXED: &[Definition] = &[
    silent("fsync", Kind::Fixed, "on"),
    reported("in_hot_standby", Kind::Fixed, "off"),
    reported("integer_datetimes", Kind::Fixed, "on"),
    reported("is_superuser", Kind::Fixed, "on"),
    silent("lc_collate", Kind::Fixed, "C"),
    silent("lc_ctype", Kind::Fixed, "C.UTF-8"),
    silent("max_identifier_length", Kind::Fixed, "63"),
    silent("max_index_keys", Kind::Fixed, "32"),
    reported("server_encoding", Kind::Fixed, "UTF8"),
    reported("server_version", Kind::Fixed, "15.0"),
    silent("server_version_num", Kind::Fixed, "150000"),
    silent("wal_level", Kind::Fixed, "replica"),
];

/// Those that clients send and that change nothing here: their one sensible value is what this
/// program does anyway, or they steer a planner that it does not have.
const ACCEPTED: &[Definition] = &[
    silent("array_nulls", Kind::Bool, "on"),
    silent("backslash_quote", Kind::Text, "safe_encoding"),
    silent("bytea_output", Kind::Enum(&["hex"]), "hex"),
    silent("check_function_bodies", Kind::Bool, "on"),
    silent("constraint_exclusion", Kind::Text, "partition"),
    silent("cursor_tuple_fraction", Kind::Real, "0.1"),
    reported("datestyle", Kind::DateStyle, "ISO, MDY"),
    silent("default_table_access_method", Kind::Text, "heap"),
    silent("default_tablespace", Kind::Text, ""),
    silent(
        "default_text_search_config",
        Kind::Text,
        "pg_catalog.simple",
    ),
    silent("default_toast_compression", Kind::Text, "pglz"),
    silent("default_transaction_deferrable", Kind::Bool, "off"),
    silent("effective_cache_size", Kind::Text, "4GB"),
    silent("enable_bitmapscan", Kind::Bool, "on"),
    silent("enable_hashagg", Kind::Bool, "on"),
    silent("enable_hashjoin", Kind::Bool, "on"),
    silent("enable_indexonlyscan", Kind::Bool, "on"),
    silent("enable_indexscan", Kind::Bool, "on"),
    silent("enable_material", Kind::Bool, "on"),
    silent("enable_mergejoin", Kind::Bool, "on"),
    silent("enable_nestloop", Kind::Bool, "on"),
    silent("enable_seqscan", Kind::Bool, "on"),
    silent("enable_sort", Kind::Bool, "on"),
    silent("escape_string_warning", Kind::Bool, "on"),
    silent("extra_float_digits", Kind::Integer(-15, 3), "1"),
    silent("force_parallel_mode", Kind::Text, "off"),
    silent("geqo", Kind::Bool, "on"),
    reported("intervalstyle", Kind::Enum(&["postgres"]), "postgres"),
    silent("jit", Kind::Bool, "off"),
    silent("lc_messages", Kind::Text, "C"),
    silent("lc_monetary", Kind::Text, "C"),
    silent("lc_numeric", Kind::Text, "C"),
    silent("lc_time", Kind::Text, "C"),
    silent("log_min_duration_statement", Kind::Text, "-1"),
    silent("log_min_messages", Kind::Text, "warning"),
    silent("log_statement", Kind::Text, "none"),
    silent("maintenance_work_mem", Kind::Text, "64MB"),
    silent(
        "max_parallel_workers_per_gather",
        Kind::Integer(0, 1024),
        "2",
    ),
    silent(
        "password_encryption",
        Kind::Enum(&["scram-sha-256"]),
        "scram-sha-256",
    ),
    silent("plan_cache_mode", Kind::Text, "auto"),
    silent("quote_all_identifiers", Kind::Bool, "off"),
    silent("random_page_cost", Kind::Real, "4"),
    silent("row_security", Kind::Bool, "on"),
    silent(
        "session_replication_role",
        Kind::Enum(&["origin"]),
        "origin",
    ),
    reported("standard_conforming_strings", Kind::Enum(&["on"]), "on"),
    silent("synchronize_seqscans", Kind::Bool, "on"),
    silent("synchronous_commit", Kind::Text, "on"),
    silent("temp_buffers", Kind::Text, "8MB"),
    silent("transaction_deferrable", Kind::Bool, "off"),
    silent("transaction_timeout", Kind::Milliseconds, "0"),
    silent("vacuum_freeze_min_age", Kind::Text, "50000000"),
    silent("work_mem", Kind::Text, "4MB"),
    silent("xmlbinary", Kind::Text, "base64"),
    silent("xmloption", Kind::Text, "content"),
];

pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    EFFECTIVE.iter().chain(FIXED).chain(ACCEPTED)
}

/// Finds a parameter by its lower-case name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    definitions().find(|definition| definition.name == name)
}

/// PostgreSQL spells three of them with capitals.
pub fn display_name(name: &'static str) -> &'static str {
    match name {
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        "timezone" => "TimeZone",
        other => other,
    }
}
