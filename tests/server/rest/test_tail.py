"""`conveyor tail` shows what a server tells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from conveyor import Conveyor
from conveyor.cli import main
from conveyor.cli.tail import RefusedError, Said, follow
from conveyor.model.clock import SystemClock
from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import ScheduleDelayed
from kit.online import online
from kit.served import ADMIN


@contextlib.asynccontextmanager
async def tailing(base: str, after: str | None = None) -> AsyncIterator[asyncio.Queue[Said]]:
    said: asyncio.Queue[Said] = asyncio.Queue()
    asked = {"event": "conveyor.schedule"}
    task = asyncio.create_task(follow(base, ADMIN, asked, after, said.put_nowait, SystemClock()))
    try:
        yield said
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.anyio
async def test_events_are_shown_and_what_was_missed_is_made_up_for(app: Conveyor) -> None:
    async with online(app) as base, asyncio.timeout(60):
        async with tailing(base, after="0") as said:
            assert await said.get() is not None  # a gap: it listens
            app.emit(ScheduleDelayed(error="0"))
            first = await said.get()
        app.emit(ScheduleDelayed(error="1"))
        async with tailing(base, after=first.id) as said:
            assert (await said.get()).data["error"] == "1"
    assert first.event == "conveyor.schedule.delayed" and first.data["error"] == "0"


@pytest.mark.anyio
async def test_a_server_that_refuses_is_believed(app: Conveyor) -> None:
    async with online(app) as base:
        with pytest.raises(RefusedError, match="CONVEYOR_TOKEN") as refused:
            await follow(base, "cvy_no", {}, None, print, SystemClock())
    assert refused.value.code == "unauthenticated"


@pytest.mark.anyio
async def test_nobody_there_is_an_error_at_the_first_try() -> None:
    with pytest.raises(InvalidSettingError, match="conveyor serve"):
        await follow("http://127.0.0.1:9", None, {}, None, print, SystemClock())


@pytest.mark.parametrize("server", ["ftp://x", "x", "http://user:pw@127.0.0.1", "http://queues.example.com"])
def test_a_server_that_cannot_be_is_refused(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tail", "--server", server, "--json"])
    said = msgspec.json.decode(capsys.readouterr().err)
    assert (ended.value.code, said["error"]["code"]) == (1, "invalid_setting")
