"""Other people's SQL: it stays in its file, ends in time, answers within bounds, and does all or nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from conveyor.databases import engine
from conveyor.databases.engine import Statement, count_tables, make, run
from conveyor.model.beside import QueryError
from conveyor.model.errors import NotFoundError, StoreBusyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "databases" / "one.sqlite"
    make(path)
    ask(path, "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES ('x'), ('y'), ('z')")
    return path


def ticks() -> Iterator[float]:
    """A clock on which each look takes a millisecond."""
    return (number / 1000 for number in itertools.count())


def ask(path: Path, sql: str, *params: Any, seconds: float = 30) -> list[engine.Result]:
    clock = ticks()
    return run(path, [Statement(sql, list(params) or None)], lambda: next(clock), seconds=seconds)


def files(path: Path) -> set[str]:
    return {each.name for each in path.parent.parent.rglob("*") if each.is_file()}


def test_each_statement_has_its_result(path: Path) -> None:
    inserted, read, nothing = ask(
        path, "INSERT INTO t(b) VALUES ('w'); SELECT a, b FROM t WHERE a > 2; -- done\n; DELETE FROM t WHERE a = 9;"
    )
    assert (inserted.changes, inserted.last_row_id, inserted.rows) == (1, 4, [])
    assert (read.columns, read.rows, read.changes) == (["a", "b"], [[3, "z"], [4, "w"]], 0)
    assert (nothing.rows, nothing.changes) == ([], 0)
    assert all(each.size_after > 0 and each.duration_ms > 0 for each in (inserted, read, nothing))


def test_rows_that_are_walked_over_are_counted(path: Path) -> None:
    [scan] = ask(path, "SELECT * FROM t WHERE b = 'x'")
    [seek] = ask(path, "SELECT * FROM t WHERE a = 1")
    assert (scan.rows_read, seek.rows_read) == (3, 1)


@pytest.mark.parametrize("sql", ["", " ", "-- nothing", ";;", "/* */"])
def test_nothing_has_no_result(path: Path, sql: str) -> None:
    assert ask(path, sql) == []


def test_values_come_as_json_can_say_them(path: Path) -> None:
    [result] = ask(path, "SELECT ?, ?, ?, ?, ?, x'00ff', 1e999", None, 1.5, True, "ä", [1, 2])
    assert result.rows == [[None, 1.5, 1, "ä", [1, 2], [0, 255], None]]


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'other.sqlite' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'other.sqlite'",
        "SELECT load_extension('x.so')",
        "SELECT fts3_tokenizer('x', x'00')",
        "SELECT * FROM pragma_database_list",
        "PRAGMA database_list",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA temp_store_directory = '/'",
        "PRAGMA writable_schema = 1",
        "PRAGMA user_version = 7",
        "PRAGMA max_page_count = 1000000000",
        "PRAGMA main.journal_mode",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE a",
        "CREATE VIRTUAL TABLE v USING fts4(a)",
        "CREATE VIRTUAL TABLE v USING csv(filename='/etc/passwd')",
        "CREATE VIRTUAL TABLE v USING dbstat(main)",
        "UPDATE sqlite_schema SET sql = 'x'",
        "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, 'CREATE TABLE x(a)')",
        "CREATE TRIGGER g AFTER DELETE ON t BEGIN SELECT load_extension('x'); END; DELETE FROM t",
        "CREATE VIEW w AS SELECT load_extension('x'); SELECT * FROM w",
        "CREATE TABLE u(a DEFAULT (load_extension('x'))); INSERT INTO u DEFAULT VALUES",
    ],
)
def test_a_hostile_statement_stays_in_its_file(path: Path, sql: str) -> None:
    before = files(path)
    with pytest.raises(QueryError):
        ask(path, f"DELETE FROM t; {sql}")
    assert ask(path, "SELECT count(*) FROM t")[0].rows == [[3]]
    assert files(path) - before <= {"one.sqlite-wal", "one.sqlite-shm"}
    assert count_tables(path) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA table_info(t)",
        "PRAGMA table_list",
        "PRAGMA foreign_key_check",
        "PRAGMA quick_check",
        "PRAGMA user_version",
        "PRAGMA defer_foreign_keys = on",
        "SELECT * FROM pragma_table_info('t')",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
        "CREATE TEMP TABLE u(a)",
        "SELECT json_extract('[1]', '$[0]')",
    ],
)
def test_what_d1_allows_is_allowed(path: Path, sql: str) -> None:
    ask(path, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT count(*) FROM a",
        "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) INSERT INTO t(b) SELECT n FROM a WHERE n < 0",
    ],
)
def test_what_never_ends_is_ended(path: Path, sql: str) -> None:
    with pytest.raises(QueryError, match="ran longer than 1 s"):
        ask(path, f"DELETE FROM t; {sql}", seconds=1)
    assert ask(path, "SELECT count(*) FROM t")[0].rows == [[3]]


def test_an_answer_without_end_is_ended(path: Path) -> None:
    with pytest.raises(QueryError, match="LIMIT"):
        ask(path, "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT n FROM a", seconds=1e9)
    with pytest.raises(QueryError, match="LIMIT"):
        ask(
            path,
            "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT hex(zeroblob(900000)) FROM a",
            seconds=1e9,
        )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT zeroblob(2000001)",
        "SELECT printf('%2000001d', 1)",
        f"SELECT {'abs(' * 300}1{')' * 300}",
        f"SELECT {'1+' * 600_000}1",
    ],
)
def test_what_is_too_large_is_refused(path: Path, sql: str) -> None:
    with pytest.raises(QueryError):
        ask(path, sql)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM nope", "no such table: nope: SQLITE_ERROR"),
        ("SELEC 1", 'near "SELEC": syntax error: SQLITE_ERROR'),
        ("INSERT INTO t VALUES (1, 'x')", "UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT"),
        ("SELECT ?", "Wrong number of parameter bindings for SQL query."),
    ],
)
def test_errors_are_sqlites_words_and_name_no_path(path: Path, sql: str, said: str) -> None:
    with pytest.raises(QueryError) as caught:
        ask(path, sql)
    assert caught.value.message == said


@pytest.mark.parametrize("value", [2**63, {"a": 1}, [256], ["x"], "\ud800"])
def test_a_parameter_that_cannot_be_bound_is_refused(path: Path, value: object) -> None:
    with pytest.raises(QueryError):
        ask(path, "SELECT ?", value)


def test_foreign_keys_hold(path: Path) -> None:
    with pytest.raises(QueryError, match="FOREIGN KEY"):
        ask(path, "CREATE TABLE u(a REFERENCES t(a)); INSERT INTO u VALUES (99)")


def test_who_comes_while_another_writes_waits_and_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_MS", 10)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError):
        ask(path, "SELECT 1")
    other.execute("COMMIT")
    other.close()
    assert ask(path, "SELECT 1")[0].rows == [[1]]


def test_writers_at_once_lose_nothing(path: Path) -> None:
    threads = [
        threading.Thread(target=lambda: [ask(path, "INSERT INTO t(b) VALUES ('n')") for _ in range(10)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ask(path, "SELECT count(*) FROM t")[0].rows == [[43]]


def test_a_file_that_is_gone_is_not_made_anew(path: Path) -> None:
    path.unlink()
    with pytest.raises(NotFoundError):
        ask(path, "SELECT 1")
    assert not path.exists()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    with pytest.raises(NotFoundError):
        ask(link, "SELECT 1")
