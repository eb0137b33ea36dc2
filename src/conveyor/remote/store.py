"""`RemoteStore`: the queues behind an API as a store, so that producers, workers and the command line need not know
where a queue lives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from conveyor.model.clock import Clock, SystemClock
from conveyor.model.errors import InvalidMessageError, NotFoundError
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.message import ContentType, Draft, Peeked, Priority, Sent
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.remote.absent import Absent, check_consumer, unsupported
from conveyor.remote.address import read_address
from conveyor.remote.client import Client
from conveyor.remote.directory import Directory, Known, read_info, seconds_of
from conveyor.remote.groups import NoGroups
from conveyor.remote.jobs import NoHistory, NoJobs
from conveyor.remote.letters import OwnLetters, read_peeked
from conveyor.remote.pulling import Inbox
from conveyor.remote.reports import NoNotices, NoReports
from conveyor.remote.schedules import OwnSchedules
from conveyor.remote.sending import Outbox
from conveyor.remote.steps import NoSteps
from conveyor.remote.subscriptions import OwnSubscriptions
from conveyor.remote.tokens import OwnTokens
from conveyor.remote.trail import OwnTrail
from conveyor.remote.values import OwnValues
from conveyor.remote.wire import (
    Judged,
    MetricsRow,
    Pulled,
    Pushed,
    PushedMessage,
    encode_body,
)
from conveyor.store.groups import GroupStore
from conveyor.store.notices import NoticeStore
from conveyor.store.protocol import Wake
from conveyor.store.records import (
    SWEEP_ROWS_MAX,
    Claimed,
    ClaimRequest,
    KeyInfo,
    KeyValue,
    QueueInfo,
    QueueMetrics,
    Run,
    Schedule,
    Settled,
)
from conveyor.store.reports import ReportStore
from conveyor.store.retaining import RetentionStore
from conveyor.store.steps import StepStore
from conveyor.store.tracking import JobStore
from conveyor.store.undivided import Undivided

CLOSE_S: Final = 5.0
"""What is under way when the store closes may take so long to arrive."""


class RemoteStore(Absent, Undivided):
    """`Store` behind a `cloudflare://` URL. Queues are not made by declaring them: they are somebody else's."""

    keeps_others = True
    keeps_trail = False
    jobs: JobStore = NoJobs()
    steps: StepStore = NoSteps()
    reports: ReportStore = NoReports()
    notices: NoticeStore = NoNotices()
    groups: GroupStore = NoGroups()
    retention: RetentionStore = NoHistory()

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.address = read_address(url)
        self.clock = clock or SystemClock()
        self.client = Client(self.address, self.clock, Random())
        self._ids = IdSource(self.clock)
        self._directory = Directory(self.client, self.clock)
        self._letters = OwnLetters(self.client)
        self.subscriptions = OwnSubscriptions(self.client, self._directory)
        self._schedules = OwnSchedules(self.client)
        self._values = OwnValues(self.client, self.clock)
        self.tokens = OwnTokens(self.client)
        self.trail = OwnTrail(self.client)
        self._outboxes: dict[str, Outbox] = {}
        self._inboxes: dict[str, Inbox] = {}
        self._seqs = itertools.count(1)

    def __repr__(self) -> str:
        return f"<RemoteStore {self.address.shown}>"

    async def open(self) -> None:
        """Nothing is asked yet: an API that is away stops no start. `InvalidSettingError` without a token."""
        self.client.open()
        self._directory.open()

    async def close(self) -> None:
        for outbox in self._outboxes.values():
            await outbox.close(CLOSE_S)
        self._outboxes.clear()
        await self.client.close()

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        """Nobody tells us of sends: consumers poll."""
        return lambda: None

    # Messages

    async def append(self, drafts: Sequence[Draft]) -> list[Sent]:
        """T1, in one push. The ids are ours; the API gives its own, and does not tell them."""
        if not drafts:
            return []
        for draft in drafts:
            _check_draft(draft)
        self._directory.check_allowed(drafts[0].queue)
        messages = [_pushed(draft) for draft in drafts]
        await self._outbox(drafts[0].queue).send(messages, sum(len(draft.body) for draft in drafts))
        return [Sent(draft.id) for draft in drafts]

    async def append_and_claim(self, drafts: Sequence[Draft], request: ClaimRequest) -> tuple[list[Sent], Claimed]:
        """The API has no word for it: what was sent is pulled like anything else."""
        return await self.append(drafts), Claimed(leases=[])

    async def _find(self, queue: str) -> Known:
        """`QueueNotFoundError`."""
        self._directory.check_allowed(queue)
        return await self._directory.find(queue)

    def _outbox(self, queue: str) -> Outbox:
        if queue not in self._outboxes:

            async def push(messages: Sequence[PushedMessage]) -> None:
                await self._push(queue, messages)

            self._outboxes[queue] = Outbox(push)
        return self._outboxes[queue]

    async def _push(self, queue: str, messages: Sequence[PushedMessage]) -> None:
        known = await self._directory.find(queue)
        try:
            await self.client.call(
                "POST",
                f"{known.path}/messages/batch",
                Any,
                body=Pushed(messages=list(messages)),
                key=self._ids.new().hex(),
            )
        except NotFoundError as error:
            self._directory.forget(queue)
            raise self._directory.missing(queue) from error

    async def claim(self, request: ClaimRequest) -> Claimed:
        return await self._inbox(request.queue).claim(request)

    async def settle(
        self, owner: int, settlements: Sequence[Settlement], *, ended: Mapping[str, int] | None = None
    ) -> Settled:
        lost: list[int] = []
        dead: list[int] = []
        for inbox in self._inboxes.values():
            share = [each for each in settlements if inbox.owns(each.seq)]
            if share:
                settled = await inbox.settle(share, self._outbox)
                lost += settled.lost
                dead += settled.dead
        return Settled(lost, dead)

    async def settle_pulled(self, settlements: Sequence[Settlement]) -> Settled:
        return await self.settle(0, settlements)

    def lease_id(self, queue: str, seq: int) -> str:
        """How the API calls a lease that was claimed here."""
        return self._inbox(queue).lease_id(seq)

    async def judge(
        self, queue: str, *, acks: Sequence[str] = (), retries: Sequence[str] = (), delay_s: int | None = None
    ) -> Judged:
        """Settle leases by their ids, whoever claimed them."""
        return await self._inbox(queue).judge(acks, retries, delay_s)

    def _inbox(self, queue: str) -> Inbox:
        if queue not in self._inboxes:
            self._directory.check_allowed(queue)
            self._inboxes[queue] = Inbox(queue, self.client, self._directory, self.clock, self._seqs)
        return self._inboxes[queue]

    async def peek(self, queue: str, *, limit: int, after_seq: int = 0) -> list[Peeked]:
        """At Cloudflare the first `limit` messages; its API has no second page."""
        if not self.address.is_cloudflare:
            self._directory.check_allowed(queue)
            return await self._letters.peek(queue, limit, after_seq)
        if after_seq:
            return []
        known = await self._find(queue)
        body = {"batch_size": limit}
        pulled: Pulled = await self.client.call("POST", f"{known.path}/messages/peek", Pulled, body=body)
        return [read_peeked(queue, number, each) for number, each in enumerate(pulled.messages or (), 1)]

    async def redrive(self, queue: str, *, seqs: Sequence[int] | None = None, limit: int = SWEEP_ROWS_MAX) -> int:
        return await self._own_letters("sends no dead letters back").redrive(queue, seqs)

    async def find_message(self, queue: str, message_id: MessageId) -> Peeked | None:
        return await self._own_letters("finds no message by its id").find(queue, message_id)

    async def edit_message(
        self, was: Peeked, *, body: bytes, content_type: ContentType, headers: bytes | None
    ) -> Peeked:
        """Headers stay as they are."""
        return await self._own_letters("changes no message").edit(was, body, content_type)

    def _own_letters(self, what: str) -> OwnLetters:
        self._check_ours(what, "pull the messages, and send them anew")
        return self._letters

    def _check_ours(self, what: str, hint: str) -> None:
        """`StoreUnsupportedError` at Cloudflare."""
        if self.address.is_cloudflare:
            raise unsupported(what, hint)

    # Queues and consumers

    async def create_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        self._directory.check_allowed(name)
        await self._directory.create(name, settings)
        return await self.get_queue(name)

    async def update_queue(self, name: str, settings: QueueSettings, *, version: int | None = None) -> QueueInfo:
        """The API knows no versions: the last one to write wins."""
        self._directory.check_allowed(name)
        await self._directory.update(name, settings)
        return await self.get_queue(name)

    async def rename_queue(self, name: str, new: str, *, version: int | None = None) -> QueueInfo:
        """The API knows no versions. `QueueExistsError`."""
        self._directory.check_allowed(name)
        self._directory.check_allowed(new)
        await self._directory.rename(name, new)
        return await self.get_queue(new)

    async def delete_queue(self, name: str) -> None:
        self._directory.check_allowed(name)
        await self._directory.delete(name)

    async def get_queue(self, name: str) -> QueueInfo:
        """For those who consume it here: as last seen, if the API is away. `QueueNotFoundError`."""
        inbox = self._inboxes.get(name)
        return read_info(name, await self._find(name)) if inbox is None else await inbox.info()

    async def list_queues(self) -> list[QueueInfo]:
        rows = await self._directory.rows()
        infos = [read_info(row.queue_name, Known(row, 0.0, 1)) for row in rows]
        return sorted(infos, key=lambda info: info.name)

    async def declare_consumer(self, queue: str, settings: ConsumerSettings) -> QueueInfo:
        """Nothing is written: the `http_pull` consumer there is an operator's. `StoreUnsupportedError` for settings
        that only a store can keep."""
        check_consumer(queue, settings)
        return self._inbox(queue).declare(settings)

    async def put_consumer(
        self, queue: str, settings: ConsumerSettings | None, *, version: int | None = None
    ) -> QueueInfo:
        self._directory.check_allowed(queue)
        await self._directory.put_consumer(queue, settings)
        return await self.get_queue(queue)

    async def pause(self, queue: str) -> None:
        self._directory.check_allowed(queue)
        await self._directory.pause(queue, paused=True)

    async def resume(self, queue: str) -> None:
        self._directory.check_allowed(queue)
        await self._directory.pause(queue, paused=False)

    async def purge(self, queue: str) -> int:
        """All of them; how many there were just before."""
        count = (await self.metrics(queue)).backlog_messages
        known = await self._find(queue)
        await self.client.call("POST", f"{known.path}/purge", Any, body={"delete_messages_permanently": True})
        return count

    async def metrics(self, queue: str) -> QueueMetrics:
        known = await self._find(queue)
        row: MetricsRow = await self.client.call("GET", f"{known.path}/metrics", MetricsRow)
        return QueueMetrics(
            backlog_messages=int(row.backlog_count),
            backlog_bytes=int(row.backlog_bytes),
            oldest_ready_at=int(row.oldest_message_timestamp_ms) or None,
            leased=0,
        )

    # What another conveyor keeps beside its queues

    @property
    def _own_schedules(self) -> OwnSchedules:
        self._check_ours("shows no schedules", "look for them in Cloudflare's dashboard")
        return self._schedules

    async def list_schedules(self) -> list[Schedule]:
        return [] if self.address.is_cloudflare else await self._schedules.list_all()

    async def get_schedule(self, name: str) -> Schedule:
        return await self._own_schedules.get(name)

    async def pause_schedule(self, name: str) -> None:
        await self._own_schedules.pause(name)

    async def resume_schedule(self, name: str, next_tick: int | None) -> None:
        """Over there the next tick is found anew."""
        await self._own_schedules.resume(name)

    async def list_runs(self, schedule: str, *, limit: int, before_tick: int | None = None) -> list[Run]:
        return await self._own_schedules.list_runs(schedule, limit, before_tick)

    @property
    def _own_values(self) -> OwnValues:
        self._check_ours("keeps no named values", "give the app a store of its own, and route only queues to this one")
        return self._values

    async def kv_get(self, namespace: str, key: str) -> KeyValue | None:
        return await self._own_values.get(namespace, key)

    async def kv_put(self, namespace: str, entry: KeyValue) -> None:
        await self._own_values.put(namespace, entry)

    async def kv_delete(self, namespace: str, key: str) -> bool:
        return await self._own_values.delete(namespace, key)

    async def kv_list(self, namespace: str, *, prefix: str, limit: int, after: str | None) -> list[KeyInfo]:
        return await self._own_values.list(namespace, prefix, limit, after)


def _check_draft(draft: Draft) -> None:
    """What the API cannot carry is refused, not dropped."""
    given = {
        "priority": draft.priority != Priority.NORMAL,
        "key": draft.key is not None,
        "dedupe": draft.dedupe is not None,
        "headers": draft.headers is not None,
        "expires_in": draft.expires_in_ms is not None,
        "cost": draft.cost != 1,
    }
    for name, is_given in given.items():
        if is_given:
            value = getattr(draft, "expires_in_ms" if name == "expires_in" else name)
            shown = "{...}" if name == "headers" else value
            raise InvalidMessageError(
                name, shown, f"queue `{draft.queue}` lives behind Cloudflare's API, which does not carry it",
                hint="leave it out, or put it into the body",
            )  # fmt: skip


def _pushed(draft: Draft) -> PushedMessage:
    delay_s = None if draft.delay_ms is None else seconds_of(draft.delay_ms)
    return PushedMessage(encode_body(draft.body, draft.content_type), draft.content_type.value, delay_s)
