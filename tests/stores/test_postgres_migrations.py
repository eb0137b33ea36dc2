"""Migrations on PostgreSQL: once, whoever starts; beside workers of the release before; and never for a newer schema."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from conveyor.model.errors import StoreBusyError, StoreError, StoreReadOnlyError, StoreUnsupportedError
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.store import migrate
from conveyor.store.postgres import PostgresStore, migrating
from conveyor.store.postgres.opening import read_address
from conveyor.store.postgres.visiting import visit
from conveyor.store.queries import load_migrations
from conveyor.testing.factories import a_claim, a_draft, an_ack, an_owner
from kit.postgres import the_server

pytestmark = pytest.mark.anyio

PROCESSES: Final = 8
NEXT: Final = """
CREATE TABLE more (n bigint PRIMARY KEY, note text NOT NULL);
ALTER TABLE messages ADD COLUMN more integer;
ALTER TABLE ready ADD COLUMN more integer NOT NULL DEFAULT 0;
ALTER TABLE queues ADD COLUMN more text;
CREATE INDEX messages_more ON messages (more) WHERE more IS NOT NULL;
"""

STARTER: Final = """
import asyncio, sys
from conveyor.store import migrate, queries
from conveyor.store.urls import make_store
from conveyor.testing.factories import an_owner
if len(sys.argv) > 2:
    shipped = queries.load_migrations("postgres")
    migrate.load_migrations = lambda _: [*shipped, (9999, "9999_more", sys.argv[2])]
async def start():
    store = make_store(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    print(await store.register_owner(an_owner()), flush=True)
    await store.close()
asyncio.run(start())
"""


@pytest.fixture
def url() -> str:
    return the_server().url()


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    address = read_address(url)
    connection = await asyncpg.connect(address.dsn, server_settings={"search_path": address.schema})
    yield connection
    await connection.close()


def release_next(monkeypatch: pytest.MonkeyPatch, text: str = NEXT) -> None:
    """From here on this process is of the next release."""
    shipped = load_migrations("postgres")
    monkeypatch.setattr(migrate, "load_migrations", lambda _: [*shipped, (9999, "9999_more", text)])


async def run_due(url: str) -> list[str]:
    address = read_address(url)
    async with visit(address) as connection:
        return [each.name for each in await migrating.migrate(connection, address)]


async def test_eight_processes_that_start_at_once_migrate_once(url: str, connection: asyncpg.Connection) -> None:
    for release in ([], [NEXT]):
        processes = [start(url, *release) for _ in range(PROCESSES)]
        for process in processes:
            assert said(process) == "ready"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        owners = {int(said(process)) for process in processes}
        assert len(owners) == PROCESSES
        assert [process.communicate(timeout=60)[1] for process in processes] == [b""] * PROCESSES
    rows = await connection.fetch("SELECT name FROM migrations ORDER BY number")
    assert [name for (name,) in rows] == [*[each[1] for each in load_migrations("postgres")], "9999_more"]
    assert await connection.fetchval("SELECT count(*) FROM store") == 1


def start(*arguments: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", STARTER, *arguments], stdin=pipe, stdout=pipe, stderr=pipe)


def said(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    assert line, process.communicate()[1].decode()
    return line


async def test_a_worker_of_the_release_before_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule: a migration only adds. What the old statements name stays, and what is new has a default."""
    old = PostgresStore(url)
    await old.open()
    await old.declare_consumer("inbox", ConsumerSettings(script="shop", dead_letter_queue="inbox-dlq"))
    done: list[int] = []
    is_migrated = asyncio.Event()

    async def work() -> None:
        """Sends, claims and acks without a pause, until well after the migration."""
        owner = await old.register_owner(an_owner())
        rest = 50
        while rest:
            rest -= is_migrated.is_set()
            await old.append([a_draft() for _ in range(3)])
            leases = (await old.claim(a_claim(owner=owner))).leases
            assert (await old.settle(owner, [an_ack(each) for each in leases])).lost == []
            done.extend(each.seq for each in leases)

    working = asyncio.create_task(work())
    while len(done) < 30:
        await old.clock.sleep(0.01)
        assert not working.done()
    release_next(monkeypatch)
    assert await run_due(url) == ["9999_more"]
    is_migrated.set()
    await working
    await old.create_queue("another", QueueSettings())
    await old.pause("another")
    await old.sweep()
    assert (await old.metrics("inbox")).backlog_messages == 0
    new = PostgresStore(url)
    await new.open()
    await new.append([a_draft()])
    assert (await old.metrics("inbox")).backlog_messages == 1
    await new.close()
    await old.close()


async def test_an_old_release_that_starts_anew_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        release_next(patched)
        await run_due(url)
    with pytest.raises(StoreUnsupportedError, match="schema version 9999, this release knows") as refused:
        await PostgresStore(url).open()
    assert "upgrade conveyor" in refused.value.hint


async def test_a_migration_lets_others_by_while_somebody_holds_a_table(
    url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.create_queue("inbox", QueueSettings())
    await connection.execute("BEGIN; SELECT count(*) FROM messages")  # a long report, which holds a lock until its end
    release_next(monkeypatch)
    migration = asyncio.create_task(run_due(url))
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = to_regclass($1)"
    table = f"{read_address(url).schema}.messages"
    while not await connection.fetchval(waits, table):
        assert not migration.done()
    await store.append([a_draft()])  # waits behind the migration, which steps aside
    assert not migration.done()
    await connection.execute("COMMIT")
    assert await migration == ["9999_more"]
    await store.close()


async def test_a_migration_gives_up_and_says_why(
    url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_due(url)
    monkeypatch.setattr(migrating, "PATIENCE_S", 0.0)
    release_next(monkeypatch)
    await connection.execute("BEGIN; SELECT count(*) FROM messages")
    with pytest.raises(StoreBusyError, match="kept .* from being migrated") as refused:
        await run_due(url)
    assert "conveyor doctor" in refused.value.hint
    await connection.execute("COMMIT")
    assert await run_due(url) == ["9999_more"]


async def test_a_migration_that_fails_changes_nothing(
    url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_due(url)
    with monkeypatch.context() as patched:
        release_next(patched, "CREATE TABLE more (n integer); CREATE TABLE more (n integer)")
        with pytest.raises(StoreError, match="already exists"):
            await run_due(url)
    assert await connection.fetchval("SELECT to_regclass('more')") is None
    assert await run_due(url) == []


async def test_another_form_of_a_migration_is_refused(url: str, connection: asyncpg.Connection) -> None:
    await run_due(url)
    await connection.execute("UPDATE migrations SET checksum = 'x' WHERE number = 1")
    with pytest.raises(StoreUnsupportedError, match="in another form"):
        await run_due(url)


async def test_who_may_not_make_a_schema_is_told(url: str, connection: asyncpg.Connection) -> None:
    await connection.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN; REVOKE ALL ON DATABASE postgres FROM PUBLIC")
    await connection.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
    with pytest.raises(StoreReadOnlyError, match="permission denied") as refused:
        await run_due(url.replace("conveyor@", "stranger@"))
    assert "CREATE in the database" in refused.value.hint


