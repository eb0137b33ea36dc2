"""Changes that somebody watches: what was, what is, and a record of it in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from conveyor.model.errors import ConflictError, QueueNotFoundError
from conveyor.model.job import JobState
from conveyor.model.message import ContentType
from conveyor.model.verdict import Action
from conveyor.store.protocol import Store
from conveyor.store.records import TRAIL_KIND, Alarm, Delivery, Document, KeyValue, QueueInfo, Schedule
from conveyor.store.witness import Change, about, watched
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.jobs import Desk, desk
from conveyor.testing.factories import a_consumer, a_draft, a_queue, a_schedule, an_id

__all__ = ["TestChanges", "desk"]


class Watcher:
    """A witness that keeps what it was shown, and writes that it was."""

    trail = "log"

    def __init__(self) -> None:
        self.seen: list[Change] = []
        self.left: list[bytes] = []
        self.told = 0
        self.refuses = False

    @contextmanager
    def watch(self) -> Iterator[None]:
        with watched(self):
            yield

    def examine(self, head: bytes) -> None:
        if self.refuses:
            raise ConflictError("not now")

    def describe(self, change: Change, now: int) -> bytes | None:
        self.seen.append(change)
        return f"{change.kind} {change.name}".encode()

    def seal(self, before: bytes, body: bytes) -> bytes:
        return body

    def tell(self, body: bytes | None, *, is_written: bool) -> None:
        self.told += 1
        if body is not None and not is_written:
            self.left.append(body)


async def trail_of(store: Store, watcher: Watcher) -> list[str]:
    """All that was recorded, wherever it could be."""
    written = [each.body.decode() for each in await store.list_documents("log", limit=100)]
    return written + [each.decode() for each in watcher.left]


@pytest.mark.anyio
class TestChanges:
    async def test_a_queue_is_shown_before_and_after(self, store: Store) -> None:
        watcher = Watcher()
        with watcher.watch():
            await store.create_queue("inbox", a_queue())
            await store.update_queue("inbox", a_queue(delivery_delay_ms=7))
            await store.put_consumer("inbox", a_consumer(max_retries=9))
            await store.pause("inbox")
            await store.resume("inbox")
            await store.delete_queue("inbox")
        shown = [
            tuple(
                None if not isinstance(each, QueueInfo) else
                (each.settings.delivery_delay_ms, each.consumer.max_retries if each.consumer else None, each.paused)
                for each in (change.before, change.after)
            )
            for change in watcher.seen
        ]  # fmt: skip
        steps = [None, (0, None, False), (7, None, False), (7, 9, False), (7, 9, True), (7, 9, False), None]
        assert shown == list(pairwise(steps))
        assert await trail_of(store, watcher) == ["queue inbox"] * 6
        assert watcher.told == 6

    async def test_what_nobody_watches_is_not_recorded(self, store: Store) -> None:
        watcher = Watcher()
        with watcher.watch():
            pass
        await store.create_queue("inbox", a_queue())
        with watcher.watch(), watched(None):
            await store.pause("inbox")
        assert await trail_of(store, watcher) == []
        assert await store.get_document(TRAIL_KIND, "log") is None

    async def test_messages_on_their_way_are_no_changes(self, desk: Desk) -> None:
        watcher = Watcher()
        with watcher.watch():
            await desk.send()
            lease = await desk.take()
            await desk.settle(lease, Action.ACK, JobState.SUCCEEDED)
            await desk.store.sweep()
        assert watcher.seen == []

    async def test_what_was_refused_or_failed_is_not_recorded(self, store: Store) -> None:
        watcher = Watcher()
        with watcher.watch(), pytest.raises(QueueNotFoundError):
            await store.pause("inbox")
        assert await trail_of(store, watcher) == []
        assert watcher.told == 0

    async def test_a_witness_that_refuses_stops_the_change(self, store: Store) -> None:
        await store.create_queue("a", a_queue())  # lies at home, where a trail is kept
        watcher = Watcher()
        watcher.refuses = True
        with watcher.watch(), pytest.raises(ConflictError):
            await store.pause("a")
        assert not (await store.get_queue("a")).paused

    async def test_counts_of_many_messages(self, store: Store) -> None:
        await store.create_queue("inbox", a_queue())
        await store.append([a_draft(), a_draft(), a_draft()])
        watcher = Watcher()
        with watcher.watch():
            await store.discard("inbox", [(await store.peek("inbox", limit=1))[0].seq])
            await store.purge("inbox")
        assert [len(each.answer) if isinstance(each.answer, list) else each.answer for each in watcher.seen] == [1, 2]

    async def test_an_edited_message_is_shown_as_it_was_and_is(self, store: Store) -> None:
        await store.create_queue("inbox", a_queue())
        await store.append([a_draft(body=b'"old"')])
        [was] = await store.peek("inbox", limit=1)
        watcher = Watcher()
        with watcher.watch():
            await store.edit_message(was, body=b'"new"', content_type=ContentType.JSON, headers=None)
        [change] = watcher.seen
        assert (change.before.body, change.after.body) == (b'"old"', b'"new"')
        assert change.name == f"inbox/{was.id.hex()}"

    async def test_jobs_schedules_alarms_documents_and_values(self, desk: Desk, clock: ManualClock) -> None:
        store = desk.store
        id = await desk.send()
        await store.declare_schedule(a_schedule(queue="a"), 9)
        watcher = Watcher()
        with watcher.watch():
            await store.steps.send(id, "paid", b"1")
            await store.jobs.cancel(id)
            await store.pause_schedule("nightly")
            await store.set_alarm("tea", clock.now_ms() + 5, a_draft(queue="a"))
            await store.cancel_alarm("tea")
            await store.put_document("token", "1", b"{}")
            await store.delete_document("token", "1")
            await store.kv_put("space", KeyValue(key="k", value=b"v"))
            await store.kv_delete("space", "k")
        kinds = [(each.kind, each.name) for each in watcher.seen]
        assert kinds == [
            ("event", f"{id.hex()}/paid"), ("job", id.hex()), ("schedule", "nightly"), ("alarm", "tea"),
            ("alarm", "tea"),
            ("document", "token/1"), ("document", "token/1"), ("kv", "space/k"), ("kv", "space/k"),
        ]  # fmt: skip
        event, job, schedule, alarm, gone, *_ = watcher.seen
        assert event.answer.is_kept and event.after is None, "what it says is nobody's business"
        now = clock.now_ms()
        assert (job.before.state(now), job.after.state(now)) == ("queued", "cancelled")
        assert isinstance(schedule.before, Schedule) and not schedule.before.paused and schedule.after.paused
        assert alarm.before is None and isinstance(alarm.after, Alarm) and gone.after is None
        assert watcher.seen[5].before is None and isinstance(watcher.seen[5].after, Document)
        assert sorted(await trail_of(store, watcher)) == sorted(f"{kind} {name}" for kind, name in kinds)

    async def test_a_delivery_that_goes_out_again(self, store: Store) -> None:
        await store.create_queue("inbox", a_queue())
        message = a_draft()
        delivery = Delivery(
            id=an_id(), endpoint="e", queue="inbox", event="x", state="pending", message_id=message.id, body=b"{}"
        )
        watcher = Watcher()
        with watcher.watch():
            await store.open_deliveries([(delivery, message)])
        [change] = watcher.seen
        assert (change.kind, change.name, change.before) == ("delivery", delivery.id.hex(), None)
        assert change.after.state == "pending"

    async def test_a_change_for_the_sake_of_something_else_shows_that(self, desk: Desk) -> None:
        id = await desk.send()
        watcher = Watcher()
        with watcher.watch(), about("job", id.hex()):
            await desk.store.purge("a")
        [change] = watcher.seen
        assert (change.kind, change.name) == ("job", id.hex())
        assert change.before.message is not None and change.after is None
