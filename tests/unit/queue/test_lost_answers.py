"""An answer of the store that never came: what it did is found out, and nothing is left in a worker's name for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from conveyor.model.dispatch import Dispatch
from conveyor.model.errors import OutcomeUnknownError
from conveyor.model.events import LeasesReturned
from conveyor.queue.delivery import Message
from conveyor.queue.immediate import Here
from conveyor.store.memory import MemoryStore
from conveyor.store.records import Claimed, ClaimRequest, Settled

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from conveyor.model.message import Draft, Sent
    from conveyor.model.verdict import Settlement
    from unit.queue.conftest import Workshop

pytestmark = pytest.mark.anyio


class Forgetful(MemoryStore):
    """Does what it is asked; the next so many answers of a kind are lost."""

    async def open(self) -> None:
        await super().open()
        self.loses: Counter[str] = Counter()
        self.statements = 0
        self.stating_s = 0.0

    def _lose(self, kind: str) -> None:
        if self.loses[kind]:
            self.loses[kind] -= 1
            raise OutcomeUnknownError("the connection broke")

    async def claim(self, request: ClaimRequest) -> Claimed:
        claimed = await super().claim(request)
        if claimed.leases:
            self._lose("claim")
        return claimed

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        answer = await super().append_and_claim(drafts, request)
        self._lose("send")
        return answer

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        settled = await super().settle(owner, settlements, ended=ended)
        self._lose("settle")
        return settled

    async def reconcile(self, owner: int, queue: str, held: Collection[tuple[int, int]], *, calls: int) -> int:
        self.statements += 1
        await self.clock.sleep(self.stating_s)
        returned = await super().reconcile(owner, queue, held, calls=calls)
        self._lose("reconcile")
        return returned


@pytest.fixture
async def store(workshop: Workshop) -> Forgetful:
    workshop.store = store = Forgetful(workshop.clock)
    await store.open()
    return store


async def test_what_a_lost_claim_took_is_handled_at_no_attempt(workshop: Workshop, store: Forgetful) -> None:
    attempts: list[int] = []

    async def handle(message: Message[int]) -> None:
        attempts.append(message.attempts)

    store.loses["claim"] = 1
    handler = await workshop.declare(handle)
    await workshop.queue().send_batch(range(5))
    await workshop.start(handler)
    await workshop.clock.advance(1)
    await workshop.until_empty()
    assert attempts == [1] * 5
    assert [told.messages for told in workshop.told(LeasesReturned)] == [5]


async def test_a_slot_that_a_lost_claim_took_is_free_again(workshop: Workshop, store: Forgetful) -> None:
    handled: list[int] = []

    async def handle(message: Message[int]) -> None:
        handled.append(message.body)

    store.loses["claim"] = 1
    handler = await workshop.declare(handle, max_concurrency=1)
    await workshop.queue().send_batch(range(3))
    await workshop.start(handler)
    await workshop.clock.advance(1)
    await workshop.until_empty()
    assert handled == [0, 1, 2]


async def test_what_a_lost_send_took_is_handled(workshop: Workshop, store: Forgetful) -> None:
    handled: list[int] = []

    async def handle(message: Message[int]) -> None:
        handled.append(message.body)

    here = Here()
    await workshop.start(await workshop.declare(handle, dispatch=Dispatch.IMMEDIATE), here=here)
    await workshop.queue(here=here).send(0)
    await workshop.until_empty()
    store.loses["send"] = 1
    with pytest.raises(OutcomeUnknownError):
        await workshop.queue(here=here).send(1)
    await workshop.clock.advance(1)
    await workshop.until_empty()
    assert handled == [0, 1]


async def test_what_is_known_is_not_given_back_with_what_is_lost(workshop: Workshop, store: Forgetful) -> None:
    gate, begun = asyncio.Event(), Counter[int]()

    async def handle(message: Message[int]) -> None:
        begun[message.body] += 1
        await gate.wait()

    handler = await workshop.declare(handle)
    await workshop.queue().send_batch(range(3))
    await workshop.start(handler)
    await workshop.until(lambda: len(begun) == 3)
    store.loses["claim"] = 1
    await workshop.queue().send(3)
    await workshop.clock.advance(1)
    await workshop.until(lambda: len(begun) == 4)
    gate.set()
    await workshop.until_empty()
    assert set(begun.values()) == {1}


async def test_a_slot_is_given_back_once_though_the_answer_was_lost(workshop: Workshop, store: Forgetful) -> None:
    gates = [asyncio.Event() for _ in range(6)]
    running: set[int] = set()
    peak = 0

    async def handle(message: Message[int]) -> None:
        nonlocal peak
        running.add(message.body)
        peak = max(peak, len(running))
        await gates[message.body].wait()
        running.remove(message.body)

    handler = await workshop.declare(handle, max_concurrency=2)
    await workshop.queue().send_batch(range(6))
    await workshop.start(handler)
    await workshop.start(handler)
    await workshop.until(lambda: len(running) == 2)
    store.loses["settle"] = 3
    for number, gate in enumerate(gates):
        await workshop.until(partial(running.__contains__, number))
        gate.set()
        for _ in range(3):
            await workshop.clock.advance(1)
    await workshop.until_empty()
    assert peak == 2


async def test_a_statement_whose_answer_is_lost_is_made_again(workshop: Workshop, store: Forgetful) -> None:
    handled: list[int] = []

    async def handle(message: Message[int]) -> None:
        handled.append(message.body)

    store.loses.update(claim=1, reconcile=2)
    handler = await workshop.declare(handle, max_concurrency=1)
    await workshop.queue().send_batch(range(3))
    await workshop.start(handler)
    for _ in range(3):
        await workshop.clock.advance(1)
    await workshop.until_empty()
    assert handled == [0, 1, 2]


async def test_a_worker_without_a_doubt_states_what_it_holds_once_a_minute(
    workshop: Workshop, store: Forgetful
) -> None:
    handled: list[int] = []

    async def handle(message: Message[int]) -> None:
        handled.append(message.body)

    worker = await workshop.start(await workshop.declare(handle))
    await workshop.clock.settle()
    await workshop.queue().send(1)
    await store.claim(ClaimRequest(queue="q", owner=worker.owner, limit=1))  # behind its back
    await workshop.clock.advance(59)
    assert handled == []
    await workshop.clock.advance(2)
    await workshop.until_empty()
    assert handled == [1]


@pytest.mark.parametrize(("takes_s", "pause_s"), [(0.0, 60), (0.1, 100), (10.0, 900)])
async def test_what_takes_long_to_state_is_stated_rarely(
    workshop: Workshop, store: Forgetful, takes_s: float, pause_s: int
) -> None:
    async def handle(message: Message[int]) -> None:
        """There is none."""

    store.stating_s = takes_s
    await workshop.start(await workshop.declare(handle))
    await pass_time(workshop, 62 + int(takes_s))
    assert store.statements == 1
    await pass_time(workshop, pause_s - 10)
    assert store.statements == 1
    await pass_time(workshop, 14)
    assert store.statements == 2


async def pass_time(workshop: Workshop, seconds: int) -> None:
    for _ in range(seconds // 2):
        await workshop.clock.advance(2)
