"""What the small programs share: a worker beside them, and a way to wait."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from conveyor import Conveyor, Job, JobState
from conveyor.supervisor.supervisor import ONE_SIGNAL_S


@contextlib.asynccontextmanager
async def working(app: Conveyor, **options: Any) -> AsyncIterator[None]:
    """A worker in this process."""
    async with app:
        worker = asyncio.create_task(app.work(**options))
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


async def until(holds: Callable[[], Any], seconds: float = 120.0) -> None:
    """Look every 10 ms until it is so."""
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if await found if inspect.isawaitable(found) else found:
            return
        assert time.monotonic() < end, f"not so after {seconds} s"
        await asyncio.sleep(0.01)


async def until_state(job: Job[Any], *states: JobState, seconds: float = 120.0) -> None:
    async def is_so() -> bool:
        return await job.state() in states

    await until(is_so, seconds)


async def insist(tree: subprocess.Popen[bytes]) -> int:
    """A second SIGTERM, to a tree that has had one; its exit code. Again if it does not end: two that reach a busy
    process within half a second are one."""
    for _ in range(5):
        await asyncio.sleep(ONE_SIGNAL_S + 0.1)
        tree.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return tree.wait(10)
    raise AssertionError("it does not end")


def said(folder: Path, first: str | None = None) -> list[list[str]]:
    """The lines that jobs in real workers wrote, as words."""
    path = folder / "said"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [words for words in map(str.split, lines) if first is None or words[0] == first]


SAY = """
LOG = os.open(os.path.join(os.environ["FOLDER"], "said"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def say(*words):
    os.write(LOG, (" ".join(map(str, words)) + "\\n").encode())
"""
"""For apps in real workers: they write what `said` reads."""
