"""What happens to an SQLite file behind conveyor's back: a disk that fails, a lock that is held, a page that is lost
(F15, F16, F18 to F21, F23)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib
from collections import Counter
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from conveyor import ConveyorError
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.store.protocol import Store
from conveyor.testing.factories import a_claim, a_draft, a_reject, an_owner
from kit.campaign import SEED, Report
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


HOLDING = """
import apsw

async def hold(path):
    connection = apsw.Connection(path)
    connection.set_busy_timeout(60_000)
    while not is_over() or not os.path.exists("held"):
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(HOLD_S)
        connection.execute("ROLLBACK")
        open("held", "w").close()
        await asyncio.sleep(0.2)
    connection.close()

async def life(store, number, history):
    if number == 1:
        return await hold(os.environ["CONVEYOR_URL"].removeprefix("sqlite:///"))
    count = 0
    while not is_over() or not os.path.exists("held"):  # a busy machine may come to it late
        n, count = f"{number}.{count}", count + 1
        draft = a_draft(queue="jobs", body=b'"%s"' % n.encode())
        history.note(What.SENDING, n, id=draft.id)
        [sent] = await store.append([draft])
        history.note(What.SENT, n, id=sent.id)
        await asyncio.sleep(0.01)
"""


@pytest.mark.parametrize(("hold_s", "rest_s"), [pytest.param(0.5, 1.5, id="ci"), pytest.param(3, 30, id="campaign", marks=pytest.mark.campaign)])
def test_whoever_meets_a_lock_waits_and_is_told_nothing(
    fleet: Fleet, report: Report, is_campaign: bool, hold_s: float, rest_s: float
) -> None:
    """F20: eight producers, and one process that holds the file's lock again and again."""
    fleet.send([])
    fleet.run_herd(HOLDING.replace("HOLD_S", str(hold_s)), kills=0, seed=SEED, count=9, rest_s=rest_s)
    verdict = fleet.judge(Rules(is_drained=False), dead=None)
    begun = {line.n: line.at for line in fleet.history() if line.what is What.SENDING}
    waits = sorted(line.at - begun[line.n] for line in fleet.history() if line.what is What.SENT)
    report("F20", verdict, send_s_p99=waits[len(waits) * 99 // 100], send_s_max=waits[-1])
    assert not verdict.findings, verdict.story
    assert waits[-1] > hold_s / 2, "nobody met the lock"
    assert not is_campaign or waits[len(waits) * 99 // 100] < 2 * hold_s + 1


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_reader_that_stays_lets_the_wal_grow_and_its_end_shrinks_it(fleet: Fleet, report: Report) -> None:
    """F21."""
    path = fleet.folder / "store.db"
    wal = path.with_name("store.db-wal")
    fleet.send([])
    with closing(apsw.Connection(str(path))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchall()
        fleet.send(range(20_000))
        fleet.send({"n": n, "pad": "x" * 100_000} for n in range(1_000))
        grown = wal.stat().st_size
        reader.execute("COMMIT")
    fleet.send({"n": n, "pad": "x" * 100_000} for n in range(1_000, 1_400))
    again = wal.stat().st_size if wal.exists() else 0
    report("F21", None, wal_mb_pinned=grown // 1_000_000, wal_mb_after=again // 1_000_000)
    assert grown > 100_000_000, "nothing was held up"
    assert again < grown


FILLED = 120


def fill(path: Path) -> None:
    """Messages of all states and sizes, and a dead letter."""
    fleet = Fleet(path.parent, f"sqlite:///{path}")

    async def filling(store: Store) -> None:
        await store.declare_consumer("jobs", ConsumerSettings(script="shop", dead_letter_queue="jobs-dlq"))
        pads = ("x" * (n * 97 % 9_000) for n in range(FILLED))
        await store.append([a_draft(queue="jobs", body=f'"{pad}"'.encode()) for pad in pads])
        owner = await store.register_owner(an_owner())
        claimed = await store.claim(a_claim(queue="jobs", owner=owner))
        await store.settle(owner, [a_reject(claimed.leases[0])])

    fleet.ask(filling)


async def read_all(store: Store) -> tuple[int, ...]:
    """All bodies that a store gives away, as one number, and its counters."""
    bodies = [each.body for queue in ("jobs", "jobs-dlq") for each in await store.peek(queue, limit=1_000)]
    jobs, dead = await store.metrics("jobs"), await store.metrics("jobs-dlq")
    [sent] = await store.append([a_draft(queue="jobs", body=b'"new"')])
    assert not sent.deduped
    return zlib.crc32(b"".join(bodies)), len(bodies), jobs.backlog_messages, dead.backlog_messages


def look_at(path: Path) -> tuple[int, ...] | str:
    """What a damaged file answers, or the code of the error."""
    try:
        return Fleet(path.parent, f"sqlite:///{path}").ask(read_all)
    except ConveyorError as error:
        return error.code


def test_a_page_that_was_zeroed_is_found_or_changes_no_answer_but_a_body(tmp_path: Path) -> None:
    """F18. SQLite keeps no checksums: a zeroed page that holds nothing but the middle of a long body is not found."""
    fill(tmp_path / "whole.db")
    whole = (tmp_path / "whole.db").read_bytes()
    right = look_at(Path(shutil.copy(tmp_path / "whole.db", tmp_path / "copy.db")))
    found: Counter[str] = Counter()
    for page in range(len(whole) // 4_096):
        path = tmp_path / f"page{page}.db"
        path.write_bytes(whole[: page * 4_096] + bytes(4_096) + whole[(page + 1) * 4_096 :])
        answer = look_at(path)
        if answer == right:
            found["right"] += 1
        elif isinstance(answer, str):
            assert answer in {"store_corrupt", "store_error", "store_unsupported", "queue_not_found"}, answer
            found["refused"] += 1
        else:
            assert answer[1:] == right[1:], f"page {page}: counters or messages are wrong, and nothing says so"
            found["body"] += 1
    assert found["refused"] > found["body"]
