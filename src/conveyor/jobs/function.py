"""A declared job: a function that can be called as it was written, and enqueued."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar, cast, get_args, overload

from msgspec.structs import replace

from conveyor.jobs.context import JobContext
from conveyor.jobs.declared import Declared
from conveyor.jobs.job import Job
from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import BodyTooLargeError, InvalidMessageError, InvalidSettingError
from conveyor.model.group import GROUP_HEADER
from conveyor.model.job import DEADLINE_HEADER, NAME_HEADER, VERSION_HEADER
from conveyor.model.job_errors import JobExistsError
from conveyor.model.message import HEADERS_BYTES_MAX, KEY_CHARS_MAX, Draft, Level, Sent
from conveyor.model.settings import DEDUPE_MS_MAX, RETENTION_MS_MAX
from conveyor.queue.encoding import encode_json
from conveyor.queue.producer import Outgoing, Queue
from conveyor.store.jobs import read_headers
from conveyor.store.protocol import Store

P = TypeVar("P")
R = TypeVar("R")
P_contra = TypeVar("P_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

OnConflict: TypeAlias = Literal["existing", "raise", "replace"]
"""What becomes of a job whose unique key another has that is not final."""
_IN_TX: Final = "cannot be had inside your own transaction"
_NO_TX: Final = "leave out `tx`: it is known only once you commit what another has sent meanwhile"


class Maker(Protocol):
    """What a declared job needs of the room that it was declared in."""

    def queue(self, name: str) -> Queue: ...

    async def open_store(self, queue: str) -> Store: ...

    def handle(self, declared: Declared, sent: Sent) -> Job[Any]: ...


class Options:
    """How a job is sent, beside its payload; None takes what the job, the queue or conveyor says."""

    __slots__ = (
        "cost", "deadline", "delay", "expires_in", "headers", "key", "max_retries", "on_conflict", "priority", "tx",
        "unique", "unique_for",
    )  # fmt: skip

    def __init__(
        self,
        *,
        delay: Duration | None = None,
        priority: Level | None = None,
        key: str | None = None,
        unique: str | None = None,
        unique_for: Duration | None = None,
        on_conflict: OnConflict = "existing",
        max_retries: int | None = None,
        expires_in: Duration | None = None,
        deadline: Duration | datetime | None = None,
        headers: Mapping[str, object] | None = None,
        cost: int | None = None,
        tx: object = None,
    ) -> None:
        if on_conflict not in get_args(OnConflict):
            raise InvalidSettingError("on_conflict", on_conflict, 'must be "existing", "raise" or "replace"')
        if tx is not None and on_conflict != "existing":
            raise InvalidMessageError("on_conflict", on_conflict, _IN_TX, hint=_NO_TX)
        if tx is not None and unique_for is not None:
            raise InvalidMessageError("unique_for", unique_for, _IN_TX, hint=_NO_TX)
        for name in (NAME_HEADER, VERSION_HEADER, DEADLINE_HEADER):
            if headers is not None and name in headers:
                raise InvalidMessageError("headers", name, "is conveyor's own")
        self.delay = delay
        self.priority: Level | None = priority
        self.key = key
        self.unique = unique
        self.unique_for = unique_for
        self.on_conflict: OnConflict = on_conflict
        self.max_retries = max_retries
        self.expires_in = expires_in
        self.deadline = deadline
        self.headers = headers
        self.cost = cost
        self.tx = tx


_USUAL: Final = Options()
UniqueBy: TypeAlias = Callable[[Any], str]


class JobSender(Generic[P_contra, R_co]):
    """A declared job with options, ready to be enqueued."""

    __slots__ = ("_declared", "_header", "_maker", "_options", "_unique_by")

    def __init__(
        self, declared: Declared, maker: Maker, options: Options = _USUAL, unique_by: UniqueBy | None = None
    ) -> None:
        self._declared = declared
        self._maker = maker
        self._options = options
        self._unique_by = unique_by
        own: dict[str, object] = {NAME_HEADER: declared.name}
        if declared.version > 1:
            own[VERSION_HEADER] = declared.version
        if options.deadline is not None and not isinstance(options.deadline, datetime):
            own[DEADLINE_HEADER] = _read_deadline(options.deadline)
        self._header = encode_json(own | dict(options.headers or {}))
        if len(self._header) > HEADERS_BYTES_MAX:
            raise BodyTooLargeError("a job's headers", len(self._header), HEADERS_BYTES_MAX)

    @property
    def is_joined(self) -> bool:
        """It was given a transaction to be part of."""
        return self._options.tx is not None

    async def enqueue(self, payload: P_contra) -> Job[R_co]:
        """Enqueue one job; it is safely in the store when this returns.

        `JobExistsError` where `on_conflict="raise"` and another has the unique key; the errors of `Queue.send`.
        """
        return await self.send_draft(self._draft(payload, await self._deadline()))

    async def send_draft(self, draft: Draft) -> Job[R_co]:
        """Enqueue what `draft` has made; as `enqueue`."""
        name, options = self._declared.queue, self._options
        if options.on_conflict == "replace" and draft.dedupe is not None:
            store = await self._maker.open_store(name)
            return self._maker.handle(self._declared, await store.jobs.replace(draft))
        [sent] = await self._maker.queue(name).send_drafts([draft], tx=options.tx)
        if sent.deduped and options.on_conflict == "raise":
            raise JobExistsError(self._declared.name, draft.dedupe or "", sent.id.hex())
        return self._maker.handle(self._declared, sent)

    async def enqueue_many(self, payloads: Iterable[P_contra]) -> list[Job[R_co]]:
        """Enqueue several, in their order, in as few batches as the queue's limits allow: each batch is there as a
        whole, or not at all; with `tx` all are. With another `on_conflict` than `"existing"` they go one by one."""
        if self._options.on_conflict != "existing":
            return [await self.enqueue(each) for each in payloads]
        deadline = await self._deadline()
        drafts = [self._draft(each, deadline) for each in payloads]
        sent = await self._maker.queue(self._declared.queue).send_drafts(drafts, tx=self._options.tx)
        return [self._maker.handle(self._declared, each) for each in sent]

    def bind(self, payload: P_contra) -> Bound[R_co]:
        """The job with its payload, as the first of a chain."""
        return Bound(self, payload)

    def member(self, payload: Any, group: str) -> tuple[Declared, Draft]:
        """The job as a member of a group. `InvalidMessageError` for options that a member cannot have."""
        options = self._options
        if options.unique is not None or self._unique_by is not None:
            problem = "cannot be had in a group: the job that has the key already is no member of it"
            raise InvalidMessageError("unique", self._declared.name, problem, hint="give its members `key`, or no key")
        if options.tx is not None:
            raise InvalidMessageError("tx", self._declared.name, "cannot be had in a group, which is started by itself")
        draft = self.draft(payload)
        return self._declared, replace(draft, headers=with_group(draft.headers, group))

    def as_draft(self, payload: P_contra) -> Draft:
        """The job as a message that somebody else sends. `InvalidMessageError` for options that it cannot have."""
        if self._options.unique is not None or self._unique_by is not None or self._options.tx is not None:
            problem = "cannot have `unique` or `tx` as the end of a group, which is told of once"
            raise InvalidMessageError("on_complete", self._declared.name, problem)
        return self.draft(payload)

    def draft(self, payload: P_contra) -> Draft:
        """What is to be sent, its id included: for those who must know it before they send. `InvalidMessageError`, also
        for a deadline that is a moment: only the store's clock knows how far off that is."""
        if isinstance(self._options.deadline, datetime):
            problem, hint = "must be a duration here", 'as in `deadline="2h"`'
            raise InvalidMessageError("deadline", self._options.deadline, problem, hint=hint)
        return self._draft(payload)

    async def _deadline(self) -> int | None:
        """How long from now on, in milliseconds, if it was said as a moment. `InvalidMessageError` for one without a
        time zone, `InvalidDurationError` for one past, or too far."""
        moment = self._options.deadline
        if not isinstance(moment, datetime):
            return None
        if moment.tzinfo is None:
            raise InvalidMessageError("deadline", moment, "has no time zone", hint="`datetime.now(UTC)` has one")
        now = (await self._maker.open_store(self._declared.queue)).clock.now_ms()
        return _read_deadline(moment.timestamp() - now / 1000)

    def _draft(self, payload: Any, deadline_ms: int | None = None) -> Draft:
        declared, options = self._declared, self._options
        outgoing = Outgoing(
            payload, delay=options.delay, priority=options.priority, key=options.key, dedupe=self._dedupe(payload),
            content_type="json", expires_in=options.expires_in, cost=options.cost,
            max_retries=declared.max_retries if options.max_retries is None else options.max_retries,
        )  # fmt: skip
        draft = self._maker.queue(declared.queue).draft(outgoing)
        window_ms = None
        if options.unique_for is not None and draft.dedupe is not None:
            window_ms = read_duration_ms(options.unique_for, name="unique_for", most_ms=DEDUPE_MS_MAX)
        headers = self._header
        if deadline_ms is not None:
            headers = encode_json(read_headers(headers) | {DEADLINE_HEADER: deadline_ms})
        return replace(draft, headers=headers, dedupe_ms=window_ms)

    def _dedupe(self, payload: Any) -> str | None:
        unique = self._options.unique
        if unique is None and self._unique_by is not None:
            unique = self._unique_by(payload)
        if unique is None:
            return None
        room = KEY_CHARS_MAX - len(self._declared.name) - 1
        if not isinstance(unique, str) or not 1 <= len(unique) <= room:
            raise InvalidMessageError("unique", unique, f"must be text of 1 to {room} characters")
        return f"{self._declared.name}:{unique}"


class Bound(Generic[R_co]):
    """A declared job with its payload: `fetch.bind(url)`."""

    __slots__ = ("payload", "sender")

    def __init__(self, sender: JobSender[Any, R_co], payload: Any) -> None:
        self.sender = sender
        self.payload = payload


def with_group(headers: bytes | None, group: str) -> bytes:
    """The headers of a member."""
    marked = encode_json(read_headers(headers) | {GROUP_HEADER: group})
    if len(marked) > HEADERS_BYTES_MAX:
        raise BodyTooLargeError("a member's headers", len(marked), HEADERS_BYTES_MAX)
    return marked


class JobFunction(JobSender[P, R]):
    """A function that was declared with `@app.job(...)`. Calling it runs it here and now, as it was written."""

    __slots__ = ("_function", "_unique_for")

    def __init__(
        self, function: Callable[..., R | Awaitable[R]], declared: Declared, maker: Maker, options: Options,
        unique_by: UniqueBy | None,
    ) -> None:  # fmt: skip
        super().__init__(declared, maker, options, unique_by)
        self._function = function

    @property
    def name(self) -> str:
        return self._declared.name

    @property
    def queue(self) -> str:
        return self._declared.queue

    def declared_as(self, declared: Declared) -> JobFunction[P, R]:
        """The same function, declared in another way."""
        return JobFunction(self._function, declared, self._maker, self._options, self._unique_by)

    def options(
        self,
        *,
        delay: Duration | None = None,
        priority: Level | None = None,
        key: str | None = None,
        unique: str | None = None,
        unique_for: Duration | None = None,
        on_conflict: OnConflict | None = None,
        max_retries: int | None = None,
        expires_in: Duration | None = None,
        deadline: Duration | datetime | None = None,
        headers: Mapping[str, object] | None = None,
        cost: int | None = None,
        tx: object = None,
    ) -> JobSender[P, R]:
        """The same job, sent otherwise.

        `delay` is before its first attempt, `priority` "low", "normal", "high" or 0 to 9 (higher first), `key` for
        queues that go by keys. Of jobs with one `unique` key only one is not final, or was enqueued within
        `unique_for`; `on_conflict` says what becomes of another: `"existing"` returns the first one, `"raise"` raises
        `JobExistsError`, `"replace"` cancels the one that waits. What has not begun `expires_in` after it was enqueued
        is dead, and so is what has not ended by its `deadline`, a moment or a duration from now: what runs is cut short
        then. With `tx` it is part of your own transaction.
        """
        usual = self._options
        options = Options(
            delay=delay, priority=usual.priority if priority is None else priority, key=key, unique=unique,
            unique_for=usual.unique_for if unique_for is None else unique_for,
            on_conflict=usual.on_conflict if on_conflict is None else on_conflict, max_retries=max_retries,
            expires_in=usual.expires_in if expires_in is None else expires_in, headers=headers, cost=cost, tx=tx,
            deadline=usual.deadline if deadline is None else deadline,
        )  # fmt: skip
        return JobSender(self._declared, self._maker, options, self._unique_by)

    def throttle(self, period: Duration, *, unique: str | None = None) -> JobSender[P, R]:
        """At most one of its `unique` key in a period: the first goes, the others within it are that one. Without a
        key, neither here nor declared, all jobs of this name share one."""
        return self.options(unique=unique or self._shared, unique_for=period, on_conflict="existing")

    def debounce(self, wait: Duration, *, unique: str | None = None) -> JobSender[P, R]:
        """Of a burst of its `unique` key only the last: it goes once none has come for `wait`, and the others are
        cancelled. Without a key, neither here nor declared, all jobs of this name share one."""
        return self.options(unique=unique or self._shared, delay=wait, on_conflict="replace")

    @property
    def _shared(self) -> str | None:
        """The key of a job that has none."""
        return "all" if self._unique_by is None else None

    def __call__(self, payload: P, context: JobContext | None = None) -> Any:
        """Run it here: the function's own answer, a coroutine if it is async."""
        if self._declared.takes_context:
            return self._function(payload, context)
        return self._function(payload)

    def __repr__(self) -> str:
        return f"<Job function {self.name!r} of queue {self.queue!r}>"


def _read_deadline(deadline: Duration) -> int:
    return read_duration_ms(deadline, name="deadline", least_ms=1, most_ms=RETENTION_MS_MAX)


class Declare(Protocol):
    """`@app.job(...)`: functions of a payload, and of a payload and a context, async or not."""

    @overload
    def __call__(self, function: Callable[[P], Awaitable[R]], /) -> JobFunction[P, R]: ...

    @overload
    def __call__(self, function: Callable[[P, JobContext], Awaitable[R]], /) -> JobFunction[P, R]: ...

    @overload
    def __call__(self, function: Callable[[P], R], /) -> JobFunction[P, R]: ...

    @overload
    def __call__(self, function: Callable[[P, JobContext], R], /) -> JobFunction[P, R]: ...

    def __call__(self, function: Any, /) -> Any: ...


def as_declare(function: Callable[[Callable[..., Any]], JobFunction[Any, Any]]) -> Declare:
    return cast("Declare", function)
