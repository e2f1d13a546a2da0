use super::*;

fn parsed(sql: &str) -> String {
    match Statement::parse(sql) {
        Ok(statement) => format!("{statement:?}"),
        Err(error) => format!("{error}"),
    }
}

#[test]
fn session_statements() {
    let cases = [
        (
            "BEGIN",
            "Begin(TransactionModes { isolation: None, read_only: None, deferrable: None })",
        ),
        ("END;", "Commit { chain: false }"),
        ("ABORT", "Rollback { chain: false }"),
        ("rollback to savepoint \"A b\"", "RollbackTo(\"A b\")"),
        (
            "SET search_path TO a, \"B c\"",
            "Set { name: \"search_path\", value: Text(\"a, \\\"B c\\\"\"), local: false }",
        ),
        (
            "SET LOCAL lock_timeout = 500",
            "Set { name: \"lock_timeout\", value: Text(\"500\"), local: true }",
        ),
        (
            "SET TIME ZONE 'Europe/Berlin'",
            "Set { name: \"timezone\", value: Text(\"Europe/Berlin\"), local: false }",
        ),
        (
            "set x.y = default",
            "Set { name: \"x.y\", value: Default, local: false }",
        ),
        (
            "SHOW TRANSACTION ISOLATION LEVEL",
            "Show(\"transaction_isolation\")",
        ),
        (
            "vacuum analyze a, b.c",
            "Maintenance { tag: \"VACUUM\", relations: [(None, \"a\"), (Some(\"b\"), \"c\")] }",
        ),
        ("deallocate all", "Deallocate(None)"),
        ("", "Empty"),
        ("LISTEN x", "LISTEN is not supported yet (SQLSTATE 0A000)"),
        (
            "begin nonsense",
            "syntax error at or near \"nonsense\" (SQLSTATE 42601)",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(parsed(sql), expected, "{sql}");
    }
}

#[test]
fn copy_options_old_and_new() {
    let Ok(Statement::Copy(old)) =
        Statement::parse("COPY t (a, b) FROM STDIN WITH CSV HEADER NULL 'x'")
    else {
        panic!("not a COPY")
    };
    let Ok(Statement::Copy(new)) =
        Statement::parse("COPY t (a, b) FROM STDIN (FORMAT csv, HEADER true, NULL 'x')")
    else {
        panic!("not a COPY")
    };
    assert_eq!(old.options, new.options);
    assert!(matches!(
        Statement::parse("copy (select 1) to stdout").map(|s| matches!(s, Statement::Copy(_))),
        Ok(true)
    ));
}

#[test]
fn syntax_errors_point_at_the_word() {
    let error = Statement::parse("SELECT *\nFORM t").unwrap_err();
    assert_eq!(error.message, "syntax error at or near \"t\"");
    assert_eq!(error.fields.position, Some(15));
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(
        Statement::parse(&deep).unwrap_err().state,
        types::SqlState::STATEMENT_TOO_COMPLEX
    );
}
