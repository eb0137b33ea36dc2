"""The way in from code that is not async."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor.model.errors import InvalidSettingError, QueueNotFoundError


def an_app(tmp_path: Path) -> Conveyor:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/shop.db")
    app.declare_queue("jobs")
    return app


def test_script_sends_without_a_loop_of_its_own(tmp_path: Path) -> None:
    app = an_app(tmp_path)
    sent = app.run_sync(app.queue("jobs").send({"n": 1}))
    assert len(sent.id) == 32
    assert app.run_sync(app.queue("jobs").metrics()).backlog_messages == 1
    with pytest.raises(QueueNotFoundError):
        app.run_sync(app.queue("none").send(1))
    app.run_sync(app.close())


def test_threads_share_one_loop(tmp_path: Path) -> None:
    app = an_app(tmp_path)
    threads = [threading.Thread(target=lambda: app.run_sync(app.queue("jobs").send(1))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.run_sync(app.queue("jobs").metrics()).backlog_messages == 20
    app.run_sync(app.close())


def test_thread_of_a_handler_uses_the_loop_in_which_the_app_is_open(tmp_path: Path) -> None:
    app = an_app(tmp_path)

    async def use() -> int:
        async with app:
            await asyncio.to_thread(lambda: app.run_sync(app.queue("jobs").send(1)))
            return (await app.queue("jobs").metrics()).backlog_messages

    assert asyncio.run(use()) == 1


def test_event_loops_are_told_to_await(tmp_path: Path) -> None:
    app = an_app(tmp_path)

    async def use() -> None:
        with pytest.raises(InvalidSettingError, match="on an event loop"):
            app.run_sync(app.queue("jobs").send(1))
        async with app:
            with pytest.raises(InvalidSettingError, match="on an event loop"):
                app.run_sync(app.queue("jobs").send(1))

    asyncio.run(use())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_forked_child_does_not_hang(tmp_path: Path) -> None:
    app = an_app(tmp_path)
    app.run_sync(asyncio.sleep(0, None))  # the loop's thread runs, the store is not open yet
    pid = os.fork()
    if pid == 0:
        try:
            app.run_sync(app.queue("jobs").send(1))
            app.run_sync(app.close())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    app.run_sync(app.ensure_open())
    assert app.run_sync(app.queue("jobs").metrics()).backlog_messages == 1
    app.run_sync(app.close())


def test_a_script_on_a_file_ends_without_a_word(tmp_path: Path) -> None:
    lines = [
        "from conveyor import Conveyor",
        f"app = Conveyor('shop', url='sqlite:///{tmp_path}/shop.db')",
        "app.run_sync(app.declare_queue('orders').send('lamp'))",
    ]
    done = subprocess.run([sys.executable, "-W", "error", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert sorted(each.name for each in tmp_path.glob("*.db-wal")) == [], "it closed its store"
