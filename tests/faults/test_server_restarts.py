"""The server crashes and comes back, or cuts all its clients off, again and again, while processes send and a fleet works
(F25, F27)."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import pytest

from kit.fleet import Fleet
from kit.postgres import DURABLE, Server, a_server

SENDERS: Final = 3
WORKING_AGAIN_S: Final = 3.0

APP = """
import asyncio, os, time
from pathlib import Path
from conveyor import Conveyor, Message

app = Conveyor("shop")
LOG = os.open(Path(os.environ["FOLDER"]) / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, message):
    os.write(LOG, b"%s %d %s %d %d %.6f\\n" % (what, message.body, message.id.encode(), message.attempts, os.getpid(), time.monotonic()))

@app.consumer("jobs", max_retries=3)
async def handle(message: Message[int]) -> None:
    note(b"start", message)
    await asyncio.sleep(0.02)
    note(b"end", message)

@app.cron("* * * * *")
async def tick(run) -> None:
    pass
"""

SEND = """
import asyncio, os, time
from pathlib import Path
from conveyor import ConveyorError
from conveyor.model.errors import OutcomeUnknownError
from shop import app

FOLDER = Path(os.environ["FOLDER"])
LOG = os.open(FOLDER / "sends", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, n):
    os.write(LOG, b"%s %d %.6f\\n" % (what, n, time.monotonic()))

async def send(queue, first):
    n = first
    while not (FOLDER / "stop").exists():
        note(b"try", n)
        try:
            await queue.send(n)
        except OutcomeUnknownError:
            note(b"unknown", n)
        except ConveyorError as error:
            print(error, flush=True)
            note(b"failed", n)
        else:
            note(b"ok", n)
        n += 1
        await asyncio.sleep(0.02)

async def main():
    async with app:
        await asyncio.gather(*(send(app.queue("jobs"), {first} + coroutine * 1_000_000) for coroutine in range(4)))

asyncio.run(main())
"""

OPEN = """
import asyncio
from shop import app
async def main():
    async with app:
        pass
asyncio.run(main())
"""

LOOK = """
import asyncio, json
from shop import app
async def main():
    async with app:
        jobs, dead = await app.store.metrics("jobs"), await app.store.metrics("jobs-dlq")
        print(json.dumps([jobs.backlog_messages, dead.backlog_messages]))
asyncio.run(main())
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with a_server(**DURABLE) as server:
        yield server


@pytest.fixture
def fleet(tmp_path: Path, server: Server) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, server.url())
    yield fleet
    fleet.close()


@pytest.mark.parametrize(
    "restarts", [pytest.param(2, id="ci"), pytest.param(100, id="campaign", marks=pytest.mark.campaign)]
)
@pytest.mark.timeout(3_600)
def test_crashes_of_the_server_lose_nothing_and_work_goes_on(
    fleet: Fleet, server: Server, is_campaign: bool, restarts: int
) -> None:
    story = begin(fleet)
    waits: list[tuple[float, float]] = []
    for _ in range(restarts):
        server.stop("immediate")
        ready_at = server.start()
        fleet.wait_until(lambda: story.since(ready_at, "ok") is not None and story.since(ready_at, "end") is not None)
        waits.append((story.since(ready_at, "ok") or 0.0, story.since(ready_at, "end") or 0.0))
        target = {what: story.count(what) + 100 for what in ("ok", "end")}
        fleet.wait_until(lambda: all(story.count(what) >= most for what, most in target.items()))
    sends, handles = zip(*waits, strict=True)
    finish(fleet, story, restarts=restarts, send_s=spread(sends), handle_s=spread(handles))
    assert not is_campaign or max(max(pair) for pair in waits) <= WORKING_AGAIN_S
    lines = [msgspec.json.decode(line) for line in (fleet.folder / "work.log").read_bytes().splitlines() if line.startswith(b"{")]
    lost = sum(line["event"] == "conveyor.store.lost" for line in lines)
    assert 0 < lost <= 3 * restarts, "one line for each process and outage"
    assert sum(line["level"] == "warning" for line in lines) <= 2 * lost + 3, "and hardly more"


@pytest.mark.parametrize(
    "rounds", [pytest.param(2, id="ci"), pytest.param(150, id="campaign", marks=pytest.mark.campaign)]
)
@pytest.mark.timeout(3_600)
def test_backends_terminated_every_two_seconds_lose_nothing(fleet: Fleet, server: Server, rounds: int) -> None:
    """F27: no confirmed send is lost, nothing is left locked, and no process takes more connections than it says."""
    story = begin(fleet)
    waits: list[float] = []
    most = 0
    for _ in range(rounds):
        cut_at = time.monotonic()
        asyncio.run(query(server, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'conveyor'"))
        fleet.wait_until(lambda: story.since(cut_at, "ok") is not None and story.since(cut_at, "end") is not None)
        waits.append(max(story.since(cut_at, "ok") or 0.0, story.since(cut_at, "end") or 0.0))
        fleet.rest(max(0.0, cut_at + 2.0 - time.monotonic()))
        most = max(most, asyncio.run(query(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'conveyor'")))
    finish(fleet, story, rounds=rounds, again_s=spread(waits), connections=most)
    assert most <= (SENDERS + 3) * (5 + 2)
    held = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE state = 'idle' AND locktype = 'advisory'"
    assert asyncio.run(query(server, held)) == 0


async def query(server: Server, text: str) -> int:
    connection = await asyncpg.connect(server.url().partition("?")[0])
    try:
        return int(await connection.fetchval(text))
    finally:
        await connection.close()


def begin(fleet: Fleet) -> Story:
    """A fleet at work, and three processes that send."""
    fleet.write_app(APP)
    fleet.run(OPEN)
    fleet.work("--processes", "2")
    for sender in range(SENDERS):
        fleet.start(f"sender{sender}", SEND.format(first=sender * 10_000_000))
    story = Story(fleet)
    fleet.wait_until(lambda: story.count("ok") > 50 and story.count("end") > 50)
    return story


def finish(fleet: Fleet, story: Story, **figures: object) -> None:
    """Let it drain, and judge."""
    (fleet.folder / "stop").touch()
    left: list[int] = []

    def is_drained() -> bool:
        left[:] = json.loads(fleet.run(LOOK))
        return left[0] == 0

    fleet.wait_until(is_drained, seconds=120)
    story.read()
    (fleet.folder / "figures.json").write_text(json.dumps({**story.figures(), **figures}))
    assert left[1] == 0, "nothing is dead: it is nobody's fault"
    story.judge()


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))}


class Story:
    """What senders and handlers have written down."""

    def __init__(self, fleet: Fleet) -> None:
        self._logs = {name: fleet.folder / name for name in ("sends", "calls")}
        self._read = dict.fromkeys(self._logs, 0)
        self.sends: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.calls: dict[bytes, list[tuple[str, int, int, int, float]]] = defaultdict(list)
        self._ends: list[float] = []

    def read(self) -> None:
        for name, path in self._logs.items():
            if path.exists():
                whole, _, _ = path.read_bytes()[self._read[name] :].rpartition(b"\n")
                self._read[name] += len(whole) + 1 if whole else 0
                for line in whole.splitlines():
                    (self._take_send if name == "sends" else self._take_call)(line.split())

    def _take_send(self, words: list[bytes]) -> None:
        self.sends[words[0].decode()].append((int(words[1]), float(words[2])))

    def _take_call(self, words: list[bytes]) -> None:
        what, n, message, attempt, pid, at = words
        self.calls[message].append((what.decode(), int(n), int(attempt), int(pid), float(at)))
        if what == b"end":
            self._ends.append(float(at))

    def count(self, what: str) -> int:
        self.read()
        return len(self._ends) if what == "end" else len(self.sends[what])

    def since(self, moment: float, what: str) -> float | None:
        """Seconds from then to the first success after it."""
        self.read()
        after = [at for at in (self._ends if what == "end" else [at for _, at in self.sends[what]]) if at > moment]
        return min(after) - moment if after else None

    def figures(self) -> dict[str, int]:
        overlaps = [pair for calls in self.calls.values() for pair in self._overlaps(calls)]
        return {
            **{what: len(self.sends[what]) for what in ("try", "ok", "unknown", "failed")},
            "handled": len(self._ends),
            "again": len(self._ends) - len(self.calls),
            "taken_back": len(overlaps),
        }

    def judge(self) -> None:
        messages: dict[int, set[bytes]] = defaultdict(set)
        ended: set[int] = set()
        for message, calls in self.calls.items():
            for what, n, attempt, *_ in calls:
                messages[n].add(message)
                assert attempt <= 4, "I4"
                ended |= {n} if what == "end" else set()
            for first, second in self._overlaps(calls):
                assert first == second, "I2: two attempts of one message at once"
        said = {what: {n for n, _ in self.sends[what]} for what in ("ok", "unknown", "failed")}
        assert said["ok"] <= ended, "a confirmed send was lost"
        assert not said["failed"], "every send outlived the outage"
        assert all(len(found) == 1 for found in messages.values()), "a send is in the store once at most"
        assert set(messages) <= said["ok"] | said["unknown"]

    @staticmethod
    def _overlaps(calls: list[tuple[str, int, int, int, float]]) -> list[tuple[int, int]]:
        """(attempt, attempt) of calls of one message that ran at once. A claim is not synced, so the crash may take it
        back, and the same attempt is made again: that is one lease after another."""
        spans: list[list[float]] = []
        for what, _, attempt, pid, at in sorted(calls, key=lambda call: call[4]):
            if what == "start":
                spans.append([at, float("inf"), attempt, pid])
            else:
                next(span for span in spans if span[3] == pid and span[2] == attempt and span[1] == float("inf"))[1] = at
        return [(int(a[2]), int(b[2])) for a, b in itertools.pairwise(spans) if b[0] < a[1]]
