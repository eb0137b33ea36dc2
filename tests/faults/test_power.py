"""The plug is pulled: what was confirmed is on the disk, also if nothing was written back after (F08, F09)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from conveyor.model.settings import QueueSettings
from kit.campaign import KILLS, Report, sizes
from kit.checker import Rules, Verdict
from kit.disk import Disk
from kit.fleet import PRELUDE, Fleet
from kit.postgres import DURABLE, Server

LIVING = """
import itertools
from conveyor.store.urls import make_store
from conveyor.testing.factories import *

async def send(store, lane):
    for count in itertools.count():
        n = f"{lane}.{count}"
        draft = a_draft(queue="jobs", body=b'"%s"' % n.encode())
        history.note(What.SENDING, n, id=draft.id)
        [sent] = await store.append([draft])
        history.note(What.SENT, n, id=sent.id)

async def handle(store):
    owner = await store.register_owner(an_owner())
    while True:
        claimed = await store.claim(a_claim(queue="jobs", owner=owner, limit=5))
        for lease in claimed.leases:
            history.note(What.START, lease.body.decode().strip('"'), id=lease.id, attempt=lease.attempts)
            history.note(What.END, lease.body.decode().strip('"'), id=lease.id, attempt=lease.attempts)
        await store.settle(owner, [an_ack(lease) for lease in claimed.leases])
        for lease in claimed.leases:
            history.note(What.ACKED, lease.body.decode().strip('"'), id=lease.id)
        await asyncio.sleep(0.01)

async def main():
    store = make_store(os.environ["CONVEYOR_URL"])
    await store.open()
    await asyncio.gather(handle(store), *(send(store, lane) for lane in range(4)))

asyncio.run(main())
"""


def live(fleet: Fleet) -> subprocess.Popen[bytes]:
    """A process that sends and handles; it is stopped after some thousand lines."""
    fleet.ask(lambda store: store.create_queue("jobs", QueueSettings()))
    process = subprocess.Popen([sys.executable, "-c", PRELUDE + LIVING], cwd=fleet.folder, env=fleet.environment())
    fleet.wait_until(lambda: process.poll() is not None or len(fleet.history()) > 2_000)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGSTOP)
    return process


def judge_after(fleet: Fleet, url: str) -> Verdict:
    """What the disk holds, against what was confirmed."""
    after = Fleet(fleet.folder, url)
    verdict = after.judge(Rules(is_drained=False), dead=None)
    assert not verdict.findings, verdict.story
    assert verdict.confirmed > 100
    return verdict


@pytest.mark.parametrize("cuts", sizes(1, 30))
def test_what_sqlite_confirmed_survives_a_power_cut(tmp_path: Path, say: Report, cuts: int) -> None:
    """F08."""
    confirmed = 0
    for number in range(cuts):
        folder = tmp_path / str(number)
        folder.mkdir()
        with closing(Disk()) as disk:
            fleet = Fleet(folder, f"sqlite:///{disk.place}/store.db")
            process = live(fleet)
            place = disk.cut()
            process.kill()
            process.wait()
            confirmed += judge_after(fleet, f"sqlite:///{place}/store.db").confirmed
            with closing(apsw.Connection(f"{place}/store.db")) as connection:
                assert connection.pragma("integrity_check") == "ok"
    say("F08", store="sqlite", cuts=cuts, confirmed=confirmed, lost=0)


@pytest.mark.campaign
@pytest.mark.timeout(1_200)
def test_what_postgresql_confirmed_survives_a_power_cut(tmp_path: Path, say: Report) -> None:
    """F09."""
    confirmed, cuts = 0, max(1, KILLS // 100)
    for number in range(cuts):
        folder = tmp_path / str(number)
        folder.mkdir()
        with closing(Disk()) as disk:
            server = Server(disk.place, **DURABLE)
            server.initialize()
            subprocess.run(["sync", "-f", disk.place], check=True)  # it was made without
            server.start()
            fleet = Fleet(folder, server.url())
            process = live(fleet)
            pids = processes_of(disk.place)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            place = disk.cut()
            for pid in [process.pid, *pids]:
                os.kill(pid, signal.SIGKILL)
            process.wait()
            assert server._process is not None
            server._process.send_signal(signal.SIGCONT)  # `runuser` stops with its child
            (place / "data" / "postmaster.pid").unlink()  # after a real cut, nobody has that pid
            again = Server(place, **DURABLE)
            again.start()
            try:
                url = fleet.url.replace(f":{server.port}/", f":{again.port}/")
                confirmed += judge_after(fleet, url).confirmed
            finally:
                again.stop("immediate")
                server.stop("immediate")
    say("F09", store="postgresql", cuts=cuts, confirmed=confirmed, lost=0)


def processes_of(folder: Path) -> list[int]:
    """The server whose data lie in this folder, and its children."""
    first = int((folder / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()
    return [first, *map(int, children)]
