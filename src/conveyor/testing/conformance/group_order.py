"""Groups: members that come after others, and starts that take more than one transaction."""

from __future__ import annotations

import pytest

from conveyor.model.beside import GroupGoneError
from conveyor.model.errors import QueueNotFoundError
from conveyor.model.group import GroupState, MemberState
from conveyor.model.ids import IdSource
from conveyor.model.settings import QueueSettings
from conveyor.store.groups import START_MS
from conveyor.store.protocol import Store
from conveyor.testing.clock import ManualClock
from conveyor.testing.conformance.groups import PLAIN, SUCCEEDED, Circle, ack, reject, take_plain
from conveyor.testing.conformance.jobs import QUEUE, Desk


@pytest.mark.anyio
class TestGroupOrder:
    """Members that come after others."""

    async def test_one_after_the_other(self, desk: Desk, circle: Circle) -> None:
        first, second = circle.add(), circle.add(0)
        await circle.start()
        assert await circle.states() == [MemberState.SENT, MemberState.WAITING]
        lease = await desk.take()
        assert lease.id == first
        await ack(desk, lease)
        lease = await desk.take()
        assert lease.id == second
        await ack(desk, lease)
        assert (await circle.find()).state is GroupState.SUCCEEDED

    async def test_after_all_of_several(self, desk: Desk, circle: Circle) -> None:
        circle.add()
        circle.add()
        last = circle.add(0, 1)
        await circle.start()
        leases = [await desk.take(), await desk.take()]
        await ack(desk, leases[0])
        assert (await circle.states())[2] is MemberState.WAITING
        await ack(desk, leases[1])
        assert (await desk.take()).id == last

    async def test_a_result_is_handed_on(self, desk: Desk, circle: Circle) -> None:
        circle.add()
        circle.add(0, takes=0)
        circle.add(1, takes=1)
        await circle.start()
        await ack(desk, await desk.take(), result=b'{"n":1}')
        lease = await desk.take()
        assert lease.body == b'{"n":1}'
        await ack(desk, lease)
        assert (await desk.take()).body == b"null"

    async def test_what_is_still_to_be_sent_is_listed_and_changed(
        self, desk: Desk, circle: Circle, store: Store
    ) -> None:
        members = [circle.add(), circle.add(0), circle.add(1)]
        await circle.start()
        [second] = await store.groups.unsent(limit=1)
        [third] = await store.groups.unsent(limit=9, after=(second.group, second.place))
        assert [each.message.id for each in (second, third)] == members[1:]
        assert await store.groups.edit_unsent(second, b'"new"')
        assert not await store.groups.edit_unsent(second, b'"newer"'), "it is not what it was"
        [changed] = await store.groups.unsent(limit=1)
        await ack(desk, await desk.take())
        assert not await store.groups.edit_unsent(changed, b'"late"'), "it was sent"
        assert [each.message.id for each in await store.groups.unsent(limit=9)] == members[2:]
        bodies = {each.id: each.body for each in await store.peek(QUEUE, limit=9)}
        assert bodies[members[1]] == b'"new"'

    async def test_a_result_that_is_too_large_to_be_handed_on(self, desk: Desk, circle: Circle, store: Store) -> None:
        await store.update_queue(QUEUE, QueueSettings(max_message_bytes=10))
        circle.add()
        circle.add(0, takes=0)
        await circle.start()
        await ack(desk, await desk.take(), result=b'"%s"' % (b"x" * 20))
        assert await circle.counts() == (1, 1, 0)
        assert len(await circle.reports()) == 1

    async def test_what_comes_after_a_failure_goes_on(self, desk: Desk, circle: Circle) -> None:
        circle.add()
        last = circle.add(0)
        await circle.start()
        await reject(desk, await desk.take())
        assert (await desk.take()).id == last

    async def test_or_is_cancelled_with_all_that_waits(self, desk: Desk, circle: Circle, store: Store) -> None:
        strict = Circle(desk, on_failure="cancel")
        strict.add()
        strict.add()
        strict.add(0)
        strict.add()
        await strict.start()
        failing, running = await desk.take(), await desk.take()
        await reject(desk, failing)
        found = await strict.find()
        assert (found.state, found.failed, found.cancelled) == (GroupState.FAILING, 1, 2)
        assert [each.id for each in await store.peek(QUEUE, limit=10)] == [running.id]
        await store.sweep()
        await ack(desk, running)
        [report] = await circle.reports()
        assert (report.state, report.succeeded, report.failed, report.cancelled) == (GroupState.FAILED, 1, 1, 2)

    async def test_a_wide_step(self, desk: Desk, circle: Circle, store: Store) -> None:
        circle.add()
        for _ in range(450):
            circle.add(0, queue=PLAIN)
        await circle.start()
        await ack(desk, await desk.take())
        await circle.to_end()
        assert (await store.metrics(PLAIN)).backlog_messages == 450
        assert (await circle.find()).unsent == 0


@pytest.mark.anyio
class TestGroupStarts:
    """Nothing of a group runs before all of it is there."""

    async def test_in_pages(self, circle: Circle, store: Store) -> None:
        for _ in range(5):
            circle.add(queue=PLAIN)
        await store.groups.start(circle.draft, circle.nodes[:3], is_last=False)
        assert (await circle.find()).state is GroupState.STARTING
        assert (await store.metrics(PLAIN)).backlog_messages == 0
        assert not await store.groups.advance(circle.id)
        await store.groups.start(circle.draft, circle.nodes[3:], is_last=True)
        assert (await circle.find()).total == 5
        assert (await store.metrics(PLAIN)).backlog_messages == 5

    async def test_a_start_that_was_given_up_leaves_nothing(self, desk: Desk, circle: Circle, store: Store) -> None:
        for _ in range(5):
            circle.add(queue=PLAIN)
        await store.groups.start(circle.draft, circle.nodes[:3], is_last=False)
        await desk.clock.advance(START_MS / 1_000)
        await store.sweep()
        assert await store.groups.find(circle.id) is None
        assert await circle.reports() == []
        with pytest.raises(GroupGoneError):
            await store.groups.start(circle.draft, circle.nodes[3:], is_last=True)

    async def test_the_sweep_sends_what_a_starter_has_left(self, desk: Desk, circle: Circle, store: Store) -> None:
        for _ in range(1_200):
            circle.add(queue=PLAIN)
        await store.groups.start(circle.draft, circle.nodes[:600], is_last=False)
        await store.groups.start(circle.draft, circle.nodes[600:], is_last=True)
        assert (await store.metrics(PLAIN)).backlog_messages < 1_200
        while (await store.sweep()).groups:
            pass
        assert (await store.metrics(PLAIN)).backlog_messages == 1_200

    async def test_members_wait_for_room(self, desk: Desk, circle: Circle, store: Store) -> None:
        await store.update_queue(PLAIN, QueueSettings(max_backlog_messages=2))
        await circle.begin(3, queue=PLAIN)
        assert (await store.metrics(PLAIN)).backlog_messages < 3
        for _ in range(3):
            await store.sweep()
            await ack(desk, await take_plain(desk))
        assert (await circle.find()).state is GroupState.SUCCEEDED

    async def test_it_starts_once(self, circle: Circle, store: Store) -> None:
        await circle.begin(1)
        with pytest.raises(GroupGoneError):
            await store.groups.start(circle.draft, [], is_last=True)

    async def test_unknown_queues(self, circle: Circle, store: Store) -> None:
        circle.add(queue=PLAIN)
        await store.delete_queue(PLAIN)
        with pytest.raises(QueueNotFoundError):
            await circle.start()
        assert await store.groups.find(circle.id) is None

    async def test_lists(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(2)
        other = Circle(desk, name="other")
        await other.start()
        assert [each.name for each in await store.groups.look(limit=10)] == ["other", "g"]
        assert [each.name for each in await store.groups.look(limit=10, before=other.id)] == ["g"]
        assert [each.id for each in await store.groups.look(limit=10, name="other")] == [other.id]
        assert [each.id for each in await store.groups.look(limit=10, state=GroupState.RUNNING)] == [circle.id]
        await ack(desk, await desk.take())
        [done] = await store.groups.members(circle.id, state=SUCCEEDED, limit=10)
        assert (done.place, done.queue, done.job, done.ended_at) == (0, QUEUE, "mail", desk.clock.now_ms())
        assert [each.place for each in await store.groups.members(circle.id, limit=10, after=0)] == [1]
        assert await store.groups.find_member(done.id) == done
        assert await store.groups.find_member(IdSource(ManualClock()).new()) is None
