"""Those who wait for a job's end when the app, or the store, does not live to see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conveyor import Conveyor
from conveyor.model.errors import StoreClosedError

pytestmark = pytest.mark.anyio


async def test_who_waits_is_told_that_the_app_has_closed(tmp_path: Path) -> None:
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db")

    @app.job()
    async def act(number: int) -> int:
        return number

    async with app:
        job = await act.enqueue(1)
        waiting = [asyncio.create_task(job.result()) for _ in range(2)]
        given_up = asyncio.create_task(job.result())
        done, _ = await asyncio.wait([*waiting, given_up], timeout=0.1)
        assert not done, "nobody works on it"
        given_up.cancel()
    async with asyncio.timeout(60):
        for each in waiting:
            with pytest.raises(StoreClosedError):
                await each
        with pytest.raises(asyncio.CancelledError):
            await given_up
