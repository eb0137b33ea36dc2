"""A payload of yesterday, read by the code of today; one of tomorrow, by that of today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from conveyor import Conveyor, JobFailedError, JobState
from kit.programs import until, working

pytestmark = pytest.mark.anyio


@dataclass
class First:
    to: str


@dataclass
class Third:
    to: str
    country: str
    express: bool


def make_app(url: str, version: int) -> tuple[Conveyor, Any]:
    app = Conveyor("shop", url=url)
    if version == 1:

        @app.job(name="ship")
        async def ship_first(parcel: First) -> str:
            return parcel.to

        return app, ship_first

    upcasts = {1: lambda old: old | {"country": "DE"}, 2: lambda old: old | {"express": old["country"] != "DE"}}

    @app.job(name="ship", version=3, upcasts=upcasts, max_retries=0)
    async def ship(parcel: Third) -> str:
        return f"{parcel.to} {parcel.country} {parcel.express}"

    return app, ship


async def test_older_payloads_are_lifted_step_by_step(url: str) -> None:
    old, ship_first = make_app(url, 1)
    async with old:
        sent = await ship_first.enqueue(First("ann"))
    new, ship = make_app(url, 3)
    async with working(new):
        assert await new.jobs.get(sent.id, ship).result(60) == "ann DE False"
        assert await (await ship.enqueue(Third("bob", "FR", True))).result(60) == "bob FR True"


async def test_newer_payloads_wait_for_the_new_code(url: str) -> None:
    new, ship = make_app(url, 3)
    async with new:
        sent = await ship.enqueue(Third("bob", "FR", True))
    old, ship_first = make_app(url, 1)
    async with working(old):
        waiting = old.jobs.get(sent.id, ship_first)

        async def is_put_off() -> bool:
            return await waiting.state() is JobState.SCHEDULED and "version 3" in await waiting.explain()

        await until(is_put_off)
    async with working(new):
        assert await new.jobs.get(sent.id, ship).result(60) == "bob FR True"


async def test_what_is_no_payload_fails(url: str) -> None:
    old, _ = make_app(url, 1)

    @old.job(name="count", max_retries=0)
    async def count_words(words: list[str]) -> int:
        return len(words)

    new = Conveyor("shop", url=url)

    @new.job(name="count", max_retries=0)
    async def count(number: int) -> int:
        return number

    async with old:
        sent = await count_words.enqueue(["a"])
    async with working(new):
        job = new.jobs.get(sent.id, count)
        with pytest.raises(JobFailedError, match="BodyDecodeError"):
            await job.result(60)
