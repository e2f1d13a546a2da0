//! The catalog queries behind the backslash commands and completion.

/// What `\dt`, `\di`, `\ds`, `\dv` list.
pub fn relations(kinds: &str, pattern: Option<&str>) -> String {
    let kinds: Vec<String> = kinds.chars().map(|kind| format!("'{kind}'")).collect();
    let table = if kinds == ["'i'"] {
        ", t.relname AS \"Table\""
    } else {
        ""
    };
    let join = if table.is_empty() {
        ""
    } else {
        "LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid \
         LEFT JOIN pg_catalog.pg_class t ON t.oid = x.indrelid "
    };
    format!(
        "SELECT n.nspname AS \"Schema\", c.relname AS \"Name\", \
         CASE c.relkind WHEN 'r' THEN 'table' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' \
         WHEN 'v' THEN 'view' ELSE 'other' END AS \"Type\", \
         pg_catalog.pg_get_userbyid(c.relowner) AS \"Owner\"{table} \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace {join}\
         WHERE c.relkind IN ({}) \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast'){} \
         ORDER BY 1, 2",
        kinds.join(", "),
        name_filter("c.relname", pattern),
    )
}

pub fn databases() -> String {
    "SELECT d.datname AS \"Name\", pg_catalog.pg_get_userbyid(d.datdba) AS \"Owner\", \
     pg_catalog.pg_encoding_to_char(d.encoding) AS \"Encoding\" \
     FROM pg_catalog.pg_database d ORDER BY 1"
        .to_string()
}

pub fn schemas(pattern: Option<&str>) -> String {
    format!(
        "SELECT n.nspname AS \"Name\", pg_catalog.pg_get_userbyid(n.nspowner) AS \"Owner\" \
         FROM pg_catalog.pg_namespace n \
         WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'{} ORDER BY 1",
        name_filter("n.nspname", pattern)
    )
}

pub fn roles(pattern: Option<&str>) -> String {
    format!(
        "SELECT r.rolname AS \"Role\", r.rolsuper AS \"Superuser\", \
         r.rolcanlogin AS \"Can log in\", r.rolcreatedb AS \"Creates databases\", \
         r.rolcreaterole AS \"Creates roles\" \
         FROM pg_catalog.pg_roles r WHERE r.rolname NOT LIKE 'pg\\_%'{} ORDER BY 1",
        name_filter("r.rolname", pattern)
    )
}

/// The object id and kind of a relation named as in SQL: case folds unless quoted.
pub fn find_relation(name: &str) -> String {
    let mut parts = split_name(name);
    let relation = parts.pop().unwrap_or_default();
    let place = match parts.pop() {
        Some(schema) => format!("n.nspname = {}", literal(&schema)),
        None => "pg_catalog.pg_table_is_visible(c.oid)".to_string(),
    };
    format!(
        "SELECT c.oid, c.relkind, n.nspname, c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname = {} AND {place} ORDER BY 3, 4",
        literal(&relation)
    )
}

pub fn columns(oid: &str) -> String {
    format!(
        "SELECT a.attname AS \"Column\", \
         pg_catalog.format_type(a.atttypid, a.atttypmod) AS \"Type\", \
         CASE WHEN a.attnotnull THEN 'not null' ELSE '' END AS \"Nullable\", \
         COALESCE(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') AS \"Default\" \
         FROM pg_catalog.pg_attribute a \
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    )
}

/// Name, and what psql says of it: `PRIMARY KEY, btree (id)`.
pub fn indexes_of(oid: &str) -> String {
    format!(
        "SELECT pg_catalog.quote_ident(c.relname), CASE WHEN x.indisprimary THEN 'PRIMARY KEY, ' \
         WHEN k.conname IS NOT NULL THEN 'UNIQUE CONSTRAINT, ' \
         WHEN x.indisunique THEN 'UNIQUE, ' ELSE '' END \
         || substring(pg_catalog.pg_get_indexdef(x.indexrelid) FROM ' USING (.*)') \
         FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid \
         LEFT JOIN pg_catalog.pg_constraint k \
         ON k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x') \
         WHERE x.indrelid = {oid} ORDER BY x.indisprimary DESC, c.relname"
    )
}

/// Check and foreign key constraints; keys show as indexes.
pub fn constraints_of(oid: &str) -> String {
    format!(
        "SELECT conname, pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint \
         WHERE conrelid = {oid} AND contype IN ('c', 'f') ORDER BY contype, conname"
    )
}

pub fn references_to(oid: &str) -> String {
    format!(
        "SELECT c.relname, o.conname, pg_catalog.pg_get_constraintdef(o.oid) \
         FROM pg_catalog.pg_constraint o JOIN pg_catalog.pg_class c ON c.oid = o.conrelid \
         WHERE o.confrelid = {oid} AND o.contype = 'f' ORDER BY 1, 2"
    )
}

/// Names to complete: tables, their columns, schemas.
pub fn names() -> String {
    "SELECT c.relname FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'v', 'S') AND n.nspname <> 'pg_toast' \
     UNION SELECT a.attname FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v') \
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
     UNION SELECT nspname FROM pg_catalog.pg_namespace"
        .to_string()
}

fn name_filter(column: &str, pattern: Option<&str>) -> String {
    match pattern {
        None => String::new(),
        Some(pattern) => {
            let like = pattern
                .to_lowercase()
                .replace('\\', "\\\\")
                .replace('_', "\\_")
                .replace('*', "%")
                .replace('?', "_");
            format!(" AND {column} LIKE {}", literal(&like))
        }
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `public."My Table"` as its parts.
fn split_name(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            ('"', Some(part)) if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            ('"', _) => quoted = !quoted,
            ('.', _) if !quoted => parts.push(String::new()),
            (c, Some(part)) if quoted => part.push(c),
            (c, Some(part)) => part.extend(c.to_lowercase()),
            (_, None) => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_and_quote() {
        assert_eq!(split_name("Public.\"My \"\"T\""), ["public", "My \"T"]);
        assert_eq!(name_filter("c", Some("or_d*'")), " AND c LIKE 'or\\_d%'''");
    }
}
