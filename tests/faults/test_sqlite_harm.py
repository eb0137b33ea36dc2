"""What happens to an SQLite file behind conveyor's back: a disk that fails, a lock that is held, a page that is lost
(F15, F16, F18 to F21, F23)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from conveyor.model.settings import QueueSettings
from kit.campaign import SEED, Report, sizes
from kit.checker import Rules
from kit.fleet import PRELUDE, Fleet
from kit.history import What

SENDING = """
from conveyor import ConveyorError
from conveyor.store.urls import make_store
from conveyor.testing.factories import *

async def main():
    store = make_store(os.environ["CONVEYOR_URL"])
    await store.open()
    for n in range(150):
        draft = a_draft(queue="jobs", body=b'"%d"' % n)
        history.note(What.SENDING, n, id=draft.id)
        try:
            [sent] = await store.append([draft])
        except ConveyorError as error:
            print(error.code)
        else:
            history.note(What.SENT, n, id=sent.id)
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


def send_with(fleet: Fleet, *injection: str) -> list[str]:
    """150 sends of a process whose calls of the kernel fail as strace is told; the codes of those that were refused."""
    if shutil.which("strace") is None:
        pytest.skip("a disk that fails is played by strace (Debian: `apt install strace`)")
    fleet.ask(lambda store: store.create_queue("jobs", QueueSettings()))
    words = [word for each in injection for word in ("-e", each)]
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", *words, sys.executable, "-c", PRELUDE + SENDING]
    done = subprocess.run(command, cwd=fleet.folder, env=fleet.environment(), capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout.split()


@pytest.mark.parametrize(
    ("row", "injections"),
    [
        ("F15", ["trace=fdatasync,fsync", "inject=fdatasync,fsync:error=EIO:when=20..25"]),
        ("F15", ["trace=fdatasync,fsync", "inject=fdatasync,fsync:error=EIO:when=20+7"]),
        ("F16", ["trace=pwrite64", "inject=pwrite64:error=ENOSPC:when=60..75"]),
        ("F16", ["trace=pwrite64", "inject=pwrite64:error=ENOSPC:when=61+13"]),
        ("F16", ["trace=pwrite64", "inject=pwrite64:error=EIO:when=60+17"]),
    ],
)
def test_a_disk_that_fails_costs_the_sends_that_it_failed(
    fleet: Fleet, row: str, injections: list[str]
) -> None:
    refused = send_with(fleet, *injections)
    verdict = fleet.judge(Rules(is_drained=False), dead=None)
    assert not verdict.findings, verdict.story
    assert refused, "nothing has failed"
    assert set(refused) <= {"outcome_unknown", "store_full"}
    assert verdict.confirmed == 150 - len(refused)
    assert {"0", "149"} <= {line.n for line in fleet.history() if line.what is What.SENT} or "+" in injections[-1]
    with closing(apsw.Connection(f"{fleet.folder}/store.db")) as connection:
        assert connection.pragma("integrity_check") == "ok"
