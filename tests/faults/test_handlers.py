"""Handlers that do what they should not, in real workers: each message is settled once, and the worker lives (F38, F39,
F40)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.campaign import Report, sizes
from kit.checker import Rules
from kit.fleet import Fleet

BAD = [
    *("BaseException()", "KeyboardInterrupt()", "SystemExit(3)", "asyncio.CancelledError()", "GeneratorExit()"),
    *("StopIteration()", "RecursionError()", "Exception('\\udcff')", "ExceptionGroup('two', [ValueError(), KeyError()])"),
]
GOOD = [
    *("os.fork() or os._exit(0)", "signal.signal(signal.SIGHUP, signal.SIG_IGN)", "os.closerange(900, 1_000)", "object()", "{b'x': object()}"),
    *("asyncio.get_running_loop().set_exception_handler(None)", "asyncio.create_task(asyncio.sleep(60)) and None"),
]
TABLE = """
@app.consumer("jobs", max_retries=0)
async def handle(message: Message[dict]) -> None:
    with history.call(message):
        if message.body["raises"]:
            raise eval(message.body["code"])
        return eval(message.body["code"])
"""
GREEDY = """
@app.consumer("jobs", max_retries=3, run_in="process")
def handle(message: Message[dict]) -> None:
    with history.call(message):
        if message.body["mb"]:
            bytes(range(256)) * (message.body["mb"] * 4_096)
"""
ENDLESS = """
import itertools, collections

@app.consumer("jobs", max_retries=0, run_in="process", timeout=5)
def handle(message: Message[dict]) -> None:
    with history.call(message):
        if message.body["n"] == 0:
            collections.deque(itertools.repeat(None), maxlen=0)  # one call of a library, which no signal interrupts
"""
CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.mark.parametrize("times", sizes(1, 100))
def test_whatever_handlers_raise_return_or_break_is_settled_once(fleet: Fleet, report: Report, times: int) -> None:
    """F40."""
    cases = [(code, code in BAD) for code in [*BAD, *GOOD]] * times
    fleet.write_app(TABLE)
    fleet.send({"n": n, "code": code, "raises": raises} for n, (code, raises) in enumerate(cases))
    tree = fleet.work("--concurrency", "10")
    fleet.wait_until_empty(seconds=120)
    verdict = fleet.judge(Rules(max_retries=0))
    dead = {int(n) for n, _ in fleet.placed("jobs-dlq")}
    report("F40", verdict, dead=len(dead))
    assert not verdict.findings, verdict.story
    assert dead == {n for n, (_, raises) in enumerate(cases) if raises}
    assert verdict.calls == len(cases)
    assert "conveyor.worker.died" not in fleet.log()
    assert len(fleet.workers(tree)) == 1


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_library_s_endless_call_is_killed_at_its_timeout(fleet: Fleet, report: Report) -> None:
    """F39."""
    fleet.write_app(ENDLESS)
    fleet.send({"n": n} for n in range(10))
    fleet.work()
    seconds = fleet.wait_until_empty(seconds=60)
    report("F39", None, seconds=seconds)
    assert {n for n, _ in fleet.placed("jobs-dlq")} == {"0"}
    assert "conveyor.worker.died" not in fleet.log()


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """400 MB for all of its processes."""
    group = CGROUPS / f"conveyor-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("400M", encoding="ascii")
    except OSError:
        pytest.skip("a limit on memory is a control group (v1), and only root may make one")
    yield group
    group.rmdir()


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_child_that_takes_all_memory_dies_alone(memory_group: Path, fleet: Fleet, report: Report) -> None:
    """F38: the kernel kills the largest of the group."""
    fleet.write_app(GREEDY)
    fleet.send({"n": n, "mb": 1_000 if n == 5 else 0} for n in range(20))
    fleet.work(within=memory_group)
    seconds = fleet.wait_until_empty(seconds=120)
    report("F38", None, seconds=seconds)
    assert {n for n, _ in fleet.placed("jobs-dlq")} == {"5"}
    assert "killed by signal 9" in fleet.log()
    assert "conveyor.worker.died" not in fleet.log()
    fleet.close()
