"""Backup, restore, migrate and move on PostgreSQL, from the command line."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import asyncpg
import pytest

from conveyor.model.settings import QueueSettings
from conveyor.store import migrate
from conveyor.store.postgres.opening import read_address
from conveyor.store.protocol import Store
from conveyor.store.queries import load_migrations
from conveyor.store.urls import make_keeper, make_store
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_draft, an_owner
from kit.everything import answers_of, fill_everything, rows_of
from kit.postgres import the_server

from .test_keeping import WRITER, bodies, program, read_numbers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .conftest import Terminal


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    url = the_server().url()
    monkeypatch.setenv("CONVEYOR_URL", url)
    return url


@pytest.fixture
def terminal(terminal: Terminal, url: str) -> Terminal:
    """One that means the PostgreSQL store."""
    return terminal


def ask(url: str, question: Callable[[Store], Awaitable[object]], clock: ManualClock | None = None) -> object:
    async def use() -> object:
        store = make_store(url, clock=clock)
        await store.open()
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(use())


async def send_one(store: Store) -> None:
    if not await store.list_queues():
        await store.create_queue("inbox", QueueSettings())
    await store.append([a_draft()])


def backlog(url: str) -> int:
    async def count(store: Store) -> int:
        return (await store.metrics("inbox")).backlog_messages

    found = ask(url, count)
    assert isinstance(found, int)
    return found


def by_sql(url: str, statement: str, *, schema: str | None = None) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        address = read_address(url)
        connection = await asyncpg.connect(address.dsn, server_settings={"search_path": schema or address.schema})
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


# Backup and restore


def test_a_backup_under_load_has_every_send_that_was_acknowledged_before(terminal: Terminal, url: str) -> None:
    ask(url, send_one)
    with program(WRITER, url, "a") as (_, a), program(WRITER, url, "b") as (_, b):
        before = {"a": read_numbers(a, 20), "b": read_numbers(b, 20)}
        terminal.ok("backup", "backup.db")
        read_numbers(a, 20)
    saved = bodies(terminal.folder / "backup.db")
    for name in ("a", "b"):
        here = [body[1] for body in saved if isinstance(body, list) and body[0] == name]
        assert here == list(range(len(here))), "a moment's prefix"
        assert len(here) > before[name]


def test_everything_comes_back(terminal: Terminal, url: str) -> None:
    clock = ManualClock()
    ask(url, fill_everything, clock)
    before, rows = ask(url, answers_of, clock), asyncio.run(rows_of(make_keeper(url)))
    facts = terminal.ok("backup", "backup.db", "--json").json
    assert facts["bytes"] == (terminal.folder / "backup.db").stat().st_size
    ask(url, lambda store: store.purge("inbox"), clock)
    facts = terminal.ok("restore", "backup.db", "--json").json
    assert re.fullmatch(rf"{read_address(url).schema}_before_\d{{14}}", facts["kept"])
    assert asyncio.run(rows_of(make_keeper(url))) == rows
    assert ask(url, answers_of, clock) == before
    aside = url.replace(f"schema={read_address(url).schema}", f"schema={facts['kept']}")
    [kept] = by_sql(aside, "SELECT count(*) FROM purged")
    assert kept[0] == 2, "what was there lies aside, as it was"
    ask(aside, lambda store: store.append([a_draft()]))
    assert backlog(aside) == 1, "and is a store still"


def test_a_backup_is_a_store_of_its_own(terminal: Terminal, url: str) -> None:
    ask(url, send_one)
    terminal.ok("backup", "backup.db")
    target = terminal.folder / "backup.db"
    assert target.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in terminal.folder.iterdir()} == {"backup.db"}
    connection = apsw.Connection(str(target))
    assert (connection.pragma("journal_mode"), connection.pragma("integrity_check")) == ("delete", "ok")
    connection.close()
    assert backlog(f"sqlite:///{target}") == 1
    terminal.ok("restore", "backup.db", "--url", "sqlite:///one.db")
    assert backlog(f"sqlite:///{terminal.folder}/one.db") == 1


def test_a_backup_of_a_file_is_restored_into_a_schema(terminal: Terminal, url: str) -> None:
    ask(f"sqlite:///{terminal.path}", send_one)
    terminal.ok("backup", "backup.db", "--url", "sqlite:///conveyor.db")
    assert terminal.ok("restore", "backup.db", "--json").json["kept"] is None
    assert backlog(url) == 1


def test_a_backup_replaces_a_file_by_force_only(terminal: Terminal, url: str) -> None:
    ask(url, send_one)
    Path("backup.db").write_text("precious", encoding="ascii")
    answer = terminal.run("backup", "backup.db")
    assert (answer.code, "there already [conflict]" in answer.err) == (1, True)
    assert Path("backup.db").read_text(encoding="ascii") == "precious"
    terminal.ok("backup", "backup.db", "--force")
    assert len(bodies(Path("backup.db"))) == 1


def test_a_backup_refuses_what_it_cannot_do_and_leaves_nothing(terminal: Terminal) -> None:
    assert "there is no store at" in terminal.run("backup", "backup.db").err
    assert "mkdir -p" in terminal.run("backup", "none/backup.db").err
    assert not list(terminal.folder.iterdir())


@pytest.mark.parametrize(
    ("source", "words"),
    [("none.db", "there is no file"), ("foreign.db", "no conveyor store"), ("garbage.db", "[store_corrupt]"), ("newer.db", "version 9999")],
)
def test_a_restore_refuses_a_source_and_leaves_the_store(terminal: Terminal, url: str, source: str, words: str) -> None:
    ask(url, send_one)
    terminal.ok("backup", "newer.db")
    apsw.Connection("foreign.db").execute("CREATE TABLE songs (name)")
    Path("garbage.db").write_bytes(b"garbage " * 1_000)
    apsw.Connection("newer.db").execute("INSERT INTO migrations VALUES (9999, 'x', 'x', 1)")
    answer = terminal.run("restore", source)
    assert (answer.code, words in answer.err) == (1, True), answer.err
    assert backlog(url) == 1


def test_a_restore_refuses_while_a_worker_lives(terminal: Terminal, url: str) -> None:
    ask(url, send_one)
    terminal.ok("backup", "backup.db")
    ask(url, send_one)
    ask(url, lambda store: store.register_owner(an_owner()))
    answer = terminal.run("restore", "backup.db")
    assert (answer.code, "in use by 1 living worker" in answer.err) == (1, True)
    assert backlog(url) == 2
    terminal.ok("restore", "backup.db", "--force")
    assert backlog(url) == 1


def test_a_restore_leaves_the_users_own_tables_alone(terminal: Terminal, url: str) -> None:
    ask(url, send_one)
    terminal.ok("backup", "backup.db")
    by_sql(url, "CREATE TABLE orders AS SELECT 1 AS n")
    terminal.ok("restore", "backup.db")
    assert by_sql(url, "SELECT n FROM orders")[0][0] == 1
    assert backlog(url) == 1


def test_forced_beside_a_process_its_writes_go_to_the_new_tables(terminal: Terminal, url: str) -> None:
    ask(url, send_one)
    terminal.ok("backup", "backup.db")
    with program(WRITER, url, "a") as (_, said):
        read_numbers(said, 5)
        terminal.ok("restore", "backup.db", "--force")
        at_least = backlog(url)
        for _ in range(100):  # what it has said so far may be of the time before
            read_numbers(said, 20)
            if backlog(url) >= at_least + 19:
                return
    pytest.fail("its sends are answered, and are not there")


def test_a_restore_over_a_store_that_was_moved_opens_it_again(terminal: Terminal, url: str) -> None:
    ask(url, send_one)
    terminal.ok("backup", "backup.db")
    terminal.ok("move", url, "sqlite:///moved.db")
    terminal.ok("restore", "backup.db")
    ask(url, send_one)
    assert backlog(url) == 2


# Migrate


def test_migrate_shows_what_is_due_and_runs_it(
    terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [each[1] for each in load_migrations("postgres")]
    assert [each["name"] for each in terminal.ok("migrate", "--plan", "--json").json] == names
    assert by_sql(url, f"SELECT to_regnamespace('{read_address(url).schema}')")[0][0] is None, "a plan makes nothing"
    assert terminal.ok("migrate", "--json").json == {"ran": names}
    shipped = load_migrations("postgres")
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "load_migrations", lambda _: [*shipped, (9999, "9999_more", "CREATE TABLE more (n integer)")])
        states = [(each["name"], each["state"]) for each in terminal.ok("migrate", "--status", "--json").json]
        assert states == [*((name, "applied") for name in names), ("9999_more", "due")]
        assert terminal.ok("migrate").out == "ran 9999_more\n"
    answer = terminal.run("migrate", "--status")
    assert (answer.code, "schema version 9999" in answer.err) == (1, True)
    assert re.search(r"9999 +9999_more +unknown", answer.out)
    assert terminal.run("migrate").code == 1


# Move


def test_a_move_and_what_it_says(terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(f"sqlite:///{terminal.path}", send_one)
    facts = terminal.ok("move", "sqlite:///conveyor.db", url, "--json").json
    assert (facts["tables"]["messages"]["rows"], len(facts["tables"]["messages"]["checksum"])) == (1, 32)
    answer = terminal.run("queues", "list", "--url", "sqlite:///conveyor.db")
    assert (answer.code, "was moved to `postgresql://127.0.0.1" in answer.err) == (1, True)
    assert "point CONVEYOR_URL there" in answer.err
    assert terminal.run("doctor", "--url", "sqlite:///conveyor.db").code == 1
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    answer = terminal.run("move", url, "sqlite:///back.db")
    assert re.search(r"^moved 1 message\(s\), .*\nthe source is closed: point CONVEYOR_URL to `sqlite:////", answer.out)
    assert backlog(f"sqlite:///{terminal.folder}/back.db") == 1


def test_no_credentials_are_left_behind(terminal: Terminal, url: str) -> None:
    ask(f"sqlite:///{terminal.path}", send_one)
    secret = url.replace("conveyor@", "conveyor:hunter2@")
    said = terminal.ok("move", "sqlite:///conveyor.db", secret).out
    refused = terminal.run("queues", "list", "--url", "sqlite:///conveyor.db").err
    assert "hunter2" not in said + refused
    assert b"hunter2" not in terminal.path.read_bytes()


def test_a_move_refuses_what_it_cannot_do(terminal: Terminal, url: str) -> None:
    assert "there is no store at `conveyor.db`" in terminal.run("move", "sqlite:///conveyor.db", url).err
    assert not terminal.path.exists()
    assert "lives in one process only" in terminal.run("move", "memory://", url).err
    ask(f"sqlite:///{terminal.path}", send_one)
    ask(f"sqlite:///{terminal.path}", lambda store: store.register_owner(an_owner()))
    answer = terminal.run("move", "sqlite:///conveyor.db", url, "--wait", "300ms")
    assert (answer.code, "in use by 1 living worker" in answer.err, "--wait" in answer.err) == (1, True, True)


def test_a_store_of_an_older_schema_is_migrated_first(
    terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(f"sqlite:///{terminal.path}", send_one)
    shipped = {dialect: load_migrations(dialect) for dialect in ("sqlite", "postgres")}
    monkeypatch.setattr(migrate, "load_migrations", lambda dialect: [*shipped[dialect], (9999, "9999_more", "SELECT 1")])
    answer = terminal.run("move", "sqlite:///conveyor.db", url)
    assert (answer.code, "conveyor migrate --url sqlite:///conveyor.db" in answer.err) == (1, True), answer.err


def test_a_keeper_says_where_without_credentials() -> None:
    keeper = make_keeper("postgresql://user:hunter2@db.internal/app?schema=belt")
    assert keeper.where == keeper.address == "postgresql://db.internal/app?schema=belt"
