"""The doctor finds what was planted, changes nothing, and says what to do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw
import pytest
from msgspec.structs import replace

from conveyor.doctor import Finding, Health, belt, examine, file, worst_of
from conveyor.model.clock import SystemClock
from conveyor.model.dispatch import Dispatch
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store import migrate
from conveyor.store.facts import WAL_BYTES_MAX, BeltFacts, Facts, FileFacts, Integrity, QueueFacts
from conveyor.store.migrate import SchemaState
from conveyor.store.protocol import Store
from conveyor.store.queries import load_migrations
from conveyor.store.records import PULL_OWNER, KeyValue, OwnerRow, QueueInfo, QueueMetrics
from conveyor.store.sqlite import SQLiteStore
from conveyor.store.sqlite.mounts import find_kind
from conveyor.testing.clock import NOON_MS, ManualClock
from conveyor.testing.factories import a_claim, a_draft, an_owner

if TYPE_CHECKING:
    from .conftest import Terminal

HOUR_MS: Final = 3_600_000


async def make_queue(store: Store) -> None:
    await store.create_queue("inbox", QueueSettings(max_backlog_messages=10))


def findings(terminal: Terminal, *options: str) -> dict[str, dict[str, str]]:
    answer = terminal.run("doctor", "--json", *options)
    assert answer.code == (1 if answer.json["verdict"] == "problem" else 0)
    return {each["check"]: each for each in answer.json["checks"]}


def test_a_healthy_store_passes_every_check(terminal: Terminal) -> None:
    terminal.store(make_queue)
    found = findings(terminal, "--thorough")
    assert len(found) == 16
    assert {each["verdict"] for each in found.values() if each["check"] not in ("file system", "disk")} == {"ok"}
    assert found["integrity"]["found"] == "integrity_check is ok"
    assert "0 problem(s)" in terminal.run("doctor").out


def test_the_doctor_changes_and_leaves_nothing(terminal: Terminal) -> None:
    terminal.store(make_queue)
    before = {path.name: path.read_bytes() for path in terminal.folder.iterdir()}
    terminal.run("doctor", "--thorough")
    assert {path.name: path.read_bytes() for path in terminal.folder.iterdir()} == before


def test_the_doctor_does_not_make_a_store(terminal: Terminal) -> None:
    assert findings(terminal)["file"]["verdict"] == "problem"
    assert not terminal.path.exists()
    assert "hint: say where" in terminal.run("doctor").out


def test_the_doctor_looks_while_others_write_and_leaves_their_wal(terminal: Terminal) -> None:
    async def look(store: Store) -> None:
        await make_queue(store)
        await store.append([a_draft()])
        wal = terminal.path.with_name("conveyor.db-wal")
        before = wal.read_bytes()
        assert findings(terminal)["wal"]["found"] != "0 bytes"
        assert wal.read_bytes() == before

    terminal.store(look)


# What is planted in a file


def sql(text: str, *values: object) -> Callable[[Terminal], None]:
    def plant(terminal: Terminal) -> None:
        connection = apsw.Connection(str(terminal.path))
        connection.execute(text, values)
        connection.close()

    return plant


def zero_a_page(terminal: Terminal) -> None:
    connection = apsw.Connection(str(terminal.path))
    [(root,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'")
    size = connection.pragma("page_size")
    connection.close()
    with terminal.path.open("r+b") as damaged:
        damaged.seek((root - 1) * size)
        damaged.write(bytes(size))


def write_garbage(terminal: Terminal) -> None:
    terminal.path.write_bytes(b"no database " * 1_000)


def put_another_database(terminal: Terminal) -> None:
    terminal.path.unlink()
    connection = apsw.Connection(str(terminal.path))
    connection.execute("CREATE TABLE songs (name)")
    connection.close()


def leave_wal_mode(terminal: Terminal) -> None:
    connection = apsw.Connection(str(terminal.path))
    connection.pragma("journal_mode", "delete")
    connection.close()


def grow_wal(terminal: Terminal) -> None:
    with terminal.path.with_name("conveyor.db-wal").open("wb") as wal:
        wal.truncate(WAL_BYTES_MAX + 1)


def block_wake_ups(terminal: Terminal) -> None:
    connection = apsw.Connection(str(terminal.path))
    [(identity,)] = connection.execute("SELECT id FROM store")
    connection.close()
    folder = terminal.folder / "tmp"
    folder.mkdir()
    (folder / f"conveyor-{os.getuid()}-{identity.hex()[:16]}").touch()
    tempfile.tempdir = str(folder)


def by_store(question: Callable[[Store], object], *, hours_ago: int = 0) -> Callable[[Terminal], None]:
    """Through a store whose clock is so far behind."""

    def plant(terminal: Terminal) -> None:
        clock = ManualClock(SystemClock().now_ms() - hours_ago * HOUR_MS)

        async def use(_: Store) -> None:
            store = SQLiteStore(terminal.path, clock=clock)
            await store.open()
            await question(store)  # type: ignore[misc]  # each question is a coroutine function
            await store.close()

        terminal.store(use)

    return plant


async def send(store: Store) -> None:
    await store.append([a_draft()])


async def send_to_consumed(store: Store) -> None:
    await store.declare_consumer("inbox", ConsumerSettings(script="shop"))
    await store.append([a_draft()])


async def purge(store: Store) -> None:
    await store.append([a_draft()])
    await store.purge("inbox")


async def pull(store: Store) -> None:
    await store.append([a_draft()])
    await store.claim(a_claim(owner=PULL_OWNER, lease_ms=1_000))


async def dedupe(store: Store) -> None:
    await store.update_queue("inbox", QueueSettings(dedupe_window_ms=1_000))
    await store.append([a_draft(dedupe="k")])
    claimed = await store.claim(a_claim(owner=(owner := await store.register_owner(an_owner()))))
    await store.settle(owner, [Settlement(each.seq, each.claim) for each in claimed.leases])
    await store.renew_owners([owner])


async def keep_value(store: Store) -> None:
    now = store.clock.now_ms()
    await store.kv_put("s", KeyValue(key="a", value=b"1", metadata=None, expires_at=now + 1_000))


async def bury(store: Store) -> None:
    await store.declare_consumer("inbox", ConsumerSettings(script="shop", dead_letter_queue="inbox-dlq"))
    owner = await store.register_owner(an_owner())
    await store.append([a_draft()])
    claimed = await store.claim(a_claim(owner=owner))
    await store.settle(
        owner, [Settlement(each.seq, each.claim, Action.REJECT, reason="torn") for each in claimed.leases]
    )


def send_many(count: int) -> Callable[[Terminal], None]:
    async def question(store: Store) -> None:
        await store.append([a_draft() for _ in range(count)])

    return by_store(question)


LIVING: Final = 'INSERT INTO owners VALUES (9, \'{"app":"shop","host":"elsewhere","pid":1,"supervisor_pid":1}\', 9e15)'
LATE: Final = (
    'INSERT INTO schedules VALUES (\'daily\', \'{"name":"daily","app":"shop","queue":"inbox","expression":"@daily",'
    '"syntax":"unix","timezone":"UTC","misfire":"latest","overlap":"allow","jitter_ms":0}\', 1, 1000, 0)'
)

PLANTED = {
    "a zeroed page": (zero_a_page, "integrity", "problem", "damaged: "),
    "no database": (write_garbage, "integrity", "problem", "damaged: "),
    "a foreign database": (put_another_database, "schema", "problem", "no conveyor store"),
    "a row that is no JSON": (
        sql("INSERT INTO owners VALUES (9, 'torn', 1)"),
        "contents",
        "problem",
        "a row cannot be read",
    ),
    "a newer schema": (
        sql("INSERT INTO migrations VALUES (9999, 'x', 'x', 1)"),
        "schema",
        "problem",
        "schema version 9999",
    ),
    "a changed migration": (sql("UPDATE migrations SET checksum = 'x'"), "schema", "problem", "in another form"),
    "another journal mode": (leave_wal_mode, "journal", "warning", "is delete, not wal"),
    "a WAL without bounds": (grow_wal, "wal", "problem", "the bound is"),
    "a clock that drifts": (sql("UPDATE store SET wall_ms = wall_ms + 60000"), "clock", "warning", "60.0 s before"),
    "a wake folder that is a file": (block_wake_ups, "wake-ups", "warning", "cannot wake"),
    "an owner of another boot": (sql(LIVING), "owners", "warning", "another machine or boot: elsewhere"),
    "an owner long dead": (sql(LIVING.replace("9e15", "1")), "sweep", "warning", "dead owners for"),
    "a pulled lease long over": (by_store(pull, hours_ago=1), "sweep", "warning", "pulled leases for"),
    "a dedupe key long over": (by_store(dedupe, hours_ago=1), "sweep", "warning", "dedupe keys for"),
    "old receipts": (by_store(send, hours_ago=3), "sweep", "warning", "receipts for 2 h"),
    "a value long over": (by_store(keep_value, hours_ago=1), "sweep", "warning", "kv entries for"),
    "messages past their retention": (by_store(send, hours_ago=99), "sweep", "warning", "past their retention for 3 h"),
    "purged rows": (by_store(purge), "sweep", "warning", "1 purged rows wait"),
    "a queue without a consumer": (
        by_store(send, hours_ago=1),
        "consumers",
        "warning",
        "`inbox` (no consumer), 60 min",
    ),
    "a consumer without workers": (
        by_store(send_to_consumed, hours_ago=1),
        "consumers",
        "warning",
        "no worker of `shop` lives",
    ),
    "dead letters": (by_store(bury), "dead letters", "warning", "1 in `inbox-dlq`"),
    "a queue nearly full": (send_many(8), "backlogs", "warning", "`inbox` at 80 %"),
    "a full queue": (send_many(10), "backlogs", "problem", "`inbox` at 100 %"),
    "a schedule that nobody fires": (sql(LATE), "schedules", "warning", "`daily` by "),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_doctor_finds(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    plant, check, verdict, words = PLANTED[name]
    terminal.store(make_queue)
    plant(terminal)
    found = findings(terminal)[check]
    assert (found["verdict"], words in found["found"]) == (verdict, True), found
    assert found["hint"]
    assert terminal.path.exists()


def test_a_migration_that_is_due_is_a_warning(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.store(make_queue)
    shipped = load_migrations("sqlite")
    monkeypatch.setattr(migrate, "load_migrations", lambda _: [*shipped, (9999, "9999_more", "CREATE TABLE more (x)")])
    found = findings(terminal)
    assert (found["schema"]["verdict"], "9999_more" in found["schema"]["found"]) == ("warning", True)
    assert "contents" not in found


# What cannot be planted here, as facts

FILE: Final = FileFacts(
    path="a.db", library="3.54.1", library_is_safe=True, exists=True, readable=True, writable=True, file_system="ext4",
    file_bytes=1, wal_bytes=0, free_bytes=10**12, journal_mode="wal", synchronous=2, wakes=True,
    integrity=Integrity(problems=[], is_complete=True, is_thorough=False),
)  # fmt: skip


@pytest.mark.parametrize(
    ("check", "fact", "value", "verdict"),
    [
        (file.library, "library_is_safe", False, Health.PROBLEM),
        (file.access, "readable", False, Health.PROBLEM),
        (file.access, "writable", False, Health.PROBLEM),
        *((file.file_system, "file_system", kind, Health.PROBLEM) for kind in ("nfs", "nfs4", "cifs", "smb3")),
        *((file.file_system, "file_system", kind, Health.WARNING) for kind in ("fuse.sshfs", "overlay", "9p", "tmpfs")),
        *((file.file_system, "file_system", kind, Health.OK) for kind in ("ext4", "xfs", "btrfs", "zfs", "apfs", None)),
        (file.disk, "free_bytes", 10**6, Health.PROBLEM),
        (file.disk, "free_bytes", 5 * 10**8, Health.WARNING),
        (file.journal, "synchronous", 1, Health.PROBLEM),
        (file.integrity, "integrity", Integrity(problems=[], is_complete=False, is_thorough=False), Health.WARNING),
    ],
)
def test_a_check_judges_its_fact(
    check: Callable[[FileFacts], Finding | None], fact: str, value: object, verdict: Health
) -> None:
    assert {check(FILE).verdict for check in (file.library, file.access, file.file_system, file.disk)} == {Health.OK}
    found = check(replace(FILE, **{fact: value}))
    assert found is not None
    assert found.verdict is verdict
    assert bool(found.hint) is (verdict is not Health.OK)


def test_many_hosts_are_well_where_the_store_is_a_server() -> None:
    owners = [OwnerRow(owner=n, info=an_owner(host=f"host-{n}"), lease_until=2) for n in range(3)]
    facts = BeltFacts(
        now=1, host="host-0", is_of_one_host=False, clock_drift_ms=0, owners=owners, queues=[], schedules=[], due_since={},
        purged_rows=0,
    )  # fmt: skip
    assert belt.owners(facts).verdict is Health.OK
    assert belt.owners(replace(facts, is_of_one_host=True)).verdict is Health.WARNING
    own = [OwnerRow(owner=1, info=an_owner(host="host-0/pid:[4026531836]"), lease_until=2)]  # as workers write it
    assert belt.owners(replace(facts, is_of_one_host=True, owners=own)).verdict is Health.OK


@pytest.mark.parametrize(
    ("cron", "waiting", "words"),
    [
        ("* * * * *", 5, "`inbox` waits for the tick at 2026-01-01 12:01 UTC"),
        ("0 0 1 1 *", 1, "by `cron` go 1 at each tick of `0 0 1 1 *`: the last would be too old by then"),
        ("* * * * *", 6_000, "the last would be too old by then"),
    ],
)
def test_a_queue_that_goes_by_the_clock(cron: str, waiting: int, words: str) -> None:
    info = QueueInfo(
        name="inbox", settings=QueueSettings(), paused=False, version=1, created_at=0, modified_at=0,
        consumer=ConsumerSettings(script="shop", dispatch=Dispatch.CRON, dispatch_cron=cron),
    )  # fmt: skip
    metrics = QueueMetrics(backlog_messages=waiting, backlog_bytes=9, oldest_ready_at=NOON_MS - HOUR_MS, leased=0)
    facts = BeltFacts(
        now=NOON_MS, host="here", is_of_one_host=True, clock_drift_ms=0, queues=[QueueFacts(info=info, metrics=metrics)],
        owners=[OwnerRow(owner=1, info=an_owner(), lease_until=NOON_MS + 1)], schedules=[], due_since={}, purged_rows=0,
    )  # fmt: skip
    owners = [replace(facts.owners[0], info=an_owner(app="shop.main:app"))]  # as a supervisor writes it
    assert belt.consumers(replace(facts, owners=owners)) == belt.consumers(facts)
    found = belt.consumers(facts)
    assert words in found.found
    assert found.verdict is (Health.OK if waiting == 5 else Health.WARNING)


def test_what_could_not_be_read_is_a_problem_of_its_own() -> None:
    found = examine(Facts(file=FILE, schema=SchemaState(applied=[], due=[]), refusal="locked"))
    assert worst_of(found) is Health.PROBLEM
    found = examine(Facts(file=FILE, refusal="`a.db` was locked by another process for 30 s"))
    assert [each.check for each in found if each.verdict is Health.PROBLEM] == ["contents"]


MOUNTS: Final = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / /srv rw - nfs4 server:/srv rw
24 23 0:41 / /srv/my\040disk rw shared:2 master:1 - xfs /dev/sdb1 rw
25 22 0:42 / /mnt rw - autofs none rw
26 22 0:43 / /mnt rw - cifs //server/mnt rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var", "ext4"),
        ("/", "ext4"),
        ("/srv/a", "nfs4"),
        ("/srvice", "ext4"),
        ("/srv/my disk/a", "xfs"),
        ("/mnt", "cifs"),
    ],
)
def test_the_deepest_mount_tells_the_file_system(folder: str, kind: str) -> None:
    assert find_kind(folder, MOUNTS) == kind


def test_a_file_on_a_network_s_file_system_is_refused(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor.store.sqlite.opening.file_system_of", lambda _: "nfs4")
    for verb in (["queues", "create", "letters"], ["migrate"]):
        answer = terminal.run(*verb)
        assert (answer.code, "lies on nfs4" in answer.err) == (1, True)
    assert not Path(terminal.path).exists()
