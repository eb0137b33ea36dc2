"""A conveyor works for another one: real servers, real workers, kills in between."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.model.clock import SystemClock
from conveyor.model.errors import QueueUnavailableError
from conveyor.model.settings import ConsumerSettings, ConsumerType
from conveyor.queue.admin import Queues
from conveyor.remote.client import _Passing
from conveyor.store.sqlite import SQLiteStore

pytestmark = pytest.mark.anyio

TOKEN = "a-first-token-that-is-long-enough-to-be-one"  # noqa: S105  # the test's own
SERVER = "from conveyor import Conveyor\napp = Conveyor('far')\n"
SHOP = """
import os, time
from pathlib import Path
from conveyor import Conveyor, Message
app = Conveyor("shop")
book = Path(os.environ["BOOK"])

@app.consumer("orders", timeout="1s", max_retries=10)
async def take(message: Message[int]) -> None:
    with book.open("a") as page:
        page.write(f"{message.body} {os.getpid()} {message.attempts}\\n")
    if message.body == -1 and message.attempts == 1:
        time.sleep(60)
"""


class Process:
    """A `conveyor` command, whose stderr is read."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conveyor", *arguments], cwd=cwd, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"CONVEYOR_TOKEN": TOKEN} | environment,
        )  # fmt: skip
        self.said: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                with self._more:
                    self.said.append(line)
                    self._more.notify_all()

    def until(self, pattern: str) -> str:
        """The first group of the line that matches, once it is there."""
        with self._more:
            found = self._more.wait_for(lambda: re.search(pattern, "".join(self.said)), timeout=60)
            assert found is not None, "".join(self.said)
        return found[1]

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._reader.join()


@pytest.fixture
async def far(tmp_path: Path) -> SQLiteStore:
    """The store of the far conveyor, with a queue to be pulled."""
    store = SQLiteStore(tmp_path / "far.db")
    await store.open()
    await Queues(store).create("orders")
    pulled = ConsumerSettings(type=ConsumerType.HTTP_PULL, max_retries=10, dead_letter_queue="orders-dlq")
    await Queues(store).put_consumer("orders", pulled)
    await store.close()
    return store


@pytest.fixture
def api(far: SQLiteStore, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "far.py").write_text(SERVER)
    server = Process("serve", "far:app", "--port", "0", cwd=tmp_path, CONVEYOR_URL=f"sqlite:///{tmp_path}/far.db")
    try:
        yield server.until(r"serving (http://\S+)")
    finally:
        server.stop()


async def settled(far: SQLiteStore) -> None:
    """Until the far queue is empty."""
    clock = SystemClock()
    give_up_at = clock.monotonic() + 80
    await far.open()
    try:
        while (await far.metrics("orders")).backlog_messages:
            assert clock.monotonic() < give_up_at, "it is never empty"
            await clock.sleep(0.05)
    finally:
        await far.close()


async def test_work_over_http_survives_killed_workers(
    far: SQLiteStore, api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEYOR_TOKEN", TOKEN)
    url = f"cloudflare://any/orders?api={api}"
    async with Conveyor("sender", url=url) as app:
        for start in range(0, 300, 100):
            await app.queue("orders").send_batch(list(range(start, start + 100)))
        await app.queue("orders").send(-1)
    (tmp_path / "shop.py").write_text(SHOP)
    book = tmp_path / "book"
    workers = Process(
        "work", "shop:app", "--processes", "2", cwd=tmp_path, CONVEYOR_URL=url + "&lease=3s", BOOK=str(book)
    )
    try:
        clock = SystemClock()
        while not book.exists() or "-1 " not in book.read_text():
            await clock.sleep(0.02)
        stuck = next(line.split() for line in book.read_text().splitlines() if line.startswith("-1 "))
        os.kill(int(stuck[1]), signal.SIGKILL)
        await settled(far)
    finally:
        workers.stop()
    lines = [line.split() for line in book.read_text().splitlines()]
    assert {int(body) for body, _, _ in lines} == set(range(-1, 300))
    assert max(int(attempt) for body, _, attempt in lines if body == "-1") >= 2
    assert TOKEN not in "".join(workers.said)


async def test_a_push_whose_answer_was_lost_is_taken_once(
    far: SQLiteStore, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEYOR_TOKEN", TOKEN)
    async with Conveyor("sender", url=f"cloudflare://any?api={api}") as app:
        client = app.store.client  # type: ignore[attr-defined]  # a remote one has it
        ask = client._ask
        lost: list[Any] = []

        async def lose_the_first(request: Any) -> Any:
            answer = await ask(request)
            if request.url.endswith("/batch") and not lost:
                lost.append(answer)
                raise _Passing("the answer was lost", is_unsure=True)
            return answer

        monkeypatch.setattr(client, "_ask", lose_the_first)
        await app.queue("orders").send_batch([1, 2, 3])
        assert lost[0].status == 200
        assert (await app.queue("orders").metrics()).backlog_messages == 3


async def test_a_token_that_may_only_send_can_send(
    far: SQLiteStore, api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "conveyor", "tokens", "create", "shop", "--send", "--json"]
    environment = os.environ | {"CONVEYOR_URL": f"sqlite:///{tmp_path}/far.db"}
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)  # noqa: ASYNC221  # nothing else runs meanwhile
    monkeypatch.setenv("CONVEYOR_TOKEN", re.search(r"cvy_\w+", made.stdout)[0])  # type: ignore[index]  # it is there
    async with Conveyor("sender", url=f"cloudflare://any?api={api}") as app:
        await app.queue("orders").send("hello")
        with pytest.raises(QueueUnavailableError, match="refuses the token"):
            await app.queue("orders").metrics()
    await far.open()
    try:
        assert (await far.metrics("orders")).backlog_messages == 1
    finally:
        await far.close()
