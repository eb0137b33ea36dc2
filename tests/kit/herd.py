"""Processes that live alike and are killed: forked from one that has imported everything, so that a thousand deaths
take a minute. Runs as a program of its own (`Fleet.run`), which has neither a thread nor a connection when it forks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from conveyor.store.protocol import Store
from conveyor.store.urls import make_store
from kit.history import Recorder, What

Life = Callable[[Store, int, Recorder], Coroutine[Any, Any, None]]
"""What a process does until `is_over()`; its number is never used again."""
END_S: Final = 60.0


def is_over() -> bool:
    """All kills are done: come to an end."""
    return (Path(os.environ["FOLDER"]) / "over").exists()


def run_herd(
    life: Life,
    *,
    count: int,
    kills: int,
    seed: int,
    pause_s: tuple[float, float] = (0.02, 0.08),
    freeze_s: float = 0.0,
    news: int = 4_000,
    rest_s: float = 0.5,
) -> None:
    """Keep `count` processes alive, kill one of them after each pause, and at last let them come to their end. Between
    two kills they say `news` bytes at least; with each kill, another is stopped for `freeze_s`. After the last they live
    on for `rest_s`."""
    chance, recorder = random.Random(seed), Recorder()
    history, over = (Path(os.environ["FOLDER"]) / name for name in ("history", "over"))
    over.unlink(missing_ok=True)
    pids: list[int] = []
    number = 0
    for killed in range(kills + 1):
        while len(pids) < count:
            number += 1
            pids.append(_fork(life, number, recorder))
        if killed == kills:
            break
        said = history.stat().st_size
        time.sleep(chance.uniform(*pause_s))
        while history.stat().st_size < said + news:  # on a busy machine they have hardly begun
            time.sleep(0.005)
        victim = pids.pop(chance.randrange(len(pids)))
        recorder.note(What.KILLED, pid=victim)  # it lived until then
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status), f"ended by itself: {status}"
        if freeze_s:
            os.kill(pids[0], signal.SIGSTOP)
            time.sleep(freeze_s)
            os.kill(pids[0], signal.SIGCONT)
    time.sleep(rest_s)
    over.touch()
    deadline = time.monotonic() + END_S
    while pids:
        pid, status = os.waitpid(pids[0], os.WNOHANG)
        assert time.monotonic() < deadline, "does not end"
        if pid:
            assert status == 0, f"ended badly: {status}"
            pids.pop(0)
        time.sleep(0.005)


def _fork(life: Life, number: int, recorder: Recorder) -> int:
    if pid := os.fork():
        return pid
    try:
        asyncio.run(_live(life, number, recorder))
    except BaseException:  # noqa: BLE001 whatever it is, the child says it and does not live on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


async def _live(life: Life, number: int, recorder: Recorder) -> None:
    store = make_store(os.environ["CONVEYOR_URL"])
    await store.open()
    await life(store, number, recorder)
    await store.close()
