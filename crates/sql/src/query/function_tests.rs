//! Aggregates and sets of our own, in queries.

use super::tests::World;

fn world() -> World {
    World::new(&[(
        "t",
        &[("id", "int4"), ("g", "text"), ("v", "int4")],
        &[
            &[Some("1"), Some("a"), Some("10")],
            &[Some("2"), Some("a"), Some("2")],
            &[Some("3"), Some("b"), None],
            &[Some("4"), Some("b"), Some("2")],
        ],
    )])
}

#[test]
fn collecting_aggregates() {
    let w = world();
    for (sql, wanted) in [
        (
            "SELECT g, json_agg(v ORDER BY id DESC) FROM t GROUP BY g ORDER BY g",
            vec!["a|[2, 10]", "b|[2, null]"],
        ),
        (
            "SELECT json_object_agg(id, v ORDER BY id) FROM t WHERE g = 'a'",
            vec!["{ \"1\" : 10, \"2\" : 2 }"],
        ),
        (
            "SELECT jsonb_object_agg(g || id, v) FROM t WHERE id < 3",
            vec!["{\"a1\": 10, \"a2\": 2}"],
        ),
        ("SELECT json_agg(v) FROM t WHERE false", vec![""]),
        (
            "SELECT json_agg(json_build_object('id', id, 'v', v) ORDER BY id) FROM t WHERE id < 3",
            vec!["[{\"id\" : 1, \"v\" : 10}, {\"id\" : 2, \"v\" : 2}]"],
        ),
        (
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY v), \
             percentile_disc(0.5) WITHIN GROUP (ORDER BY v DESC), \
             mode() WITHIN GROUP (ORDER BY v) FROM t",
            vec!["2|2|2"],
        ),
        (
            "SELECT regr_count(v, id), any_value(g) FROM t WHERE g = 'b'",
            vec!["1|b"],
        ),
        (
            "SELECT max(i), min(i) FROM (VALUES (interval '1 day'), (interval '30 hours')) x(i)",
            vec!["30:00:00|1 day"],
        ),
    ] {
        assert_eq!(
            w.rows(sql),
            Ok(wanted.into_iter().map(String::from).collect()),
            "{sql}"
        );
    }
}

#[test]
fn sets_of_the_registry() {
    let w = world();
    for (sql, wanted) in [
        (
            "SELECT * FROM jsonb_array_elements('[1, \"x\", null]')",
            vec!["1", "\"x\"", "null"],
        ),
        (
            "SELECT e, id FROM t, jsonb_array_elements_text('[1, null]') e WHERE id = 1",
            vec!["1|1", "|1"],
        ),
        (
            "SELECT jsonb_object_keys('{\"b\": 1, \"a\": 2}')",
            vec!["a", "b"],
        ),
        (
            "SELECT * FROM regexp_split_to_table('a b', ' ')",
            vec!["a", "b"],
        ),
        (
            "SELECT pg_typeof(1), pg_typeof('x'::text), pg_typeof(NULL::date)",
            vec!["23|25|1082"],
        ),
        (
            "SELECT extract(year FROM date '2024-02-03'), substring('hello' FROM 2 FOR 3)",
            vec!["2024|ell"],
        ),
    ] {
        assert_eq!(
            w.rows(sql),
            Ok(wanted.into_iter().map(String::from).collect()),
            "{sql}"
        );
    }
}
