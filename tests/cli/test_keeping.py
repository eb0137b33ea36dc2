"""Backup, restore and migrate: under load, over a kill, and refused where they would do harm."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import apsw
import msgspec
import pytest

from conveyor.model.settings import QueueSettings
from conveyor.store import migrate
from conveyor.store.protocol import Store
from conveyor.store.queries import load_migrations
from conveyor.store.records import OWNER_LEASE_MS
from conveyor.store.sqlite import SQLiteStore, opening, restoring
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_claim, a_draft, an_owner

if TYPE_CHECKING:
    from .conftest import Terminal

ENDINGS: Final = ("", "-wal", "-shm", "-journal")

WRITER: Final = """
import asyncio, sys
from conveyor import Conveyor
app = Conveyor("writer", url=sys.argv[1])
async def main():
    async with app:
        number = 0
        while True:
            await app.queue("inbox").send([sys.argv[2], number])
            print(number, flush=True)
            number += 1
asyncio.run(main())
"""

HALF: Final = """
import sys
from pathlib import Path
from conveyor.store.sqlite.keeper import SQLiteKeeper
def stop_midway(done, total):
    assert 0 < done < total
    print(done, flush=True)
    sys.stdin.read()
SQLiteKeeper(sys.argv[1]).back_up(Path(sys.argv[2]), progress=stop_midway)
"""


async def fill(store: Store) -> None:
    """About 10 MB: several steps of a backup."""
    await store.create_queue("inbox", QueueSettings())
    body = msgspec.json.encode("x" * 100_000)
    for _ in range(10):
        await store.append([a_draft(body=body) for _ in range(10)])


async def send_one(store: Store) -> None:
    with contextlib.suppress(Exception):
        await store.create_queue("inbox", QueueSettings())
    await store.append([a_draft()])


@contextlib.contextmanager
def program(text: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Runs beside the test; ends by SIGKILL."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process, process.stdout
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stdin.close()


def read_numbers(said: IO[str], count: int) -> int:
    """Waits for so many acknowledged sends; the last one's number."""
    return [int(said.readline()) for _ in range(count)][-1]


def bodies(path: Path) -> list[object]:
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    found = [msgspec.json.decode(body) for (body,) in connection.execute("SELECT body FROM messages ORDER BY seq")]
    connection.close()
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def kept_of(terminal: Terminal) -> list[Path]:
    return sorted(terminal.folder.glob("conveyor.db.before-restore-*Z"))


# Backup


def test_a_backup_under_load_has_every_send_that_was_acknowledged_before(terminal: Terminal) -> None:
    terminal.store(fill)
    url = f"sqlite:///{terminal.path}"
    with program(WRITER, url, "a") as (_, a), program(WRITER, url, "b") as (_, b):
        before = {"a": read_numbers(a, 20), "b": read_numbers(b, 20)}
        terminal.ok("backup", "backup.db")
        after = {"a": read_numbers(a, 20), "b": read_numbers(b, 20)}
        assert terminal.run("restore", "backup.db").err.startswith(
            "conveyor: `conveyor.db` is in use by another process"
        )
        assert not kept_of(terminal)
    terminal.ok("restore", "backup.db")
    [kept] = kept_of(terminal)
    restored, left = bodies(terminal.path), bodies(kept)
    for name in ("a", "b"):
        here = [body[1] for body in restored if isinstance(body, list) and body[0] == name]
        there = [body[1] for body in left if isinstance(body, list) and body[0] == name]
        assert here == list(range(len(here))), "a moment's prefix"
        assert len(here) > before[name]
        assert there == list(range(len(there))), "what was replaced is whole"
        assert len(there) > after[name]
    assert terminal.ok("queues", "info", "inbox", "--json").json["messages"] == len(restored)


def test_a_backup_that_is_killed_midway_leaves_no_file_under_the_name(terminal: Terminal) -> None:
    terminal.store(fill)
    target = terminal.folder / "backup.db"
    with program(HALF, terminal.path, target) as (_, said):
        assert said.readline()
        assert any(name.startswith(".backup.db.partial-") for name in names(terminal.folder))
    assert not target.exists()
    terminal.ok("backup", "backup.db")
    assert names(terminal.folder) <= {"conveyor.db", "conveyor.db-wal", "conveyor.db-shm", "backup.db"}
    assert len(bodies(target)) == 100


def test_a_backup_is_one_file_that_is_no_more_open_than_the_store(terminal: Terminal) -> None:
    terminal.store(send_one)
    terminal.path.chmod(0o640)
    facts = terminal.ok("backup", "backup.db", "--json").json
    target = terminal.folder / "backup.db"
    assert facts == {"store": "conveyor.db", "backup": "backup.db", "bytes": target.stat().st_size}
    assert target.stat().st_mode & 0o777 == 0o640
    connection = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.pragma("journal_mode") == "delete"
    connection.close()
    assert names(terminal.folder) == {"conveyor.db", "backup.db"}


def test_a_backup_replaces_a_file_by_force_only(terminal: Terminal) -> None:
    terminal.store(send_one)
    (terminal.folder / "backup.db").write_text("precious")
    answer = terminal.run("backup", "backup.db")
    assert (answer.code, "there already [conflict]" in answer.err) == (1, True)
    assert (terminal.folder / "backup.db").read_text() == "precious"
    terminal.ok("backup", "backup.db", "--force")
    assert len(bodies(terminal.folder / "backup.db")) == 1


def test_a_backup_refuses_what_it_cannot_do_and_leaves_nothing(terminal: Terminal) -> None:
    assert "there is no store" in terminal.run("backup", "backup.db").err
    apsw.Connection(str(terminal.path)).execute("CREATE TABLE songs (name)")
    assert "no conveyor store" in terminal.run("backup", "backup.db").err
    terminal.path.write_bytes(b"garbage " * 1_000)
    assert "[store_corrupt]" in terminal.run("backup", "backup.db").err
    assert "mkdir -p" in terminal.run("backup", "none/backup.db").err
    assert "is a folder" in terminal.run("backup", ".").err
    assert names(terminal.folder) == {"conveyor.db"}


def test_a_store_is_not_replaced_by_its_own_backup(terminal: Terminal) -> None:
    terminal.store(send_one)
    answer = terminal.run("backup", "conveyor.db", "--force")
    assert (answer.code, "is the store itself" in answer.err) == (1, True)


def test_a_link_to_a_store_leads_to_it(terminal: Terminal) -> None:
    terminal.store(send_one)
    Path("link.db").symlink_to("conveyor.db")
    url = f"sqlite:///{terminal.folder}/link.db"
    terminal.ok("backup", "backup.db", "--url", url)
    terminal.store(send_one)
    terminal.ok("restore", "backup.db", "--url", url)
    assert Path("link.db").is_symlink()
    assert len(bodies(terminal.path)) == 1
    assert len(kept_of(terminal)) == 1


def test_a_person_sees_a_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.store(fill)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    answer = terminal.run("backup", "backup.db")
    assert (answer.code, answer.out.startswith("backed up `conveyor.db` to `backup.db`")) == (0, True)


def test_a_damaged_store_gets_no_backup(terminal: Terminal) -> None:
    terminal.store(fill)
    with terminal.path.open("r+b") as damaged:
        damaged.seek(4096 * 3)
        damaged.write(bytes(4096 * 5))
    assert "[store_corrupt]" in terminal.run("backup", "backup.db").err
    assert names(terminal.folder) == {"conveyor.db"}


# Restore


def test_a_restore_refuses_while_a_worker_lives(terminal: Terminal) -> None:
    async def live(store: Store) -> None:
        await send_one(store)
        await store.register_owner(an_owner(host=store.host))

    terminal.store(send_one)
    terminal.ok("backup", "backup.db")
    terminal.store(live)
    answer = terminal.run("restore", "backup.db")
    assert (answer.code, "in use by 1 living worker" in answer.err) == (1, True)
    assert len(bodies(terminal.path)) == 2
    facts = terminal.ok("restore", "backup.db", "--force", "--json").json
    assert len(bodies(terminal.path)) == 1
    assert len(bodies(terminal.folder / facts["kept"])) == 2


def test_leases_of_a_backup_s_owners_end_as_lost(terminal: Terminal) -> None:
    clock = ManualClock()

    async def lease(_: Store) -> None:
        store = SQLiteStore(terminal.path, clock=clock)
        await store.open()
        await send_one(store)
        await store.claim(a_claim(owner=await store.register_owner(an_owner())))
        await store.close()

    async def claim_again(_: Store) -> list[int]:
        await clock.advance(OWNER_LEASE_MS / 1000)
        store = SQLiteStore(terminal.folder / "restored.db", clock=clock)
        await store.open()
        assert (await store.sweep()).owners == 1
        claimed = await store.claim(a_claim(owner=await store.register_owner(an_owner())))
        await store.close()
        return [each.attempts for each in claimed.leases]

    terminal.store(lease)
    terminal.ok("backup", "backup.db")
    terminal.ok("restore", "backup.db", "--url", f"sqlite:///{terminal.folder}/restored.db")
    assert terminal.store(claim_again) == [2]


def test_a_crashed_writer_s_wal_is_not_read_into_the_restored_file(terminal: Terminal) -> None:
    terminal.store(send_one)
    terminal.ok("backup", "backup.db")
    with program(WRITER, f"sqlite:///{terminal.path}", "a") as (_, said):
        last = read_numbers(said, 10)
    assert terminal.path.with_name("conveyor.db-wal").stat().st_size > 0
    terminal.ok("restore", "backup.db")
    assert not [ending for ending in ENDINGS[1:] if terminal.path.with_name(f"conveyor.db{ending}").exists()]
    assert len(bodies(terminal.path)) == 1
    [kept] = kept_of(terminal)
    assert len(bodies(kept)) >= last + 2


def test_forced_beside_a_process_its_writes_stay_with_the_file_that_is_kept(terminal: Terminal) -> None:
    terminal.store(send_one)
    terminal.ok("backup", "backup.db")
    with program(WRITER, f"sqlite:///{terminal.path}", "a") as (_, said):
        read_numbers(said, 5)
        terminal.ok("restore", "backup.db", "--force")
        last = read_numbers(said, 20)
    assert len(bodies(terminal.path)) == 1
    [kept] = kept_of(terminal)
    assert len(bodies(kept)) >= last + 2


def test_a_damaged_store_is_replaced_and_kept_with_its_wal(terminal: Terminal) -> None:
    terminal.store(send_one)
    terminal.ok("backup", "backup.db")
    terminal.path.write_bytes(b"garbage " * 1_000)
    terminal.path.with_name("conveyor.db-wal").write_bytes(b"more garbage")
    terminal.ok("restore", "backup.db")
    assert len(bodies(terminal.path)) == 1
    [kept] = kept_of(terminal)
    assert kept.read_bytes() == b"garbage " * 1_000
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"more garbage"


def test_a_restore_into_an_empty_place_keeps_nothing(terminal: Terminal) -> None:
    terminal.store(send_one)
    terminal.ok("backup", "backup.db")
    terminal.path.unlink()
    assert terminal.ok("restore", "backup.db", "--json").json["kept"] is None
    assert terminal.ok("doctor", "--json").json["checks"][5]["found"] == "wal, synchronous=FULL"


def test_a_kill_before_the_last_step_of_a_restore_leaves_the_old_store(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.store(send_one)
    terminal.ok("backup", "backup.db")
    terminal.store(send_one)

    def die(*_: object) -> None:
        raise OSError(5, "died")

    monkeypatch.setattr(restoring, "put_in_place", die)
    assert terminal.run("restore", "backup.db").code == 1
    assert len(bodies(terminal.path)) == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none.db", "there is no file"),
        ("conveyor.db", "is the store itself"),
        ("foreign.db", "no conveyor store"),
        ("garbage.db", "[store_corrupt]"),
        ("newer.db", "schema version 9999"),
        ("damaged.db", "[store_corrupt]"),
    ],
)
def test_a_restore_refuses_a_source_and_leaves_the_store(terminal: Terminal, source: str, words: str) -> None:
    terminal.store(fill)
    for name in ("newer.db", "damaged.db"):
        terminal.ok("backup", name)
    apsw.Connection("foreign.db").execute("CREATE TABLE songs (name)")
    Path("garbage.db").write_bytes(b"garbage " * 1_000)
    apsw.Connection("newer.db").execute("INSERT INTO migrations VALUES (9999, 'x', 'x', 1)")
    with Path("damaged.db").open("r+b") as damaged:
        damaged.seek(4096 * 60)
        damaged.write(bytes(4096))
    before = names(terminal.folder)
    answer = terminal.run("restore", source)
    assert (answer.code, words in answer.err) == (1, True), answer.err
    assert names(terminal.folder) == before
    assert len(bodies(terminal.path)) == 100


# Migrate

SHIPPED = [name for _, name, _ in load_migrations("sqlite")]


def test_migrate_makes_a_store_and_then_has_nothing_to_do(terminal: Terminal) -> None:
    assert "there is no store" in terminal.run("migrate", "--plan").err
    assert not terminal.path.exists()
    assert terminal.ok("migrate", "--json").json == {"ran": SHIPPED}
    assert terminal.ok("migrate").out == "nothing is due\n"
    assert terminal.ok("migrate", "--plan").out == "nothing is due\n"


def test_migrate_shows_what_ran_and_what_is_due_and_runs_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.ok("migrate")
    more = (9998, "9998_more", "CREATE TABLE more (x)")
    shipped = load_migrations("sqlite")
    monkeypatch.setattr(migrate, "load_migrations", lambda _: [*shipped, more])
    first, *_, last = terminal.ok("migrate", "--status", "--json").json
    assert (first["name"], first["state"], len(first["checksum"]), first["ran_at"][-1]) == (
        "0001_belt",
        "applied",
        64,
        "Z",
    )
    assert (last["name"], last["state"], last["ran_at"]) == ("9998_more", "due", None)
    assert [each["name"] for each in terminal.ok("migrate", "--plan", "--json").json] == ["9998_more"]
    assert terminal.ok("migrate").out == "ran 9998_more\n"
    assert {each["state"] for each in terminal.ok("migrate", "--status", "--json").json} == {"applied"}


def test_a_migration_that_fails_changes_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.ok("migrate")
    shipped = load_migrations("sqlite")
    bad = (9998, "9998_bad", "CREATE TABLE more (x); CREATE TABLE more (x)")
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "load_migrations", lambda _: [*shipped, bad])
        assert terminal.run("migrate").code == 1
    assert terminal.ok("migrate", "--plan").out == "nothing is due\n"
    terminal.store(send_one)


def test_a_newer_schema_is_shown_and_refused(terminal: Terminal) -> None:
    terminal.ok("migrate")
    apsw.Connection(str(terminal.path)).execute("INSERT INTO migrations VALUES (9999, '9999_next', 'x', 1)")
    answer = terminal.run("migrate", "--status")
    assert (answer.code, "9999_next" in answer.out, "schema version 9999" in answer.err) == (1, True, True)
    assert terminal.run("migrate").code == 1
    assert terminal.run("migrate", "--plan", "--status").code == 2


def test_a_kill_of_a_migration_leaves_the_old_schema(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(opening, "_FIRST_ROW", "INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)")
        assert terminal.run("migrate").code == 1
    assert terminal.ok("migrate", "--json").json == {"ran": SHIPPED}
