"""Steps within jobs: kept by whoever has the job, and no event is missed by a job that waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from conveyor.model.errors import LeaseLostError
from conveyor.model.ids import MessageId
from conveyor.model.job import RECORD_MS, JobState
from conveyor.model.message import Lease
from conveyor.model.settings import QueueSettings
from conveyor.model.step import EVENTS_MAX, JobEvent, StepKind, StepRecord
from conveyor.model.verdict import Action, Settlement
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, Ending, Evidence
from conveyor.store.steps import Holder, Kept
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.jobs import QUEUE, Desk
from conveyor.testing.conformance.life import heard

NOTHING = Kept(steps=[], events=[])
MINUTE_MS = 60_000
KEYED: list[dict[str, Any]] = [{}, {"ordered": True}, {"key_concurrency": 1}, {"fair": True, "key_concurrency": 1}]


def holder(desk: Desk, lease: Lease) -> Holder:
    return Holder(
        owner=desk.owner, seq=lease.seq, claim=lease.claim, id=lease.id, name="mail", queue=QUEUE,
        enqueued_at=lease.sent_at, attempts=lease.attempts,
    )  # fmt: skip


def a_step(desk: Desk, name: str = "s", **parts: Any) -> StepRecord:
    now = desk.clock.now_ms()
    step = StepRecord(kind=StepKind.STEP, name=name, attempt=1, began_at=now, ended_at=now, value=b"1")
    return msgspec.structs.replace(step, **parts)


def a_wait(desk: Desk, name: str = "paid", **parts: Any) -> StepRecord:
    until = desk.clock.now_ms() + MINUTE_MS
    return a_step(desk, name, **({"kind": StepKind.WAIT, "ended_at": None, "value": None, "until": until} | parts))


async def write(desk: Desk, lease: Lease, step: StepRecord, *, is_first: bool = True) -> JobEvent | None:
    return await desk.store.steps.write(holder(desk, lease), step, is_first=is_first)


async def park(desk: Desk, lease: Lease, *events: str, delay_ms: int = MINUTE_MS) -> None:
    settled = await desk.store.settle(
        desk.owner, [Settlement(lease.seq, lease.claim, Action.RELEASE, delay_ms, parks=events)]
    )
    assert (settled.lost, settled.dead) == ([], [])


async def leases_of(desk: Desk) -> list[Lease]:
    return (await desk.store.claim(ClaimRequest(queue=QUEUE, owner=desk.owner, limit=9))).leases


@pytest.mark.anyio
class TestSteps:
    async def test_what_was_kept_is_read_in_the_order_in_which_it_began(self, desk: Desk) -> None:
        id = await desk.send()
        assert await desk.store.steps.read(id) == NOTHING
        lease = await desk.take()
        steps = [a_step(desk, "b", value=b'{"n":1}')]
        await write(desk, lease, steps[0])
        await desk.clock.advance(1)
        steps += [a_step(desk, "a"), a_step(desk, "b", kind=StepKind.SLEEP, until=9**16, ended_at=None, value=None)]
        for each in steps[:0:-1]:
            await write(desk, lease, each, is_first=False)
        assert await desk.store.steps.read(id) == Kept(steps=steps, events=[])
        assert await desk.store.steps.read(MessageId(b"x" * 16)) == NOTHING

    async def test_who_has_lost_the_job_keeps_nothing(self, desk: Desk) -> None:
        id = await desk.send()
        stale = await desk.take()
        await desk.store.settle(desk.owner, [Settlement(stale.seq, stale.claim, Action.RETRY, 0)])
        with pytest.raises(LeaseLostError):
            await write(desk, stale, a_step(desk))
        lease = await desk.take()
        await write(desk, lease, a_step(desk, value=b"2"))
        for step in (a_step(desk), a_wait(desk)):
            with pytest.raises(LeaseLostError):
                await write(desk, stale, step)
        assert await desk.store.steps.read(id) == Kept(steps=[a_step(desk, value=b"2")], events=[])

    async def test_nor_does_one_whose_owner_was_reaped(self, desk: Desk) -> None:
        await desk.send()
        lease = await desk.take()
        await desk.store.reap_owner(desk.owner, Evidence(ending=Ending.LOST))
        with pytest.raises(LeaseLostError):
            await write(desk, lease, a_step(desk))

    async def test_nor_after_its_ack(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
        with pytest.raises(LeaseLostError):
            await write(desk, lease, a_step(desk))
        assert await desk.store.steps.read(id) == NOTHING

    async def test_the_first_one_does_not_change_how_the_job_stands(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await write(desk, lease, a_step(desk))
        assert await desk.state(id) is JobState.RUNNING
        await park(desk, lease)
        assert await desk.state(id) is JobState.SCHEDULED
        await desk.clock.advance(60)
        again = await desk.take()
        assert (again.attempts, again.claim) == (1, 2)
        await desk.settle(again, Action.ACK, JobState.SUCCEEDED)
        assert await desk.state(id) is JobState.SUCCEEDED

    async def test_they_go_with_the_record_of_the_job(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await write(desk, lease, a_step(desk))
        await desk.store.steps.send(id, "paid", b"1")
        await desk.settle(lease, Action.ACK, JobState.SUCCEEDED, expires_at=desk.clock.now_ms() + 1_000)
        await desk.clock.advance(2)
        await desk.store.sweep()
        assert await desk.store.steps.read(id) == NOTHING

    async def test_they_go_in_the_end_though_the_queue_was_purged(self, desk: Desk) -> None:
        id, waiting = await desk.send(), await desk.send()
        lease = await desk.take()
        await write(desk, lease, a_step(desk))
        await desk.store.steps.send(waiting, "paid", b"1")
        await desk.store.purge(QUEUE)
        assert await desk.state(id) is JobState.CANCELLED
        await desk.clock.advance(RECORD_MS / 1000 + 1)
        await desk.store.sweep()
        assert [await desk.store.steps.read(each) for each in (id, waiting)] == [NOTHING, NOTHING]
        assert await desk.store.jobs.find([id, waiting]) == []

    async def test_a_sleep_is_longer_than_retention_expiry_and_record(self, desk: Desk) -> None:
        await desk.store.update_queue(QUEUE, QueueSettings(retention_ms=MINUTE_MS))
        id = await desk.send(expires_in_ms=MINUTE_MS)
        lease = await desk.take()
        await write(desk, lease, a_step(desk))
        await park(desk, lease, delay_ms=2 * RECORD_MS)
        for _ in range(2):
            await desk.clock.advance(RECORD_MS / 1000)
            await desk.store.sweep()
        desk.owner = (await Desk(desk.store, desk.clock).open()).owner
        assert (await desk.take()).id == id
        assert len((await desk.store.steps.read(id)).steps) == 1

    async def test_a_parked_one_that_was_cancelled_is_out(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await write(desk, lease, a_wait(desk))
        await desk.store.jobs.cancel(id)
        await park(desk, lease, "paid")
        assert await desk.state(id) is JobState.CANCELLED
        assert not (await desk.store.steps.send(id, "paid", b"1")).is_kept

    async def test_one_that_is_sent_again_waits_anew_and_keeps_its_steps(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await write(desk, lease, a_step(desk))
        await write(desk, lease, a_wait(desk, ended_at=9))
        await desk.settle(lease, Action.REJECT, JobState.FAILED)
        await desk.store.redrive("a-dlq")
        assert [each.name for each in (await desk.store.steps.read(id)).steps] == ["s"]


@pytest.mark.anyio
class TestEvents:
    """The look for an event, the put-off, and the event, in each order."""

    async def test_one_before_the_wait_is_there_at_once(self, desk: Desk) -> None:
        id = await desk.send(delay_ms=1_000)
        told = await desk.store.steps.send(id, "paid", b"1")
        assert told.is_kept and told.job is not None
        assert await desk.state(id) is JobState.SCHEDULED, "nobody waits for it yet"
        await desk.clock.advance(1)
        lease = await desk.take()
        event = JobEvent(name="paid", payload=b"1", sent_at=desk.clock.now_ms() - 1_000)
        assert (await desk.store.steps.read(id)).events == [event]
        assert await write(desk, lease, a_wait(desk)) == event
        assert await write(desk, lease, a_wait(desk, ended_at=9)) == event, "it beats the end of the wait"
        assert (await desk.store.steps.read(id)).steps == []

    async def test_one_between_the_look_and_the_put_off_undoes_the_put_off(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        assert await write(desk, lease, a_wait(desk)) is None
        await desk.store.steps.send(id, "paid", b"1")
        await park(desk, lease, "other", "paid")
        assert (await desk.take()).attempts == 1

    @pytest.mark.parametrize("settings", KEYED)
    async def test_one_after_the_put_off_ends_it(
        self, store: Store, clock: ManualClock, settings: dict[str, Any]
    ) -> None:
        desk = await Desk(store, clock).open(**settings)
        ids = [await desk.send(key="k") for _ in range(2)]
        lease = await desk.take()
        await write(desk, lease, a_wait(desk))
        await park(desk, lease, "paid")
        held = [] if settings.get("ordered") else [ids[1]]
        others = await leases_of(desk)
        assert [each.id for each in others] == held
        for each in others:
            await desk.settle(each, Action.ACK, JobState.SUCCEEDED)
        async with heard(store, clock) as names:
            await desk.store.steps.send(ids[0], "paid", b"1")
        assert names == {QUEUE}
        assert (await desk.take()).id == ids[0]

    async def test_only_the_event_that_it_waits_for_wakes_a_job(self, desk: Desk) -> None:
        id = await desk.send()
        lease = await desk.take()
        await write(desk, lease, a_wait(desk, "other", ended_at=9))
        await park(desk, lease)
        for name in ("paid", "other"):
            assert (await desk.store.steps.send(id, name, b"1")).is_kept
        assert await leases_of(desk) == []

    async def test_of_two_the_first_counts(self, desk: Desk) -> None:
        id = await desk.send()
        for payload in (b"1", b"2"):
            assert (await desk.store.steps.send(id, "paid", payload)).is_kept
        assert [each.payload for each in (await desk.store.steps.read(id)).events] == [b"1"]

    async def test_a_job_that_has_ended_takes_none(self, desk: Desk) -> None:
        done, dead = await desk.send(), await desk.send()
        await desk.settle(await desk.take(), Action.ACK, JobState.SUCCEEDED)
        await desk.settle(await desk.take(), Action.REJECT, JobState.FAILED)
        for id in (done, dead):
            told = await desk.store.steps.send(id, "paid", b"1")
            assert told.job is not None and not told.is_kept
            assert await desk.store.steps.read(id) == NOTHING
        assert (await desk.store.steps.send(MessageId(b"x" * 16), "paid", b"1")).job is None

    async def test_there_is_a_bound(self, desk: Desk) -> None:
        id = await desk.send()
        told = await asyncio.gather(*(desk.store.steps.send(id, str(number), b"1") for number in range(EVENTS_MAX)))
        assert all(each.is_kept for each in told)
        assert not (await desk.store.steps.send(id, "more", b"1")).is_kept
        assert (await desk.store.steps.send(id, "0", b"1")).is_kept

    @pytest.mark.parametrize("settings", KEYED[:2])
    async def test_none_is_missed_in_a_race(self, store: Store, clock: ManualClock, settings: dict[str, Any]) -> None:
        desk = await Desk(store, clock).open(**settings)
        for _ in range(12):
            id = await desk.send(key="k")
            lease = await desk.take()
            await write(desk, lease, a_wait(desk))
            await asyncio.gather(
                park(desk, lease, "paid"), *(desk.store.steps.send(id, "paid", bytes([48 + n])) for n in range(3))
            )
            again = await desk.take()
            assert again.id == id
            [event] = (await desk.store.steps.read(id)).events
            assert event.payload in (b"0", b"1", b"2")
            await desk.settle(again, Action.ACK, JobState.SUCCEEDED)
