"""Backups and restores killed with SIGKILL at random moments: the old file or the new one, never between (F10)."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from conveyor.model.settings import QueueSettings
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.factories import a_draft
from kit.campaign import SEED, sizes

MESSAGES = 200
BODY = b'"' + b"x" * 100_000 + b'"'
LATEST_S = 1.0


@pytest.mark.parametrize("kills", sizes(4, 50))
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


async def send(path: Path, messages: int) -> None:
    store = SQLiteStore(path)
    await store.open()
    if not await store.list_queues():
        await store.create_queue("inbox", QueueSettings())
    for _ in range(messages):
        await store.append([a_draft(body=BODY)])
    await store.close()


def run(verb: str, file: Path, store: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "conveyor", verb, str(file), "--url", f"sqlite:///{store}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


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
