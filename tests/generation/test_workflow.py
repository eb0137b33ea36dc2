"""The workflow, from a request to the video and the events that tell of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conveyor_apps.generation.records import State
from generation.stage import stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_prompt_becomes_a_video_in_the_bucket(tmp_path: Path) -> None:
    async with stage(tmp_path) as film:
        made = await film.create()
        [ended] = await film.run_until_final([made], within=60)
        assert ended.state is State.COMPLETED, ended
        await film.run_until_told(2)
        print(film.nextjs.events)
        print("\n".join(film.lines))
