"""What has ended is kept as long as the policies say, and no longer."""

from __future__ import annotations

import msgspec
import pytest

from conveyor.model.ids import MessageId
from conveyor.model.job import RECORD_MS, JobState
from conveyor.model.verdict import Action
from conveyor.store.protocol import Store
from conveyor.store.records import DELIVERY_MS, HISTORY_ROWS_MAX, TRAIL_KIND, Delivery
from conveyor.store.retaining import POLICIES, RUNS_MS, History, Policy
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.jobs import Desk, desk
from conveyor.testing.factories import a_draft, a_firing, a_queue, a_schedule, an_id

__all__ = ["TestRetention", "desk"]

DAY = 86_400


async def keep(store: Store, name: str, seconds: float | None) -> None:
    """All stores that it is made of."""
    body = msgspec.json.encode(Policy(keep_ms=None if seconds is None else int(seconds * 1000)))
    for part in getattr(store, "parts", {"": store}).values():
        await part.put_document(POLICIES, name, body)


async def end_one(desk: Desk, state: JobState = JobState.SUCCEEDED, **parts: object) -> MessageId:
    await desk.send()
    lease = await desk.take()
    action = Action.ACK if state is JobState.SUCCEEDED else Action.REJECT
    await desk.settle(lease, action, state, **parts)
    return lease.id


async def records_of(desk: Desk, *ids: MessageId) -> list[bool]:
    """Which of them are remembered."""
    found = {each.id for each in await desk.store.jobs.find(ids) if each.record is not None}
    return [id in found for id in ids]


@pytest.mark.anyio
class TestRetention:
    async def test_without_a_policy_jobs_are_kept_as_ever(self, desk: Desk) -> None:
        id = await end_one(desk)
        await desk.clock.advance(RECORD_MS / 1000 - 1)
        await desk.store.sweep()
        assert await records_of(desk, id) == [True]
        await desk.clock.advance(2)
        assert (await desk.store.sweep()).jobs == 1
        assert await records_of(desk, id) == [False]

    async def test_a_shorter_policy_holds_for_what_is_there_already(self, desk: Desk) -> None:
        old = await end_one(desk)
        await desk.clock.advance(3_600)
        young = await end_one(desk)
        await keep(desk.store, "jobs/a", 1_800)
        swept = [await desk.store.sweep() for _ in range(3)]
        assert sum(each.jobs for each in swept) == 1
        assert await records_of(desk, old, young) == [False, True]
        await desk.clock.advance(1_801)
        await desk.store.sweep()
        assert await records_of(desk, young) == [False]

    async def test_a_longer_one_too_and_its_end_is_as_before(self, desk: Desk) -> None:
        id = await end_one(desk)
        await keep(desk.store, "jobs", 2 * RECORD_MS / 1000)
        await desk.store.sweep()
        await desk.clock.advance(RECORD_MS / 1000 + 10)
        await desk.store.sweep()
        assert await records_of(desk, id) == [True]
        await keep(desk.store, "jobs", None)
        await desk.clock.advance(9 * RECORD_MS / 1000)
        for _ in range(3):
            await desk.store.sweep()
        assert await records_of(desk, id) == [True]
        await keep(desk.store, "jobs", 60)
        for _ in range(3):
            await desk.store.sweep()
        assert await records_of(desk, id) == [False]

    async def test_a_queue_s_own_goes_before_that_of_all(self, desk: Desk) -> None:
        id = await end_one(desk)
        await keep(desk.store, "jobs", 60)
        await keep(desk.store, "jobs/a", 7 * DAY)
        await desk.clock.advance(DAY)
        for _ in range(3):
            await desk.store.sweep()
        assert await records_of(desk, id) == [True]

    async def test_a_result_that_was_to_live_longer_does(self, desk: Desk) -> None:
        until = desk.clock.now_ms() + 2 * RECORD_MS
        id = await end_one(desk, result=b"1", result_until=until, expires_at=until)
        await keep(desk.store, "jobs", 60)
        await desk.clock.advance(RECORD_MS / 1000 + DAY)
        for _ in range(3):
            await desk.store.sweep()
        assert await records_of(desk, id) == [True]

    async def test_what_is_not_over_is_not_history(self, desk: Desk) -> None:
        await keep(desk.store, "jobs", 60)
        id = await desk.send()
        lease = await desk.take()
        await desk.store.jobs.beat([desk.record(lease, JobState.RUNNING, ended_at=None)])
        await desk.clock.advance(DAY)
        for _ in range(3):
            await desk.store.sweep()
        assert await records_of(desk, id) == [True]

    async def test_deliveries_by_their_queue(self, store: Store, clock: ManualClock) -> None:
        for queue in ("a", "b"):
            await store.create_queue(queue, a_queue())
        ids = []
        for queue in ("a", "b"):
            message = a_draft(queue=queue)
            delivery = Delivery(
                id=an_id(), endpoint="e", queue=queue, event="x", state="delivered", message_id=message.id, body=b"{}"
            )
            await store.open_deliveries([(delivery, message)])
            ids.append(delivery.id)
        await keep(store, "deliveries/a", DAY)
        await clock.advance(DAY - 1)
        assert (await store.sweep()).deliveries == 0
        await clock.advance(2)
        assert (await store.sweep()).deliveries == 1
        assert [await store.get_delivery(id) is None for id in ids] == [True, False]
        await clock.advance(DELIVERY_MS / 1000)
        assert (await store.sweep()).deliveries == 1

    async def test_runs_by_their_schedule_but_for_the_newest(self, store: Store, clock: ManualClock) -> None:
        await store.create_queue("inbox", a_queue(retention_ms=60_000))
        for name in ("nightly", "hourly"):
            await store.declare_schedule(a_schedule(name=name), None)
        start = clock.now_ms()
        for name in ("nightly", "hourly"):
            for number in range(3):
                await store.fire(a_firing(schedule=name, tick=start + number, message=a_draft()))
                await store.finish_run(name, start + number, error=None)
        await keep(store, "runs/hourly", DAY)
        await clock.advance(2 * DAY)
        assert (await store.sweep()).runs == 2
        assert [each.tick for each in await store.list_runs("hourly", limit=9)] == [start + 2]
        assert len(await store.list_runs("nightly", limit=9)) == 3
        await clock.advance(RUNS_MS / 1000)
        assert (await store.sweep()).runs == 2

    async def test_a_run_that_has_not_ended_stays_longer(self, store: Store, clock: ManualClock) -> None:
        await store.create_queue("inbox", a_queue())
        await store.declare_schedule(a_schedule(), None)
        start = clock.now_ms()
        for number in range(2):
            await store.fire(a_firing(tick=start + number, message=a_draft()))
        await keep(store, "runs", DAY)
        await clock.advance(10 * DAY)
        assert (await store.sweep()).runs == 0
        await clock.advance(10 * DAY)
        assert (await store.sweep()).runs == 1

    async def test_the_trail_loses_its_beginning_and_says_where(self, store: Store, clock: ManualClock) -> None:
        for number in range(3):
            await store.append_record("audit", b"%d" % number, lambda _before, body: body)
        await clock.advance(100 * DAY)
        assert (await store.sweep()).records == 0
        await store.append_record("audit", b"3", lambda _before, body: body)
        await keep(store, "audit", 30 * DAY)
        assert (await store.sweep()).records == 3
        assert [each.body for each in await store.list_documents("audit", limit=9)] == [b"3"]
        start = await store.get_document(TRAIL_KIND, "audit.start")
        assert start is not None and start.body == b"2"
        await clock.advance(100 * DAY)
        assert (await store.sweep()).records == 0, "the last one stays"

    async def test_few_rows_at_a_time(self, store: Store, clock: ManualClock) -> None:
        await store.create_queue("a", a_queue())
        count = HISTORY_ROWS_MAX + 10
        opened = []
        for _ in range(count):
            message = a_draft(queue="a")
            delivery = Delivery(
                id=an_id(), endpoint="e", queue="a", event="x", state="failed", message_id=message.id, body=b"{}"
            )
            opened.append((delivery, message))
        await store.open_deliveries(opened)
        await clock.advance(DELIVERY_MS / 1000 + 1)
        assert [(await store.sweep()).deliveries for _ in range(3)] == [HISTORY_ROWS_MAX, 10, 0]

    async def test_a_look_sees_all_that_has_ended(self, desk: Desk) -> None:
        done, dead = await end_one(desk), await end_one(desk, JobState.FAILED, error="x")
        await desk.send()
        store = desk.store.at("a")
        page = await store.retention.look(History.JOBS)
        assert [(each.scope, each.ended_at) for each in page.items] == [("a", desk.clock.now_ms())] * 2
        assert page.next_after is None and done != dead
        assert (await store.retention.look(History.RUNS)).items == []
