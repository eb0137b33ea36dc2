"""Large values on SQLite: they lie apart, so that nobody who looks for a small one reads them, whoever wrote them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import apsw
import pytest

from conveyor.store import migrate
from conveyor.store.queries import load_migrations
from conveyor.store.records import KeyValue
from conveyor.store.sqlite import SQLiteStore
from conveyor.store.sqlite.transaction import SQL
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import an_entry

pytestmark = pytest.mark.anyio

MOST_INLINE = 4_096
SMALL, LARGE = os.urandom(MOST_INLINE), os.urandom(MOST_INLINE + 1)
HUGE_BYTES = 1_000_000
MANY = 200
# What a release that does not know of `kv_large` runs.
FORMER_GET = "SELECT key, value, metadata, expires_at FROM kv WHERE namespace = ? AND key = ?"
FORMER_PUT = "INSERT OR REPLACE INTO kv (namespace, key, value, metadata, expires_at) VALUES (?, ?, ?, ?, ?)"
FORMER_DELETE = "DELETE FROM kv WHERE namespace = ? AND key = ? RETURNING expires_at"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, clock: ManualClock) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, clock=clock)
    await store.open()
    yield store
    await store.close()


def ask(path: Path, text: str, *values: str | bytes | int | None) -> Sequence[tuple[object, ...]]:
    """As another process of the store would."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(60_000)
    try:
        return connection.execute(text, values).fetchall()
    finally:
        connection.close()


def lying_apart(path: Path) -> list[object]:
    """The keys in `kv_large`. Nothing large lies in `kv`, and of nothing large one half only."""
    assert ask(path, "SELECT key FROM kv WHERE length(value) > ?", MOST_INLINE) == []
    found = [key for (key,) in ask(path, "SELECT key FROM kv_large ORDER BY key")]
    assert found == [key for (key,) in ask(path, "SELECT key FROM kv WHERE typeof(value) = 'text' ORDER BY key")]
    return found


def pages_of(store: SQLiteStore) -> int:
    """Pages that the store's connection has asked for since it was last asked."""
    connection = store._live._connection
    assert connection is not None
    counters = (apsw.SQLITE_DBSTATUS_CACHE_HIT, apsw.SQLITE_DBSTATUS_CACHE_MISS)
    return sum(connection.status(each, True)[0] for each in counters)


async def use_small_ones(store: SQLiteStore) -> int:
    """Put, get, list and delete them one by one; the pages touched."""
    pages_of(store)
    names = [f"k{number:03}" for number in range(MANY)]
    for name in names:
        await store.kv_put("ns", an_entry(key=name, metadata=b"{}"))
    for name in names:
        await store.kv_put("ns", an_entry(key=name, value=b"green"))
        assert await store.kv_get("ns", name) is not None
    assert len(await store.kv_list("ns", prefix="", limit=1_000, after=None)) >= MANY
    for name in names:
        assert await store.kv_delete("ns", name)
    return pages_of(store)


async def test_small_values_beside_large_ones_cost_no_page_more(store: SQLiteStore, clock: ManualClock) -> None:
    """Every lookup in a large tree of keys met some of them, and read each that it met."""
    alone = await use_small_ones(store)
    large = [f"k{number:03}x" for number in range(0, MANY, 40)]
    for name in large:
        await store.kv_put("ns", an_entry(key=name, value=os.urandom(HUGE_BYTES), expires_at=clock.now_ms() + 9_000))
    beside = await use_small_ones(store)
    assert beside <= 1.5 * alone, f"{alone} pages alone, {beside} beside large values"


async def test_what_lies_apart_comes_back_and_goes_with_its_key(
    store: SQLiteStore, path: Path, clock: ManualClock
) -> None:
    entries = [
        KeyValue(key=key, value=value, metadata=b"{}", expires_at=clock.now_ms() + 1_000)
        for key, value in (("large", LARGE), ("other", LARGE), ("small", SMALL), ("third", LARGE))
    ]
    for entry in entries:
        await store.kv_put("ns", entry)
        assert await store.kv_get("ns", entry.key) == entry
    assert lying_apart(path) == ["large", "other", "third"]
    await store.kv_put("ns", grown := an_entry(key="small", value=LARGE[::-1]))
    await store.kv_put("ns", again := an_entry(key="other", value=LARGE[::-1]))
    await store.kv_put("ns", shrunk := an_entry(key="third", value=b""))
    assert [await store.kv_get("ns", each.key) for each in (grown, again, shrunk)] == [grown, again, shrunk]
    assert lying_apart(path) == ["large", "other", "small"]
    assert await store.kv_delete("ns", "small")
    await clock.advance(1)
    assert (await store.sweep()).kv_entries == 1
    assert lying_apart(path) == ["other"]


async def test_a_release_that_does_not_know_fails_rather_than_read_wrong(store: SQLiteStore, path: Path) -> None:
    await store.kv_put("ns", an_entry(key="large", value=LARGE))
    await store.kv_put("ns", an_entry(key="small", value=SMALL))
    assert ask(path, FORMER_GET, "ns", "small") == [("small", SMALL, None, None)]
    with pytest.raises(UnicodeDecodeError):
        ask(path, FORMER_GET, "ns", "large")


async def test_what_such_a_release_writes_is_right(store: SQLiteStore, path: Path) -> None:
    for key in ("deleted", "large", "small"):
        await store.kv_put("ns", an_entry(key=key, value=LARGE))
    ask(path, FORMER_PUT, "ns", "small", SMALL, None, None)
    ask(path, FORMER_PUT, "ns", "large", LARGE[::-1], b"{}", None)
    ask(path, FORMER_PUT, "ns", "new", LARGE, None, None)
    assert ask(path, FORMER_DELETE, "ns", "deleted") == [(None,)]
    assert lying_apart(path) == ["large", "new"]
    assert await store.kv_get("ns", "small") == an_entry(key="small", value=SMALL)
    assert await store.kv_get("ns", "large") == an_entry(key="large", value=LARGE[::-1], metadata=b"{}")
    assert await store.kv_get("ns", "new") == an_entry(key="new", value=LARGE)
    assert await store.kv_get("ns", "deleted") is None


async def test_a_migration_lays_apart_what_is_there(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = load_migrations("sqlite")
    until = clock.now_ms() + 9_000
    with monkeypatch.context() as former:
        former.setattr(migrate, "load_migrations", lambda _: [each for each in shipped if each[0] < 16])
        store = SQLiteStore(path, clock=clock)
        await store.open()
        await store.close()
    values = {"a": SMALL, "b": LARGE, "c": b"", "d": LARGE[::-1]}
    for key, value in values.items():
        ask(path, FORMER_PUT, "ns", key, value, b"{}", until)
    store = SQLiteStore(path, clock=clock)
    await store.open()
    assert lying_apart(path) == ["b", "d"]
    for key, value in values.items():
        assert await store.kv_get("ns", key) == KeyValue(key=key, value=value, metadata=b"{}", expires_at=until)
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    await store.close()


@pytest.mark.parametrize("name", ["kv_get", "kv_put", "kv_delete", "kv_list", "sweep_kv", "export_kv"])
async def test_statements_walk_their_keys(store: SQLiteStore, path: Path, name: str) -> None:
    connection = apsw.Connection(str(path))
    values: dict[str, apsw.SQLiteValue] = dict.fromkeys(
        ("namespace", "key", "value", "metadata", "expires_at", "now", "after", "prefix", "limit"), 0
    )
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)]
    connection.close()
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    assert not [
        step for step in plan if step.startswith("SCAN") and name != "export_kv" and "CONSTANT ROW" not in step
    ], plan
