"""Groups: members are counted once, in the transaction in which they end, whatever ends them; the last one sends the
group's last message."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from conveyor.model.group import GROUP_HEADER, GROUP_MS, GroupResult, GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.model.job import JobState
from conveyor.model.message import Draft, Lease
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Action, Settlement
from conveyor.store.groups import Group, GroupDraft, NodeDraft
from conveyor.store.protocol import Store
from conveyor.store.records import PULL_OWNER, ClaimRequest, Ending, Evidence
from conveyor.testing.conformance.changes import Watcher
from conveyor.testing.conformance.jobs import QUEUE, Desk

PLAIN = "plain"
REPORTS = "reports"
MINUTE = 60_000
SUCCEEDED, FAILED, CANCELLED = MemberState.SUCCEEDED, MemberState.FAILED, MemberState.CANCELLED


class Circle:
    """A group that is being made, and what becomes of it."""

    def __init__(self, desk: Desk, **options: Any) -> None:
        self.desk = desk
        self.store = desk.store
        self.id = desk.ids.new()
        last = Draft(id=desk.ids.new(), queue=REPORTS, body=b"null")
        told: dict[str, Any] = {"name": "g", "on_failure": "continue", "deadline_ms": MINUTE, "on_complete": last}
        self.draft = GroupDraft(id=self.id, **(told | options))
        self.nodes: list[NodeDraft] = []

    def add(self, *after: int, queue: str = QUEUE, takes: int | None = None, **parts: Any) -> MessageId:
        headers = {GROUP_HEADER: self.id.hex()} | ({"job": "mail"} if queue == QUEUE else {})
        message = self.desk.draft(queue=queue, headers=msgspec.json.encode(headers), **parts)
        job = "mail" if queue == QUEUE else None
        self.nodes.append(NodeDraft(place=len(self.nodes), message=message, job=job, after=after, takes=takes))
        return message.id

    async def start(self) -> Group:
        return await self.store.groups.start(self.draft, self.nodes, is_last=True)

    async def begin(self, members: int, *after: int, **parts: Any) -> Group:
        for _ in range(members):
            self.add(*after, **parts)
        return await self.start()

    async def find(self) -> Group:
        found = await self.store.groups.find(self.id)
        assert found is not None
        return found

    async def counts(self) -> tuple[int, int, int]:
        found = await self.find()
        return found.succeeded, found.failed, found.cancelled

    async def states(self) -> list[MemberState]:
        return [each.state for each in await self.store.groups.members(self.id, limit=1_000)]

    async def reports(self) -> list[GroupResult]:
        messages = await self.store.peek(REPORTS, limit=100)
        return [msgspec.json.decode(each.body, type=GroupResult) for each in messages]

    async def to_end(self) -> None:
        while await self.store.groups.advance(self.id):
            pass


@pytest.fixture
async def circle(desk: Desk) -> Circle:
    await desk.store.create_queue(REPORTS, QueueSettings())
    await desk.store.declare_consumer(PLAIN, ConsumerSettings(script="app", max_retries=1))
    return Circle(desk)


async def ack(desk: Desk, lease: Lease, **parts: Any) -> None:
    outcome = desk.record(lease, JobState.SUCCEEDED, **parts) if lease.queue == QUEUE else None
    await desk.store.settle(desk.owner, [Settlement(lease.seq, lease.claim, outcome=outcome, is_member=True)])


async def reject(desk: Desk, lease: Lease) -> None:
    await desk.settle(lease, Action.REJECT, JobState.FAILED, error="no")


async def take_plain(desk: Desk) -> Lease:
    [lease] = (await desk.store.claim(ClaimRequest(queue=PLAIN, owner=desk.owner, limit=1))).leases
    return lease


@pytest.mark.anyio
class TestGroupCounts:
    """Members end."""

    async def test_all_are_counted_and_the_last_one_tells(self, desk: Desk, circle: Circle) -> None:
        started = await circle.begin(3)
        assert (started.state, started.total) == (GroupState.RUNNING, 3)
        assert started.deadline_at == desk.clock.now_ms() + MINUTE
        await ack(desk, await desk.take())
        await reject(desk, await desk.take())
        assert await circle.counts() == (1, 1, 0)
        assert await circle.reports() == []
        await ack(desk, await desk.take())
        [report] = await circle.reports()
        assert report == GroupResult(
            id=circle.id.hex(), name="g", state=GroupState.FAILED, total=3, succeeded=2, failed=1, cancelled=0
        )
        assert (await circle.find()).ended_at == desk.clock.now_ms()
        assert sorted(await circle.states()) == [FAILED, SUCCEEDED, SUCCEEDED]

    async def test_messages_are_members_as_jobs_are(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(2, queue=PLAIN)
        await ack(desk, await take_plain(desk))
        lease = await take_plain(desk)
        await desk.store.settle(desk.owner, [Settlement(lease.seq, lease.claim, Action.REJECT)])
        assert await circle.counts() == (1, 1, 0)
        assert len(await circle.reports()) == 1

    async def test_many_at_once_are_counted_as_one_by_one(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(30, queue=PLAIN)
        leases = (await desk.store.claim(ClaimRequest(queue=PLAIN, owner=desk.owner, limit=30))).leases
        await desk.store.settle(desk.owner, [Settlement(each.seq, each.claim, is_member=True) for each in leases])
        assert await circle.counts() == (30, 0, 0)
        [report] = await circle.reports()
        assert report.state is GroupState.SUCCEEDED

    async def test_a_retry_counts_nothing(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(1)
        await desk.settle(await desk.take(), Action.RETRY, JobState.RETRYING, error="again", delay_ms=0)
        assert await circle.counts() == (0, 0, 0)
        await desk.settle(await desk.take(), Action.RETRY, JobState.RETRYING, error="again", delay_ms=0)
        assert await circle.counts() == (0, 1, 0)

    async def test_a_redriven_member_is_not_counted_twice(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(2)
        await reject(desk, await desk.take())
        assert await desk.store.redrive("a-dlq") == 1
        assert (await circle.find()).state is GroupState.RUNNING
        await ack(desk, await desk.take())
        await ack(desk, await desk.take())
        assert await circle.counts() == (1, 1, 0)
        assert len(await circle.reports()) == 1

    async def test_an_ack_that_is_said_twice_counts_once(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(2)
        lease = await desk.take()
        await ack(desk, lease)
        await ack(desk, lease)
        assert await circle.counts() == (1, 0, 0)

    async def test_a_lost_lease_counts_nothing(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(1)
        lease = await desk.take()
        await store.reap_owner(desk.owner, Evidence(ending=Ending.EXITED))
        settled = await store.settle(desk.owner, [Settlement(lease.seq, lease.claim, is_member=True)])
        assert settled.lost == [lease.seq]
        assert await circle.counts() == (0, 0, 0)

    async def test_a_pull_consumers_ack_counts(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(2, queue=PLAIN)
        request = ClaimRequest(queue=PLAIN, owner=PULL_OWNER, limit=2, lease_ms=1_000)
        leases = (await store.claim(request)).leases
        await store.settle_pulled([Settlement(leases[0].seq, leases[0].claim)])
        await desk.clock.advance(2)
        await store.sweep()
        await store.settle_pulled([Settlement(leases[1].seq, leases[1].claim)])
        assert await circle.counts() == (2, 0, 0)

    async def test_no_members_are_all_members(self, circle: Circle) -> None:
        assert (await circle.start()).state is GroupState.SUCCEEDED
        [report] = await circle.reports()
        assert report.total == 0

    async def test_the_header_alone_makes_no_member(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(1, queue=PLAIN)
        await desk.send(headers=msgspec.json.encode({GROUP_HEADER: circle.id.hex(), "job": "mail"}))
        await ack(desk, await desk.take())
        assert await circle.counts() == (0, 0, 0)


@pytest.mark.anyio
class TestGroupLosses:
    """Members that nobody tells of."""

    async def test_a_member_that_kills_its_workers(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(1)
        lease = await desk.take()
        evidence = Evidence(ending=Ending.CRASHED, started=frozenset({lease.seq}), detail="killed")
        await store.reap_owner(desk.owner, evidence)
        await desk.open()
        assert await circle.counts() == (0, 0, 0)
        suspects = ClaimRequest(queue=QUEUE, owner=desk.owner, limit=1, suspects=True)
        [lease] = (await store.claim(suspects)).leases
        await store.settle(desk.owner, [Settlement(lease.seq, lease.claim, Action.CRASH, error="killed")])
        assert await circle.counts() == (0, 1, 0)
        assert len(await circle.reports()) == 1

    async def test_lost_hosts(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(1)
        for _ in range(2):
            await desk.take()
            await store.reap_owner(desk.owner, Evidence(ending=Ending.LOST))
            await desk.open()
        assert await circle.counts() == (0, 1, 0)

    async def test_a_member_that_nobody_takes_in_time(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(1, expires_in_ms=1_000)
        await desk.clock.advance(2)
        assert (await desk.store.claim(ClaimRequest(queue=QUEUE, owner=desk.owner, limit=1))).leases == []
        assert await circle.counts() == (0, 1, 0)

    async def test_a_purge(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(3)
        held = await desk.take()
        await store.purge(QUEUE)
        await store.sweep()
        assert (await circle.counts())[2] == 3
        await ack(desk, held)
        assert await circle.counts() == (0, 0, 3)
        [report] = await circle.reports()
        assert report.state is GroupState.CANCELLED

    async def test_a_queue_that_is_deleted(self, circle: Circle, store: Store) -> None:
        await circle.begin(2, queue=PLAIN)
        await store.delete_queue(PLAIN)
        await store.sweep()
        assert await circle.counts() == (0, 0, 2)

    async def test_a_member_that_is_thrown_away(self, circle: Circle, store: Store) -> None:
        await circle.begin(2, queue=PLAIN)
        [first, _] = await store.peek(PLAIN, limit=2)
        await store.discard(PLAIN, [first.seq])
        assert await circle.counts() == (0, 0, 1)

    async def test_a_job_that_is_cancelled(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(2)
        lease = await desk.take()
        for node in circle.nodes:
            await store.jobs.cancel(node.message.id)
        assert await circle.counts() == (0, 0, 1)
        await desk.settle(lease, Action.RETRY, JobState.RETRYING, error="again")
        assert await circle.counts() == (0, 0, 2)

    async def test_a_dead_letter_queue_that_is_emptied(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(2)
        await reject(desk, await desk.take())
        await store.purge("a-dlq")
        await store.sweep()
        assert await circle.counts() == (0, 1, 0)


@pytest.mark.anyio
class TestGroupEnds:
    """Cancelled, and overdue."""

    async def test_who_cancels_one_is_recorded(self, circle: Circle) -> None:
        started = await circle.begin(2)
        watcher = Watcher()
        with watcher.watch():
            await circle.desk.store.groups.cancel(started.id)
        [change] = watcher.seen
        assert (change.kind, change.name) == ("group", started.id.hex())
        assert change.before.state is GroupState.RUNNING and change.after.state is not GroupState.RUNNING

    async def test_cancelled(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(3)
        lease = await desk.take()
        cancelled = await store.groups.cancel(circle.id)
        assert cancelled is not None
        assert cancelled.state is GroupState.CANCELLING
        await circle.to_end()
        assert await circle.counts() == (0, 0, 2)
        assert MemberState.ENDING in await circle.states()
        assert await store.jobs.beat([desk.record(lease, JobState.RUNNING, ended_at=None)]) == [lease.id]
        await desk.settle(lease, Action.RETRY, JobState.RETRYING, error="cut short")
        assert await circle.counts() == (0, 0, 3)
        [report] = await circle.reports()
        assert report.state is GroupState.CANCELLED

    async def test_a_member_that_is_cancelled_ends_the_others_where_a_failure_would(
        self, desk: Desk, circle: Circle, store: Store
    ) -> None:
        strict = Circle(desk, on_failure="cancel")
        for each in (strict, circle):
            await each.begin(3)
            await store.jobs.cancel(each.nodes[0].message.id)
            await each.to_end()
        assert (await strict.find()).state is GroupState.CANCELLED
        assert await strict.counts() == (0, 0, 3)
        assert await circle.counts() == (0, 0, 1)

    async def test_who_cancelled_one_is_told_so_whatever_its_members_come_to(
        self, desk: Desk, circle: Circle, store: Store
    ) -> None:
        await circle.begin(2, queue=PLAIN)
        lease = await take_plain(desk)
        await store.groups.cancel(circle.id)
        await circle.to_end()
        verdict = Settlement(lease.seq, lease.claim, Action.REJECT, reason="no", is_member=True)
        await store.settle(desk.owner, [verdict])
        assert await circle.counts() == (0, 1, 1)
        assert (await circle.find()).state is GroupState.CANCELLED

    async def test_its_end_is_told_though_the_queue_is_full(self, desk: Desk, circle: Circle, store: Store) -> None:
        await store.update_queue(REPORTS, QueueSettings(max_backlog_messages=1))
        await store.append([desk.draft(queue=REPORTS)])
        await circle.begin(1)
        await ack(desk, await desk.take())
        assert (await circle.find()).state is GroupState.SUCCEEDED
        assert len(await store.peek(REPORTS, limit=10)) == 2

    async def test_the_sweep_ends_what_somebody_began_to_cancel(self, circle: Circle, store: Store) -> None:
        await circle.begin(3, queue=PLAIN)
        await store.groups.cancel(circle.id)
        assert (await store.sweep()).groups >= 1
        assert (await circle.find()).state is GroupState.CANCELLED

    async def test_overdue_and_left_alone(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(3)
        circle_of_one = Circle(desk)
        await circle_of_one.begin(1)
        await ack(desk, await desk.take())
        await desk.clock.advance(61)
        await store.sweep()
        assert (await circle.find()).state is GroupState.EXPIRED
        reports = {report.id: report for report in await circle.reports()}
        assert reports[circle.id.hex()].unfinished == 2
        await desk.open()
        await ack(desk, await desk.take())
        await store.sweep()
        assert len(await circle.reports()) == 2
        assert await circle.counts() == (1, 0, 0)

    async def test_overdue_though_the_last_one_ends_before_anybody_looks(self, desk: Desk, circle: Circle) -> None:
        await circle.begin(1)
        lease = await desk.take()
        await desk.clock.advance(61)
        await ack(desk, lease)
        assert (await circle.find()).state is GroupState.EXPIRED
        assert [report.unfinished for report in await circle.reports()] == [0]

    async def test_overdue_and_cancelled(self, desk: Desk, store: Store, circle: Circle) -> None:
        strict = Circle(desk, on_failure="cancel")
        await strict.begin(3)
        held = await desk.take()
        await desk.clock.advance(61)
        await store.groups.advance(strict.id)
        found = await strict.find()
        assert (found.state, found.cancelled) == (GroupState.EXPIRED, 2)
        assert (await store.peek(QUEUE, limit=10))[0].id == held.id
        assert [report.unfinished for report in await circle.reports()] == [1]

    async def test_a_message_that_is_gone_for_no_reason_ends_with_the_deadline(
        self, desk: Desk, circle: Circle, store: Store
    ) -> None:
        await circle.begin(2, queue=PLAIN)
        lease = await take_plain(desk)
        await store.settle(desk.owner, [Settlement(lease.seq, lease.claim)])  # by a worker that knows no groups
        await desk.clock.advance(61)
        await store.sweep()
        assert (await circle.find()).state is GroupState.EXPIRED
        assert len(await circle.reports()) == 1

    async def test_one_that_has_ended_stays_as_it_is(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(1)
        await ack(desk, await desk.take())
        cancelled = await store.groups.cancel(circle.id)
        assert cancelled is not None
        assert cancelled.state is GroupState.SUCCEEDED
        assert not await store.groups.advance(circle.id)
        assert len(await circle.reports()) == 1

    async def test_it_is_forgotten(self, desk: Desk, circle: Circle, store: Store) -> None:
        await circle.begin(1)
        await ack(desk, await desk.take())
        await desk.clock.advance(GROUP_MS / 1_000 - 1)
        await store.sweep()
        await circle.find()
        await desk.clock.advance(2)
        await store.sweep()
        assert await store.groups.find(circle.id) is None
        assert await store.groups.members(circle.id, limit=10) == []
