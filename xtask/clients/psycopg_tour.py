"""A tour of PostgreSQL features through psycopg 3.

usage: psycopg_tour.py DSN
Prints one JSON line per step: {"step": name, "ok": bool, "optional": bool, "error": text}.
A step that fails does not stop the tour. An optional step is reported apart.
"""

import datetime as dt
import json
import math
import sys
import uuid
from contextlib import contextmanager
from decimal import Decimal

import psycopg
from psycopg.types.json import Json, Jsonb

DSN = sys.argv[1]


@contextmanager
def step(name, optional=False):
    """Runs the block with a fresh connection and reports how it went."""
    error = None
    try:
        with psycopg.connect(DSN, autocommit=True, connect_timeout=10) as connection:
            connection.execute("SET statement_timeout = '60s'")
            yield connection
    except Exception as caught:
        state = getattr(caught, "sqlstate", None)
        kind = type(caught).__name__
        error = f"{kind}{f' {state}' if state else ''}: {caught}".strip()
    print(json.dumps({"step": name, "ok": error is None, "optional": optional, "error": error}), flush=True)


def same(expected, found):
    assert_equal = expected == found or (
        isinstance(expected, (float, Decimal)) and math.isnan(expected) and math.isnan(found)
    )
    assert assert_equal and type(expected) is type(found), f"expected {expected!r}, got {found!r}"


UTC = dt.timezone.utc
U = uuid.UUID("2b1d8a6e-94f3-4c67-9a01-5d2f8c7e3b10")

# type → values that must come back as they went
VALUES = {
    "boolean": [True, False, None],
    "int2": [0, -32768, 32767, None],
    "int4": [0, -2147483648, 2147483647, None],
    "int8": [0, -9223372036854775808, 9223372036854775807, None],
    "float4": [0.0, 1.5, -0.25, math.inf, -math.inf, math.nan, None],
    "float8": [0.0, 0.1, -1e308, 5e-324, math.inf, math.nan, None],
    "numeric": [
        Decimal("0"),
        Decimal("-1.50"),
        Decimal("12345678901234567890.123456789012345678901234567890"),
        Decimal("1E-40"),
        Decimal("NaN"),
        None,
    ],
    "text": ["", "plain", "q'uo\"te\\", "ünïcödé 🐘", "a" * 10000, None],
    "varchar(20)": ["", "twenty characters ok", None],
    "char(5)": ["abcde", None],
    "bytea": [b"", b"\x00\x01\xfe\xff", bytes(range(256)), None],
    "date": [dt.date(1, 1, 1), dt.date(1970, 1, 1), dt.date(2026, 2, 28), dt.date(9999, 12, 31), None],
    "timestamp": [dt.datetime(1, 1, 1), dt.datetime(2026, 11, 24, 15, 30, 0, 123456), None],
    "timestamptz": [
        dt.datetime(1970, 1, 1, tzinfo=UTC),
        dt.datetime(2026, 11, 24, 15, 30, 0, 123456, tzinfo=UTC),
        None,
    ],
    "interval": [dt.timedelta(0), dt.timedelta(days=-3, seconds=4, microseconds=5), dt.timedelta(hours=30), None],
    "uuid": [U, None],
    "int4[]": [[], [1, None, -3], [[1, 2], [3, 4]], None],
    "int8[]": [[1, None, 9223372036854775807], None],
    "text[]": [[], ["", None, 'q"u,o{te}', "NULL", "back\\slash"], None],
    "numeric[]": [[Decimal("1.10"), None, Decimal("-2")], None],
    "timestamptz[]": [[dt.datetime(2026, 1, 1, 12, tzinfo=UTC), None], None],
    "uuid[]": [[U, None], None],
}
DOCUMENTS = [{"a": [1, 2.5, None, True], "b": {"c": "ü"}}, [], "text", 5, None]

with step("connect; parameters of the session") as c:
    same("UTF8", c.info.parameter_status("client_encoding"))
    same("on", c.info.parameter_status("standard_conforming_strings"))
    assert int(c.info.parameter_status("server_version").split(".")[0]) >= 14
    same((1,), c.execute("SELECT 1").fetchone())

for binary in (False, True):
    mode = "binary" if binary else "text"
    for type_name, values in VALUES.items():
        with step(f"{type_name}, {mode}") as c:
            c.execute("SET TIME ZONE 'UTC'")
            c.execute(f"DROP TABLE IF EXISTS tour_value; CREATE TABLE tour_value (id int PRIMARY KEY, v {type_name})")
            placeholder = "%b" if binary else "%t"
            with c.cursor(binary=binary) as cursor:
                for number, value in enumerate(values):
                    cursor.execute(
                        f"INSERT INTO tour_value VALUES (%s, {placeholder}::{type_name})"
                        if value is not None
                        else "INSERT INTO tour_value VALUES (%s, %s)",
                        (number, value),
                    )
                    cursor.execute("SELECT v FROM tour_value WHERE id = %s", (number,))
                    same(value, cursor.fetchone()[0])
    for type_name, wrapper in (("json", Json), ("jsonb", Jsonb)):
        with step(f"{type_name}, {mode}") as c:
            c.execute(f"DROP TABLE IF EXISTS tour_value; CREATE TABLE tour_value (id int PRIMARY KEY, v {type_name})")
            with c.cursor(binary=binary) as cursor:
                for number, value in enumerate(DOCUMENTS):
                    cursor.execute("INSERT INTO tour_value VALUES (%s, %s)", (number, wrapper(value)))
                    cursor.execute("SELECT v FROM tour_value WHERE id = %s", (number,))
                    same(value, cursor.fetchone()[0])

with step("prepared statements") as c:
    c.execute("DROP TABLE IF EXISTS tour; CREATE TABLE tour (id int PRIMARY KEY, name text)")
    for number in range(20):
        c.execute("INSERT INTO tour VALUES (%s, %s)", (number, f"name {number}"), prepare=True)
    for number in range(20):
        same((f"name {number}",), c.execute("SELECT name FROM tour WHERE id = %s", (number,), prepare=True).fetchone())
    c.execute("DEALLOCATE ALL")
    same((20,), c.execute("SELECT count(*) FROM tour").fetchone())

with step("executemany") as c:
    with c.cursor() as cursor:
        cursor.execute("DELETE FROM tour")
        cursor.executemany("INSERT INTO tour VALUES (%s, %s)", [(n, str(n)) for n in range(500)])
        same(500, cursor.rowcount)
        cursor.executemany("INSERT INTO tour VALUES (%s, %s) RETURNING id", [(1000, "a"), (1001, "b")], returning=True)
        got = [cursor.fetchone()]
        while cursor.nextset():
            got.append(cursor.fetchone())
        same([(1000,), (1001,)], got)

with step("error in a transaction, ROLLBACK, reuse") as c:
    c.execute("BEGIN")
    c.execute("INSERT INTO tour VALUES (2000, 'lost')")
    try:
        c.execute("INSERT INTO tour VALUES (0, 'twice')")
        raise AssertionError("a duplicate key went in")
    except psycopg.errors.UniqueViolation as error:
        same("tour_pkey", error.diag.constraint_name)
        same("tour", error.diag.table_name)
    try:
        c.execute("SELECT 1")
        raise AssertionError("a failed transaction went on")
    except psycopg.errors.InFailedSqlTransaction:
        pass
    c.execute("ROLLBACK")
    same((0,), c.execute("SELECT count(*) FROM tour WHERE id = 2000").fetchone())

with step("savepoints") as c:
    with c.transaction():
        c.execute("INSERT INTO tour VALUES (3000, 'kept')")
        try:
            with c.transaction():
                c.execute("INSERT INTO tour VALUES (3001, 'undone')")
                c.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            pass
        with c.transaction("named"):
            c.execute("INSERT INTO tour VALUES (3002, 'kept too')")
    same([(3000,), (3002,)], c.execute("SELECT id FROM tour WHERE id >= 3000 ORDER BY id").fetchall())

with step("server-side cursor with fetch size") as c:
    with c.transaction():
        with c.cursor(name="tour_cursor") as cursor:
            cursor.itersize = 37
            cursor.execute("SELECT id FROM tour WHERE id < 500 ORDER BY id")
            same([(n,) for n in range(500)], list(cursor))
        with c.cursor(name="again") as cursor:
            cursor.execute("SELECT id FROM tour WHERE id < 500 ORDER BY id")
            same([(0,), (1,)], cursor.fetchmany(2))
            same((2,), cursor.fetchone())

with step("scrollable cursor", optional=True) as c:
    with c.transaction():
        with c.cursor(name="scroll", scrollable=True) as cursor:
            cursor.execute("SELECT id FROM tour WHERE id < 500 ORDER BY id")
            cursor.scroll(100, mode="absolute")
            same((100,), cursor.fetchone())
            cursor.scroll(-11)
            same((90,), cursor.fetchone())

with step("rows streamed one by one") as c:
    with c.cursor() as cursor:
        same(list(range(500)), [row[0] for row in cursor.stream("SELECT id FROM tour WHERE id < 500 ORDER BY id")])

with step("pipeline mode") as c:
    with c.pipeline() as pipeline:
        cursors = [c.execute("SELECT %s::int + 1", (n,)) for n in range(100)]
        pipeline.sync()
        same([(n + 1,) for n in range(100)], [cursor.fetchone() for cursor in cursors])

with step("pipeline mode, an error in the middle") as c:
    try:
        with c.pipeline():
            c.execute("INSERT INTO tour VALUES (4000, 'before')")
            c.execute("INSERT INTO tour VALUES (0, 'twice')")
            c.execute("INSERT INTO tour VALUES (4001, 'after')")
        raise AssertionError("a duplicate key went in")
    except psycopg.errors.UniqueViolation:
        pass
    # Everything up to the Sync is one implicit transaction.
    same([], c.execute("SELECT id FROM tour WHERE id >= 4000").fetchall())

ROWS = [(n, None if n % 7 == 0 else f"tab\t, comma, \"quote\" and\nnewline {n}") for n in range(1000)]
for options, optional in (("", False), (" (FORMAT csv)", False), (" (FORMAT binary)", True)):
    with step(f"COPY in and out{options or ' (text)'}", optional=optional) as c:
        c.execute("DROP TABLE IF EXISTS tour_copy; CREATE TABLE tour_copy (id int PRIMARY KEY, v text)")
        with c.cursor() as cursor:
            if "csv" in options:
                import csv
                import io

                text = io.StringIO()
                for number, value in ROWS:
                    quoted = "" if value is None else '"' + value.replace('"', '""') + '"'
                    text.write(f"{number},{quoted}\n")
                with cursor.copy(f"COPY tour_copy FROM STDIN{options}") as copy:
                    copy.write(text.getvalue())
                with cursor.copy(f"COPY (SELECT * FROM tour_copy ORDER BY id) TO STDOUT{options}") as copy:
                    got = b"".join(bytes(block) for block in copy).decode()
                back = [(int(a), b or None) for a, b in csv.reader(io.StringIO(got))]
                same(ROWS, back)
            else:
                with cursor.copy(f"COPY tour_copy FROM STDIN{options}") as copy:
                    if "binary" in options:
                        copy.set_types(["int4", "text"])
                    for row in ROWS:
                        copy.write_row(row)
                same(1000, cursor.rowcount)
                same(ROWS, c.execute("SELECT * FROM tour_copy ORDER BY id").fetchall())
                with cursor.copy(f"COPY (SELECT * FROM tour_copy ORDER BY id) TO STDOUT{options}") as copy:
                    copy.set_types(["int4", "text"])
                    same(ROWS, list(copy.rows()))

with step("COPY in with a bad row leaves nothing behind") as c:
    c.execute("TRUNCATE tour_copy")
    try:
        with c.cursor() as cursor, cursor.copy("COPY tour_copy FROM STDIN") as copy:
            copy.write("1\tone\nnot a number\ttwo\n")
        raise AssertionError("a bad row went in")
    except psycopg.errors.InvalidTextRepresentation:
        pass
    same((0,), c.execute("SELECT count(*) FROM tour_copy").fetchone())

with step("COPY in given up by the client") as c:
    try:
        with c.cursor() as cursor, cursor.copy("COPY tour_copy FROM STDIN") as copy:
            copy.write("1\tone\n")
            raise KeyError("changed my mind")
    except KeyError:
        pass
    same((0,), c.execute("SELECT count(*) FROM tour_copy").fetchone())

with step("INSERT … ON CONFLICT … RETURNING") as c:
    same((0, "new"), c.execute(
        "INSERT INTO tour VALUES (0, 'new') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id, name"
    ).fetchone())

with step("cancel a running statement") as c:
    import threading

    timer = threading.Timer(0.5, c.cancel)
    timer.start()
    try:
        c.execute("SELECT pg_sleep(20)")
        raise AssertionError("the statement was not cancelled")
    except psycopg.errors.QueryCanceled:
        pass
    finally:
        timer.join()
    same((1,), c.execute("SELECT 1").fetchone())

with step("several statements in one message") as c:
    cursor = c.execute("SELECT 1; SELECT 2, 3")
    same((1,), cursor.fetchone())
    assert cursor.nextset()
    same((2, 3), cursor.fetchone())

with step("columns of a result: names and type ids") as c:
    cursor = c.execute("SELECT 1::int8 AS a, 'x'::text AS \"B c\", 1.5::numeric(6,2), now()")
    same(["a", "B c", "numeric", "now"], [d.name for d in cursor.description])
    same([20, 25, 1700, 1184], [d.type_code for d in cursor.description])

with step("clean up") as c:
    c.execute("DROP TABLE IF EXISTS tour, tour_copy, tour_value")
