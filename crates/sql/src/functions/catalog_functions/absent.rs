//! Kinds of objects that do not exist here.

use super::*;

/// Functions about kinds of objects that do not exist here: their answer is NULL.
pub(super) fn absent(to: &mut Register<'_>) {
    let null: Evaluate = |_, _| Ok(Datum::Null);
    for name in [
        "pg_get_partkeydef",
        "pg_get_statisticsobjdef",
        "pg_get_statisticsobjdef_columns",
        "pg_get_functiondef",
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
        "pg_get_function_result",
        "pg_get_function_sqlbody",
        "pg_get_triggerdef",
        "pg_get_ruledef",
        "pg_tablespace_location",
        "pg_relation_filepath",
    ] {
        to.add(name, &[Oid], Text, null);
    }
    to.add("pg_get_triggerdef", &[Oid, Bool], Text, null);
    to.add("pg_get_ruledef", &[Oid, Bool], Text, null);
    to.add("pg_partition_root", &[Regclass], Regclass, null);
    to.add("pg_get_replica_identity_index", &[Regclass], Regclass, null);
    for name in ["inet_server_addr", "inet_client_addr"] {
        to.add(name, &[], Text, null);
    }
    for name in ["inet_server_port", "inet_client_port"] {
        to.add(name, &[], Int4, null);
    }
}
