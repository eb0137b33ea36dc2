"""The document's migration path and rollback, under generations that wait and run: none lost, none ordered twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from conveyor.model.dispatch import Dispatch
from conveyor_apps.generation.records import State
from generation.stage import Stage, stage

pytestmark = pytest.mark.anyio

PATH = (Dispatch.CRON, Dispatch.ALARM, Dispatch.QUEUE, Dispatch.IMMEDIATE, Dispatch.ALARM, Dispatch.QUEUE)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def switch(film: Stage, mode: Dispatch) -> None:
    """As `conveyor queues consumer update generation-queue --dispatch MODE`."""
    app = film.made.app
    consumer = (await app.info("generation-queue")).consumer
    assert consumer is not None
    await app.store.put_consumer("generation-queue", replace(consumer, dispatch=mode))


@pytest.mark.campaign
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_modes_change_while_generations_wait_and_run(tmp_path: Path, store: str) -> None:
    async with stage(tmp_path, mode=Dispatch.IMMEDIATE, store=store, generation_s=20) as film:
        made = await film.create_many(6)
        for mode in PATH:
            await film.run(13)
            await switch(film, mode)
            made += await film.create_many(3)
        ended = await film.run_until_final(made)
        await film.run_until_told(2 * len(made))
        assert {each.state for each in ended} == {State.COMPLETED}
        assert {each.attempt for each in ended} == {1}
        assert Counter(each["client_id"] for each in await film.submissions()) == {f"{each.id}-1": 1 for each in made}
        for each in made:
            assert film.nextjs.names_of(each.id) == ["generation.started", "generation.completed"]
