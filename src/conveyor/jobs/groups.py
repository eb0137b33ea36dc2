"""Groups and chains of an app: jobs and messages that are started together, counted as they end, and told of once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, get_args, overload

from msgspec.structs import replace

from conveyor.jobs.declared import Declared
from conveyor.jobs.function import Bound, JobSender, with_group
from conveyor.jobs.job import Job
from conveyor.jobs.started import StartedGroup, find_group, read_group_id
from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import BodyTooLargeError, InvalidMessageError, InvalidSettingError, StoreUnsupportedError
from conveyor.model.group import DEADLINE_MS_MAX, MEMBERS_MAX, GroupResult, GroupState, OnFailure
from conveyor.model.ids import IdSource, MessageId
from conveyor.model.message import Draft
from conveyor.model.settings import check_name
from conveyor.queue.producer import Outgoing, Queue
from conveyor.store.groups import PAGE_BYTES, PAGE_NODES, GroupDraft, NodeDraft
from conveyor.store.protocol import Store

P = TypeVar("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R_co = TypeVar("R_co", covariant=True)

OnComplete: TypeAlias = "JobSender[GroupResult, Any] | Queue | str"
"""A job that takes a `GroupResult`, or a queue."""

_NOTHING: Final = GroupResult(
    id="", name="", state=GroupState.RUNNING, total=0, succeeded=0, failed=0, cancelled=0
)  # fmt: skip


class App(Protocol):
    """What groups need of their app."""

    @property
    def store(self) -> Store: ...

    def queue(self, name: str) -> Queue: ...

    async def ensure_open(self) -> None: ...


class Members(Protocol):
    """What groups need of the jobs."""

    def member(self, declared: Declared, id: MessageId) -> Job[Any]: ...


class Node(Generic[R_co]):
    """A member of a group that is being made."""

    __slots__ = ("_group", "_job", "id", "place")

    def __init__(self, group: Group, place: int, id: MessageId, job: Job[R_co] | None) -> None:
        self._group = group
        self._job = job
        self.place = place
        self.id = id.hex()
        """Its message's and job's: 32 hex digits."""

    @property
    def job(self) -> Job[R_co]:
        """The job, once the group has started. A plain message has none."""
        if self._job is None:
            raise InvalidMessageError("member", self.place, "is a message, not a job", hint="see `id`, its message's")
        return self._job

    def is_of(self, group: Group) -> bool:
        return self._group is group


class Group:
    """A group that is being made: `add` jobs and `send` messages, then `start` it. Nothing is stored before."""

    def __init__(
        self, room: Groups, name: str, *, on_complete: OnComplete | None, deadline: Duration, on_failure: OnFailure
    ) -> None:
        check_name("group", name)
        if on_failure not in get_args(OnFailure):
            raise InvalidSettingError("on_failure", on_failure, 'must be "cancel" or "continue"')
        self._room = room
        self._id = room.ids.new()
        self._nodes: list[NodeDraft] = []
        self._is_started = False
        self._draft = GroupDraft(
            id=self._id, name=name, on_failure=on_failure,
            deadline_ms=read_duration_ms(deadline, name="deadline", least_ms=1, most_ms=DEADLINE_MS_MAX),
            on_complete=None if on_complete is None else room.last_message(on_complete),
        )  # fmt: skip

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._id.hex()

    def add(self, job: JobSender[P, R], payload: P, *, after: Node[Any] | Iterable[Node[Any]] = ()) -> Node[R]:
        """A job, sent once those in `after` have ended. `InvalidMessageError`."""
        declared, draft = job.member(payload, self.id)
        return self._put(draft, declared, after)

    def add_many(
        self, job: JobSender[P, R], payloads: Iterable[P], *, after: Node[Any] | Iterable[Node[Any]] = ()
    ) -> list[Node[R]]:
        """One job for each payload."""
        nodes = (after,) if isinstance(after, Node) else tuple(after)
        return [self.add(job, each, after=nodes) for each in payloads]

    def send(
        self,
        queue: str,
        body: object,
        *,
        after: Node[Any] | Iterable[Node[Any]] = (),
        delay: Duration | None = None,
        priority: int | None = None,
        key: str | None = None,
        content_type: str | None = None,
        headers: Mapping[str, object] | None = None,
        expires_in: Duration | None = None,
        cost: int | None = None,
    ) -> Node[None]:
        """A message, as `Queue.send` would send it. It has succeeded once it is acked."""
        message = Outgoing(
            body, delay=delay, priority=priority, key=key, content_type=content_type, headers=headers,
            expires_in=expires_in, cost=cost,
        )  # fmt: skip
        draft = self._room.app.queue(queue).draft(message)
        return self._put(replace(draft, headers=with_group(draft.headers, self.id)), None, after)

    def chain_on(self, step: JobSender[Any, Any] | Bound[Any], after: Node[Any] | None) -> Node[Any]:
        """A job that is given the result of the one before it, unless it has a payload of its own."""
        sender, payload = (step.sender, step.payload) if isinstance(step, Bound) else (step, None)
        declared, draft = sender.member(payload, self.id)
        takes = None if after is None or isinstance(step, Bound) else after.place
        return self._put(draft, declared, () if after is None else after, takes)

    def _put(
        self, draft: Draft, declared: Declared | None, after: Node[Any] | Iterable[Node[Any]], takes: int | None = None
    ) -> Node[Any]:
        nodes = (after,) if isinstance(after, Node) else tuple(after)
        if self._is_started:
            hint = "add all members before `start`, or begin another group"
            raise InvalidMessageError("group", self._draft.name, "has been started: nothing more goes in", hint=hint)
        if not all(isinstance(each, Node) and each.is_of(self) for each in nodes):
            hint = "give what `add` of this group has returned"
            raise InvalidMessageError("after", self._draft.name, "names what is no member of this group", hint=hint)
        place = len(self._nodes)
        if place >= MEMBERS_MAX:
            raise InvalidMessageError("group", self._draft.name, f"holds at most {MEMBERS_MAX:,} members")
        self._nodes.append(
            NodeDraft(
                place=place, message=draft, job=None if declared is None else declared.name,
                after=tuple(sorted({each.place for each in nodes})), takes=takes,
            )
        )  # fmt: skip
        job = None if declared is None else self._room.jobs.member(declared, draft.id)
        return Node(self, place, draft.id, job)

    async def start(self) -> StartedGroup:
        """Store it, and send what waits for nobody; all of it or nothing, however many members it has.

        `QueueNotFoundError`, `BodyTooLargeError`, and `StoreUnsupportedError` if its queues lie in several stores.
        Where a queue is full, members wait for room.
        """
        if self._is_started:
            raise InvalidMessageError("group", self._draft.name, "has been started already")
        store = await self._store()
        self._is_started = True
        pages = list(_pages(self._nodes))
        for number, page in enumerate(pages, 1):
            await store.groups.start(self._draft, page, is_last=number == len(pages))
        started = StartedGroup(store, self.id, self._draft.name)
        await started.go_on()  # with what does not fit into one transaction
        return started

    async def _store(self) -> Store:
        """Where it is to live, once all of it may live there."""
        await self._room.app.ensure_open()
        store, last = self._room.app.store, self._draft.on_complete
        largest: dict[str, int] = {} if last is None else {last.queue: 0}
        for node in self._nodes:
            queue = node.message.queue
            largest[queue] = max(largest.get(queue, 0), len(node.message.body))
        homes = {id(store.at(queue)): queue for queue in largest}
        if len(homes) > 1:
            shown = ", ".join(f"`{queue}`" for queue in sorted(homes.values()))
            raise StoreUnsupportedError(
                f"the queues of group `{self._draft.name}` live in several stores: {shown}",
                hint="route them to one store, where members are counted as they end",
            )
        for queue, size in largest.items():
            most = (await store.get_queue(queue)).settings.max_message_bytes
            if size > most:
                raise BodyTooLargeError("a message's body", size, most)
        return store.at(next(iter(largest))) if largest else store


def _pages(nodes: Sequence[NodeDraft]) -> Iterator[list[NodeDraft]]:
    """What is written down in one transaction each; one at least."""
    page: list[NodeDraft] = []
    size = 0
    for node in nodes:
        if page and (len(page) == PAGE_NODES or size + len(node.message.body) > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append(node)
        size += len(node.message.body)
    yield page


class Grouping(Protocol):
    """`app.group`."""

    def __call__(
        self, name: str, *, on_complete: OnComplete | None = ..., deadline: Duration = ..., on_failure: OnFailure = ...
    ) -> Group: ...


class Chaining(Protocol):
    """`app.chain`: each job takes what the one before it returns."""

    @overload
    async def __call__(
        self, first: Bound[A], last: JobSender[A, R], /, *, name: str = ..., deadline: Duration = ...,
        on_complete: OnComplete | None = ...,
    ) -> Job[R]: ...  # fmt: skip

    @overload
    async def __call__(
        self, first: Bound[A], second: JobSender[A, B], last: JobSender[B, R], /, *, name: str = ...,
        deadline: Duration = ..., on_complete: OnComplete | None = ...,
    ) -> Job[R]: ...  # fmt: skip

    @overload
    async def __call__(
        self, first: Bound[A], second: JobSender[A, B], third: JobSender[B, C], last: JobSender[C, R], /, *,
        name: str = ..., deadline: Duration = ..., on_complete: OnComplete | None = ...,
    ) -> Job[R]: ...  # fmt: skip

    @overload
    async def __call__(
        self, first: Bound[Any], /, *others: JobSender[Any, Any] | Bound[Any], name: str = ...,
        deadline: Duration = ..., on_complete: OnComplete | None = ...,
    ) -> Job[Any]: ...  # fmt: skip


class Groups:
    """The groups of an app."""

    def __init__(self, app: App, jobs: Members, ids: IdSource) -> None:
        self.app = app
        self.jobs = jobs
        self.ids = ids

    def make(
        self,
        name: str,
        *,
        on_complete: OnComplete | None = None,
        deadline: Duration = "1d",
        on_failure: OnFailure = "continue",
    ) -> Group:
        """A new group, to be filled and started.

        `on_complete`, a job or a queue, is given a `GroupResult` once, when the last member has ended or `deadline`
        after the start has come. With `on_failure="cancel"` the first member that fails, or is cancelled, ends the
        others: what waits is taken out, jobs that run are told. With `"continue"` they go on, also those that come
        after it. `InvalidSettingError`.
        """
        return Group(self, name, on_complete=on_complete, deadline=deadline, on_failure=on_failure)

    async def chain(
        self, first: Bound[Any], /, *others: JobSender[Any, Any] | Bound[Any], name: str = "chain",
        deadline: Duration = "1d", on_complete: OnComplete | None = None,
    ) -> Job[Any]:  # fmt: skip
        """Start jobs that follow each other: each is given what the one before it returned. A handle on the last.

        A job that fails, or is cancelled, ends the chain: those after it are cancelled, and `result` says so. The
        errors of `Group.start`; `InvalidSettingError` if the first has no payload.
        """
        if not isinstance(first, Bound):
            raise InvalidSettingError(
                "chain", first, "the first job needs its payload", hint="write `job.bind(payload)`"
            )
        group = self.make(name, on_complete=on_complete, deadline=deadline, on_failure="cancel")
        node: Node[Any] | None = None
        for step in (first, *others):
            node = group.chain_on(step, node)
        await group.start()
        assert node is not None, "there is a first one"
        return node.job

    async def get(self, id: str) -> StartedGroup:
        """A group of which only the id is known. `GroupNotFoundError`."""
        await self.app.ensure_open()
        group = await find_group(self.app.store, read_group_id(id))
        return StartedGroup(self.app.store, group.id.hex(), group.name)

    def last_message(self, on_complete: OnComplete) -> Draft:
        """What tells of a group's end; the store says with what."""
        if isinstance(on_complete, JobSender):
            return on_complete.as_draft(_NOTHING)
        queue = self.app.queue(on_complete) if isinstance(on_complete, str) else on_complete
        return queue.draft(Outgoing(_NOTHING))
