"""Backups, restores, migrations and moves killed with SIGKILL at random moments: the old store or the new one, never
between (F10)."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from conveyor.model.errors import StoreMovedError, StoreUnsupportedError
from conveyor.model.settings import QueueSettings
from conveyor.store.sqlite import SQLiteStore
from conveyor.store.urls import make_keeper, make_store
from conveyor.testing.factories import a_draft
from kit.campaign import SEED, sizes
from kit.postgres import the_server

MESSAGES = 200
BODY = b'"' + b"x" * 100_000 + b'"'
LATEST_S = 1.0


@pytest.mark.parametrize("kills", sizes(2, 50))
def test_a_killed_backup_or_restore_leaves_a_whole_file(tmp_path: Path, kills: int) -> None:
    dice = random.Random(SEED)
    store, backup, target = tmp_path / "store.db", tmp_path / "backup.db", tmp_path / "target.db"
    asyncio.run(send(store, MESSAGES))
    assert run("backup", backup, store).wait() == 0
    for _ in range(kills):
        target.unlink(missing_ok=True)
        kill(run("backup", target, store), dice)
        assert not target.exists() or count(target) == MESSAGES
    for number in range(kills):
        asyncio.run(send(store, 1))
        before = count(store)
        kill(run("restore", backup, store), dice)
        assert count(store) in (MESSAGES, before), number


@pytest.mark.parametrize("kills", sizes(2, 50))
def test_a_killed_backup_or_restore_of_a_server_leaves_it_whole(tmp_path: Path, kills: int) -> None:
    dice = random.Random(SEED)
    url, backup, target = the_server().url(), tmp_path / "backup.db", tmp_path / "target.db"
    asyncio.run(send(url, MESSAGES))
    assert command("backup", backup, "--url", url).wait() == 0
    for _ in range(kills):
        target.unlink(missing_ok=True)
        kill(command("backup", target, "--url", url), dice)
        assert not target.exists() or count(target) == MESSAGES
    for number in range(kills):
        asyncio.run(send(url, 1))
        before = backlog(url)
        kill(command("restore", backup, "--url", url), dice)
        assert backlog(url) in (MESSAGES, before), number


@pytest.mark.parametrize("kills", sizes(2, 50))
def test_a_killed_migration_leaves_no_store_or_a_whole_one(kills: int) -> None:
    dice = random.Random(SEED)
    for _ in range(kills):
        url = the_server().url()
        kill(command("migrate", "--url", url), dice)
        schema = make_keeper(url).read_schema()
        assert not schema.applied or not schema.due
        assert command("migrate", "--url", url).wait() == 0
        asyncio.run(send(url, 1))


@pytest.mark.parametrize("kills", sizes(2, 50))
@pytest.mark.parametrize("kinds", [("sqlite", "postgres"), ("postgres", "sqlite")], ids="-".join)
def test_a_killed_move_leaves_one_store_and_can_be_ended(tmp_path: Path, kinds: tuple[str, str], kills: int) -> None:
    dice = random.Random(SEED)
    for number in range(kills):
        source, target = (
            the_server().url() if kind == "postgres" else f"sqlite:///{tmp_path}/{number}-{side}.db"
            for side, kind in enumerate(kinds)
        )
        asyncio.run(send(source, MESSAGES // 4))
        kill(command("move", source, target), dice)
        held = [contents(source), contents(target)]
        assert held in ([MESSAGES // 4, 0], [None, None], [None, MESSAGES // 4], [MESSAGES // 4, None]), number
        if held != [None, MESSAGES // 4]:
            assert command("move", source, target).wait() == 0
        assert [contents(source), contents(target)] == [None, MESSAGES // 4]
        asyncio.run(send(target, 1))


def contents(url: str) -> int | None:
    """How many messages a store holds; None for one that is closed by a move."""
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return 0
    try:
        return backlog(url)
    except StoreMovedError:
        return None


def backlog(url: str) -> int:
    """0 where there is no store."""

    async def look() -> int:
        async with make_keeper(url).read() as outgoing:
            return (await outgoing.heading()).messages

    try:
        return asyncio.run(look())
    except StoreMovedError:
        raise
    except StoreUnsupportedError:
        return 0


async def send(where: Path | str, messages: int) -> None:
    store = SQLiteStore(where) if isinstance(where, Path) else make_store(where)
    await store.open()
    if not await store.list_queues():
        await store.create_queue("inbox", QueueSettings())
    for _ in range(messages):
        await store.append([a_draft(body=BODY)])
    await store.close()


def run(verb: str, file: Path, store: Path) -> subprocess.Popen[bytes]:
    return command(verb, file, "--url", f"sqlite:///{store}")


def command(*words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "conveyor", *map(str, words)], stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes], dice: random.Random) -> None:
    time.sleep(dice.uniform(0.1, LATEST_S))
    process.kill()
    process.wait()


def count(path: Path) -> int:
    """Of a file whose pages are sound."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    assert connection.pragma("integrity_check") == "ok"
    [(found,)] = connection.execute("SELECT count(*) FROM messages")
    connection.close()
    assert isinstance(found, int)
    return found
