"""A stream's edges: signs of life, the server's end, readers that take nothing, and a line that is read once for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from conveyor import JobEvent
from conveyor_apps.generation.web import streams
from conveyor_apps.generation.web.streams import EventStream, Seen, Streams
from conveyor_apps.generation.web.views import Views
from conveyor_apps.pace import NAMES_MAX, Pace
from generation.stage import Stage, stage


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def streams_of(film: Stage) -> Streams:
    def follow(job_id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        return film.made.app.jobs.get(job_id).follow(after=after)

    return Streams(lambda: film.room, Views(lambda: film.room), follow)


@pytest.mark.anyio
async def test_a_quiet_stream_shows_that_it_lives_and_ends_with_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.0)
    async with stage(tmp_path, works=False) as film:
        made = await film.create()
        all_streams = streams_of(film)
        told = all_streams.watch(made.id, Seen())
        first = [await anext(told) for _ in range(3)]
        assert first[0].startswith(b"retry:")
        assert b'"queuePosition":1' in first[1]
        assert first[2] == b": heartbeat\n\n"
        assert len(all_streams) == 1
        all_streams.close()
        assert [each async for each in told] == []
        assert len(all_streams) == 0


@pytest.mark.anyio
async def test_who_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WRITE_S_MAX", 0.01)
    ended = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b": heartbeat\n\n"
        finally:
            ended.set()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await EventStream(chunks()).stream_response(send)
    assert ended.is_set()


@pytest.mark.anyio
async def test_a_line_is_read_once_for_all_who_look(tmp_path: Path) -> None:
    async with stage(tmp_path, works=False) as film:
        made = await film.create_many(3)
        views = Views(lambda: film.room)
        shown = await asyncio.gather(*(views.glance(each) for each in made))
        assert [each.queue_position for each in shown] == [1, 2, 3]
        vip = await film.create(priority=9)
        assert (await views.glance(made[0])).queue_position == 1, "of half a second ago"
        assert (await views.show(vip)).queue_position == 1
        assert (await views.show(made[0])).queue_position == 2


@pytest.mark.anyio
async def test_a_users_pace() -> None:
    pace = Pace(3)
    assert [pace.take("ann") for _ in range(3)] == [0.0] * 3
    assert 0 < pace.take("ann") <= 20
    assert pace.take("bob") == 0
    few = Pace(60, at_once=2)
    assert [few.take("ann") for _ in range(2)] == [0.0] * 2
    assert 0 < few.take("ann") <= 1
    for number in range(NAMES_MAX + 1):
        few.take(f"invented {number}")
    assert few.take("ann") == 0, "more names at a time than are remembered: all are forgotten"
