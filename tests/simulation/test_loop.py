"""The loop of the simulation: time that jumps, steps by lot, processes that die between two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from conveyor.sim.loop import SimClock, SimLoop, SimProcess, WorldStuckError


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop(Random(1))
    yield loop
    loop.bury()


def test_an_hour_passes_at_once(loop: SimLoop) -> None:
    loop.run_until_complete(SimClock(loop).sleep(3_600))
    assert loop.time() == 3_600


def test_a_killed_process_runs_no_finally(loop: SimLoop) -> None:
    said: list[str] = []
    clock, process = SimClock(loop), SimProcess(loop, "victim", 1)

    async def work() -> None:
        try:
            await clock.sleep(1)
        finally:
            said.append("finally")

    process.spawn(work())
    process.kill()
    loop.run_until_complete(clock.sleep(10))
    assert said == []


def test_a_stopped_process_sleeps_through_its_timers(loop: SimLoop) -> None:
    woke: list[float] = []
    clock, process = SimClock(loop), SimProcess(loop, "sleeper", 1)

    async def work() -> None:
        await clock.sleep(1)
        woke.append(clock.monotonic())

    async def world() -> None:
        process.spawn(work())
        await clock.sleep(0.5)
        process.stop()
        await clock.sleep(4.5)
        assert woke == []
        process.go_on()
        await clock.sleep(1)

    loop.run_until_complete(world())
    assert woke == [5.0]


def test_the_order_of_steps_is_the_seeds(loop: SimLoop) -> None:
    def order(seed: int) -> list[int]:
        done: list[int] = []
        other = SimLoop(Random(seed))
        for number in range(8):
            other.call_soon(done.append, number)
        other.run_until_complete(SimClock(other).sleep(1))
        other.bury()
        return done

    assert order(1) == order(1) != order(2)


def test_a_world_in_which_nothing_can_happen_is_stuck() -> None:
    loop = SimLoop(Random(1))
    with pytest.raises(WorldStuckError):
        loop.run_until_complete(asyncio.Event().wait())
    loop.bury()
