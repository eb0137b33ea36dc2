"""The doctor before a real PostgreSQL server in each condition that it knows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import asyncpg
import pytest
from msgspec.structs import replace

from conveyor.doctor import Finding, Health, server
from conveyor.model.clock import SystemClock
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store import migrate
from conveyor.store.facts import Holder, ServerFacts, TableFacts
from conveyor.store.postgres import PostgresStore, checkup
from conveyor.store.postgres.opening import read_address
from conveyor.store.protocol import Store
from conveyor.store.queries import load_migrations
from conveyor.store.records import PULL_OWNER, KeyValue
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_claim, a_draft, a_schedule, an_owner
from kit.postgres import Server, free_port

if TYPE_CHECKING:
    from .conftest import Terminal

pytestmark = pytest.mark.anyio

HOUR_MS: Final = 3_600_000
SOUND: Final = {"wal_level": "logical", "max_prepared_transactions": "5", "max_connections": "30"}
"""As a server is installed, and with what the tests plant."""


@pytest.fixture(scope="module")
def sound() -> Iterator[Server]:
    """A server that keeps what it acknowledges."""
    server = Server()
    server.initialize()
    server.settings = dict(SOUND)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def url(sound: Server, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with one queue, which `terminal` means."""
    url = sound.url()
    monkeypatch.setenv("CONVEYOR_URL", url)
    monkeypatch.setattr(checkup, "HEARING_S", 60.0)  # a busy machine is not a pooler
    by_store(url, lambda store: store.create_queue("inbox", QueueSettings(max_backlog_messages=10)))
    return url


def by_store(url: str, question: Callable[[Store], Any], *, hours_ago: int = 0) -> None:
    """Through a store whose clock is so far behind."""

    async def use() -> None:
        clock = ManualClock(SystemClock().now_ms() - hours_ago * HOUR_MS)
        store = PostgresStore(url, clock=clock)
        await store.open()
        await question(store)
        await store.close()

    asyncio.run(use())


def by_sql(url: str, *statements: str) -> None:
    async def use() -> None:
        async with session(url) as connection:
            for statement in statements:
                await connection.execute(statement)

    asyncio.run(use())


@contextlib.asynccontextmanager
async def session(url: str, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    address = read_address(url)
    connection = await asyncpg.connect(address.dsn, server_settings={"search_path": address.schema, **settings})
    try:
        yield connection
    finally:
        await connection.close()


def findings(terminal: Terminal, *options: str) -> dict[str, dict[str, str]]:
    answer = terminal.run("doctor", "--json", *options)
    assert answer.code == (1 if answer.json["verdict"] == "problem" else 0), answer.err
    return {each["check"]: each for each in answer.json["checks"]}


async def findings_now(terminal: Terminal) -> dict[str, dict[str, str]]:
    """While this loop keeps something open."""
    return await asyncio.to_thread(findings, terminal)


def check(found: dict[str, dict[str, str]], name: str, verdict: str, words: str) -> None:
    assert (found[name]["verdict"], words in found[name]["found"]) == (verdict, True), found[name]
    assert found[name]["hint"]


def test_a_sound_server_passes_every_check(terminal: Terminal, url: str) -> None:
    found = findings(terminal)
    assert {name: each for name, each in found.items() if each["verdict"] != "ok"} == {}
    assert len(found) == 19
    assert "0 problem(s), 0 warning(s), 19 ok" in terminal.run("doctor").out


def test_the_doctor_makes_nothing(terminal: Terminal, sound: Server) -> None:
    url = sound.url()
    found = findings(terminal, "--url", url)
    assert found["schema"]["verdict"] == "problem"

    async def count() -> int:
        async with session(url) as connection:
            return int(await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", read_address(url).schema))

    assert asyncio.run(count()) == 0


# What the server is set to


@pytest.mark.parametrize(
    ("setting", "value", "name", "verdict", "words"),
    [
        ("fsync", "off", "durability", "problem", "fsync is off"),
        ("full_page_writes", "off", "durability", "problem", "full_page_writes is off"),
        ("synchronous_commit", "off", "durability", "problem", "loses sends and verdicts"),
        ("default_transaction_read_only", "on", "access", "problem", "every send and verdict fails"),
        ("autovacuum", "off", "vacuum", "problem", "autovacuum is off"),
    ],
)
def test_a_setting_that_does_harm(
    terminal: Terminal, url: str, setting: str, value: str, name: str, verdict: str, words: str
) -> None:
    configure(url, setting, value)
    try:
        check(findings(terminal), name, verdict, words)
    finally:
        configure(url, setting, None)
    assert findings(terminal)[name]["verdict"] == "ok"


def configure(url: str, setting: str, value: str | None) -> None:
    """For the whole server; returns once a new session has it."""

    async def use() -> None:
        async with session(url) as plain:
            before = await plain.fetchval(f"SHOW {setting}")
        async with session(url, default_transaction_read_only="off") as connection:
            reset = f"ALTER SYSTEM RESET {setting}" if value is None else f"ALTER SYSTEM SET {setting} TO {value}"
            await connection.execute(reset)
            await connection.execute("SELECT pg_reload_conf()")
        while True:
            async with session(url) as another:
                if await another.fetchval(f"SHOW {setting}") != before:
                    return

    asyncio.run(use())


@pytest.mark.parametrize("whose", ["ROLE conveyor", "DATABASE postgres"])
def test_a_setting_of_the_role_or_database_counts(terminal: Terminal, url: str, whose: str) -> None:
    by_sql(url, f"ALTER {whose} SET synchronous_commit TO off")
    try:
        check(findings(terminal), "durability", "problem", "synchronous_commit is off")
    finally:
        by_sql(url, f"ALTER {whose} RESET synchronous_commit")


# Who holds what


async def test_a_transaction_that_holds_the_horizon_is_named(
    terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HELD_MS_MAX", -1)
    async with session(url, application_name="a report") as reporter:
        await reporter.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM messages")
        pid = reporter.get_server_pid()
        found = await findings_now(terminal)
        check(found, "horizon", "warning", f'pid {pid}, user conveyor, application "a report"')
        assert "transactions back" in found["horizon"]["found"]
        assert "pg_terminate_backend" in found["horizon"]["hint"]


async def test_a_session_idle_in_a_transaction_is_named(
    terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_MS_MAX", -1)
    async with session(url, application_name="a shell") as shell:
        await shell.execute("BEGIN; SELECT 1")
        found = await findings_now(terminal)
        check(found, "idle transactions", "warning", 'application "a shell"')
        assert found["horizon"]["verdict"] == "ok", "it holds locks, but no snapshot"


async def test_a_prepared_transaction_is_named(
    terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HELD_MS_MAX", -1)
    async with session(url) as connection:
        await connection.execute("BEGIN; CREATE TABLE left_over (n integer); PREPARE TRANSACTION 'half done'")
        try:
            check(await findings_now(terminal), "horizon", "warning", 'prepared transaction "half done"')
        finally:
            await connection.execute("ROLLBACK PREPARED 'half done'")


async def test_a_slot_that_nobody_reads_is_named(terminal: Terminal, url: str) -> None:
    async with session(url) as connection:
        await connection.execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        try:
            check(await findings_now(terminal), "horizon", "warning", 'idle replication slot "forgotten"')
        finally:
            await connection.execute("SELECT pg_drop_replication_slot('forgotten')")


async def test_a_role_that_may_not_see_others_says_so(terminal: Terminal, url: str) -> None:
    schema = read_address(url).schema
    async with session(url) as connection:
        await connection.execute(
            f"DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN; GRANT USAGE ON SCHEMA {schema} TO plain;"
            f" GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO plain"
        )
        os.environ["CONVEYOR_URL"] = url.replace("conveyor@", "plain@")
        found = await findings_now(terminal)
        assert "GRANT pg_read_all_stats" in found["horizon"]["found"]
        await connection.execute("DROP OWNED BY plain; DROP ROLE plain")


async def test_connections_near_their_limit(terminal: Terminal, url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(23):
            await stack.enter_async_context(session(url))
        check(await findings_now(terminal), "connections", "warning", "of 27 in use")


# What lies in the tables


def test_dead_rows_and_what_they_take(terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DEAD_ROWS_MIN", 1_000)
    monkeypatch.setattr(server, "BLOAT_BYTES_MIN", 100_000)
    by_sql(
        url,
        "ALTER TABLE ready SET (autovacuum_enabled = false)",
        "INSERT INTO ready SELECT 99, 0, 5, n, n, 0, 0, 0 FROM generate_series(1, 5000) n",
        "DELETE FROM ready WHERE lane = 99",
    )
    check(findings(terminal), "vacuum", "problem", "autovacuum is off for ready")
    by_sql(url, "ALTER TABLE ready RESET (autovacuum_enabled)")
    while (found := findings(terminal))["vacuum"]["verdict"] == "ok":
        pass  # statistics come when the session that made them has gone
    check(found, "vacuum", "warning", "5,000 in `ready`")
    check(found, "bloat", "warning", "for 0 messages")
    by_sql(url, "VACUUM ready")
    while findings(terminal)["vacuum"]["verdict"] != "ok":
        pass


def test_an_index_that_is_missing_or_invalid(terminal: Terminal, url: str) -> None:
    by_sql(url, "DROP INDEX leased_until", "DROP INDEX counters_lane")
    found = findings(terminal)
    check(found, "indexes", "problem", "missing: counters_lane, leased_until")
    assert found["indexes"]["hint"] == "CREATE INDEX counters_lane ON counters (lane)"
    for _ in range(2):
        by_sql(url, findings(terminal)["indexes"]["hint"])
    assert findings(terminal)["indexes"]["verdict"] == "ok"
    by_sql(url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'counters_lane'::regclass")
    check(findings(terminal), "indexes", "problem", "counters_lane")
    assert findings(terminal)["indexes"]["hint"] == "REINDEX INDEX CONCURRENTLY counters_lane"


def test_transactions_that_near_their_end(terminal: Terminal) -> None:
    """A server whose transaction numbers have been moved on, as after years of work without a freeze."""
    old = Server(autovacuum_freeze_max_age="2000000000")  # else it is frozen at once
    old.initialize()
    try:
        number = 1_048_576 * 1_200
        old.call("pg_resetwal", "-x", str(number), "-D", str(old.folder / "data"))
        log = old.folder / "data" / "pg_xact" / f"{number // 1_048_576:04X}"
        log.write_bytes(bytes(262_144))
        shutil.copystat(log.parent / "0000", log)
        owner = (log.parent / "0000").stat()
        os.chown(log, owner.st_uid, owner.st_gid)
        old.start()
        url = old.url()
        terminal.ok("migrate", "--url", url)
        check(findings(terminal, "--url", url), "wraparound", "warning", "transactions old")
    finally:
        old.remove()


# The belt


async def send(store: Store) -> None:
    await store.append([a_draft()])


async def pull(store: Store) -> None:
    await send(store)
    await store.claim(a_claim(owner=PULL_OWNER, lease_ms=1_000))


async def purge(store: Store) -> None:
    await send(store)
    await store.purge("inbox")


async def keep_value(store: Store) -> None:
    until = store.clock.now_ms() + 1_000
    await store.kv_put("s", KeyValue(key="a", value=b"1", metadata=None, expires_at=until))


async def bury(store: Store) -> None:
    await store.declare_consumer("inbox", ConsumerSettings(script="shop", dead_letter_queue="inbox-dlq"))
    owner = await store.register_owner(an_owner())
    await send(store)
    leases = (await store.claim(a_claim(owner=owner))).leases
    await store.settle(owner, [Settlement(each.seq, each.claim, Action.REJECT, reason="torn") for each in leases])


async def die(store: Store) -> None:
    await store.register_owner(an_owner())


async def forget_key(store: Store) -> None:
    await store.update_queue("inbox", QueueSettings(dedupe_window_ms=1_000))
    await store.append([a_draft(dedupe="k")])
    owner = await store.register_owner(an_owner())
    leases = (await store.claim(a_claim(owner=owner))).leases
    await store.settle(owner, [Settlement(each.seq, each.claim) for each in leases])


async def schedule(store: Store) -> None:
    await store.declare_schedule(a_schedule(), 1_000)


PLANTED: Final = {
    "a dead owner": (die, 1, "sweep", "dead owners for"),
    "a pulled lease long over": (pull, 1, "sweep", "pulled leases for"),
    "a dedupe key long over": (forget_key, 1, "sweep", "dedupe keys for"),
    "old receipts": (send, 3, "sweep", "receipts for 2 h"),
    "a value long over": (keep_value, 1, "sweep", "kv entries for"),
    "purged rows": (purge, 0, "sweep", "1 purged rows wait"),
    "messages past their retention": (send, 99, "sweep", "past their retention for 3 h"),
    "a queue without a consumer": (send, 1, "consumers", "`inbox` (no consumer), 60 min"),
    "dead letters": (bury, 0, "dead letters", "1 in `inbox-dlq`"),
    "a schedule that nobody fires": (schedule, 0, "schedules", "`nightly` by "),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_doctor_finds(terminal: Terminal, url: str, name: str) -> None:
    plant, hours_ago, where, words = PLANTED[name]
    by_store(url, plant, hours_ago=hours_ago)
    check(findings(terminal), where, "warning", words)


def test_a_full_queue_is_a_problem(terminal: Terminal, url: str) -> None:
    by_store(url, lambda store: store.append([a_draft() for _ in range(10)]))
    check(findings(terminal), "backlogs", "problem", "`inbox` at 100 %")


def test_schemas_that_do_not_fit(terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load_migrations("postgres")
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "load_migrations", lambda _: [*shipped, (9999, "9999_more", "SELECT 1")])
        check(findings(terminal), "schema", "warning", "9999_more")
    by_sql(url, "INSERT INTO migrations (number, name, checksum) VALUES (9999, '9999_more', 'x')")
    check(findings(terminal), "schema", "problem", "schema version 9999")
    by_sql(url, "DELETE FROM migrations WHERE number = 9999", "UPDATE migrations SET checksum = 'x'")
    check(findings(terminal), "schema", "problem", "in another form")


def test_a_row_that_is_no_json(terminal: Terminal, url: str) -> None:
    by_sql(url, "INSERT INTO owners VALUES (9, 'torn', 1)")
    check(findings(terminal), "contents", "problem", "a row cannot be read")


def test_a_server_that_is_away(terminal: Terminal) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = findings(terminal, "--url", f"postgresql://conveyor@127.0.0.1:{taken.getsockname()[1]}/postgres")
    assert (found["contents"]["verdict"], "cannot be reached" in found["contents"]["found"]) == ("problem", True)


def test_a_clock_that_is_off(terminal: Terminal, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Behind(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() - 90_000

    monkeypatch.setattr(checkup, "SystemClock", Behind)
    found = findings(terminal)
    check(found, "clock", "warning", "s before the wall clock of this machine")
    seconds = re.search(r"the server's is ([0-9.]+) s before", found["clock"]["found"])
    assert seconds is not None and float(seconds[1]) == pytest.approx(90, abs=5), "as far as a busy machine can tell"


# Behind a pooler


@pytest.fixture
def pooler(sound: Server, tmp_path: Path) -> Iterator[int]:
    """The port of a real PgBouncer in transaction mode."""
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.skip("no PgBouncer on this machine: `apt install pgbouncer` to run this test")
    port = free_port()
    folder = sound.folder / f"pooler-{port}"
    folder.mkdir()
    (folder / "users").write_text('"conveyor" ""\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={sound.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\ndefault_pool_size = 4\n"
    )
    command = [*sound.as_user, binary, "-q", str(folder / "ini")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not answers(port):
        assert process.poll() is None, "PgBouncer did not start"
    yield port
    process.terminate()
    process.wait(timeout=30)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_pooler_that_swallows_notifications(
    terminal: Terminal, url: str, sound: Server, pooler: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "HEARING_S", 0.5)
    found = findings(terminal, "--url", url.replace(f":{sound.port}/", f":{pooler}/"))
    check(found, "wake-ups", "warning", "a pooler in transaction mode swallows it")
    assert {each["verdict"] for name, each in found.items() if name != "wake-ups"} == {"ok"}
    around = quote(url.partition("?")[0], safe="")
    found = findings(terminal, "--url", url.replace(f":{sound.port}/", f":{pooler}/") + f"&listen={around}")
    assert found["wake-ups"]["verdict"] == "ok"
    assert findings(terminal)["wake-ups"]["verdict"] == "ok"


def test_the_other_verbs_work_behind_a_pooler(terminal: Terminal, url: str, sound: Server, pooler: int) -> None:
    by_store(url, send)
    through = url.replace(f":{sound.port}/", f":{pooler}/")
    assert terminal.ok("migrate", "--plan", "--url", through).out == "nothing is due\n"
    terminal.ok("backup", "b.db", "--url", through)
    terminal.ok("restore", "b.db", "--url", through)
    terminal.ok("move", through, "sqlite:///moved.db")
    assert terminal.ok("queues", "info", "inbox", "--url", "sqlite:///moved.db", "--json").json["messages"] == 1


# What cannot be planted here, as facts

FACTS: Final = ServerFacts(
    where="db", now=1_800_000_000_000, version=170_002, release="17.2", fsync="on", full_page_writes="on", read_only="off",
    synchronous_commit="on", autovacuum="on", is_standby=False, connections=1, connections_max=97, xid_age=1, mxid_age=1,
    sees_all=True, hears=True, tables=[TableFacts(name="ready", live_rows=1, dead_rows=0, size_bytes=9, is_vacuumed=True)],
)  # fmt: skip


@pytest.mark.parametrize(
    ("judge", "fact", "value", "verdict"),
    [
        (server.version, "version", 130_011, Health.PROBLEM),
        (server.version, "version", 140_011, Health.WARNING),
        (server.version, "version", 190_000, Health.OK),
        (server.version, "now", server.SUPPORTED_UNTIL[17] - 1, Health.WARNING),
        (server.access, "is_standby", True, Health.PROBLEM),
        (server.durability, "synchronous_commit", "local", Health.OK),
        (server.durability, "synchronous_commit", "remote_apply", Health.OK),
        (server.wraparound, "xid_age", 1_700_000_000, Health.PROBLEM),
        (server.wraparound, "mxid_age", 1_100_000_000, Health.WARNING),
        (server.horizon, "holders", [Holder(kind="transaction", who="a", age_ms=59_999, xids=9)], Health.OK),
        (server.horizon, "holders", [Holder(kind="transaction", who="a", age_ms=60_001, xids=9)], Health.WARNING),
        (server.horizon, "holders", [Holder(kind="replication slot", who="a", age_ms=None, xids=9)], Health.OK),
        (server.horizon, "holders", [Holder(kind="standby", who="a", age_ms=None, xids=2 * 10**6)], Health.WARNING),
        (server.bloat, "tables", [TableFacts(name="kv", live_rows=1, dead_rows=0, size_bytes=10**9, is_vacuumed=True)], None),
    ],
)
def test_a_check_judges_its_fact(
    judge: Callable[[ServerFacts], Finding | None], fact: str, value: object, verdict: Health | None
) -> None:
    if judge is not server.bloat:
        assert getattr(judge(FACTS), "verdict", None) is Health.OK
    found = judge(replace(FACTS, **{fact: value}))
    assert (None if found is None else found.verdict) is verdict
    assert found is None or bool(found.hint) is (verdict is not Health.OK)
