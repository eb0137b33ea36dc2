"""Retention: for how long finished jobs, deliveries, runs, dead letters and the audit trail are kept.

    app.retention(jobs="7d", deliveries="30d")
    app.retention(jobs="1d", scope="emails")

What is said for a scope (a queue, or a schedule) goes before what is said for all. A sweep takes away what is over.
Dead letters are messages: a dead letter queue's own message retention says how long they stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from conveyor.model.duration import DAY_MS, MINUTE_MS, Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError, NotFoundError, VersionConflictError
from conveyor.store.protocol import Store
from conveyor.store.records import Document
from conveyor.store.retaining import DEFAULTS, POLICIES, POLICIES_MAX, History, Passed, Policies, Policy
from conveyor.store.routed import RoutedStore

DEAD_LETTERS: Final = "dead_letters"
FOREVER: Final = "forever"
KINDS: Final = (*(kind.value for kind in History), DEAD_LETTERS)
KEEP_MS_MAX: Final = 3_660 * DAY_MS
_LEAST_MS: Final[Mapping[History, int]] = {
    History.JOBS: MINUTE_MS, History.DELIVERIES: MINUTE_MS, History.RUNS: DAY_MS, History.AUDIT: DAY_MS,
}  # fmt: skip
_TRIES: Final = 5


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One policy, as it is shown."""

    kind: str
    scope: str | None
    """A queue or a schedule; None is all that have none of their own."""
    keep_ms: int | None
    """None is for ever."""
    said_by: Literal["default", "app", "operator", "queue"]
    """`default`, `app`, `operator`, or `queue` for dead letters."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What would go now."""

    kind: str
    scope: str | None
    rows: int
    oldest_at: int | None
    keep_ms: int | None


class Retention:
    """The policies of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: Sequence[Store] = list(store.parts.values()) if isinstance(store, RoutedStore) else [store]

    async def list(self) -> Sequence[Kept]:
        """The defaults, what is said otherwise, and what each dead letter queue keeps."""
        said = {each.name: each for each in await self._documents()}
        found = [
            Kept(kind=kind.value, scope=None, keep_ms=keep, said_by="default")
            for kind, keep in DEFAULTS.items()
            if kind.value not in said
        ]
        for name, document in said.items():
            kind, _, scope = name.partition("/")
            policy = _read(document)
            is_app_s = policy.is_declared and policy.keep_ms == policy.declared_ms
            by: Literal["app", "operator"] = "app" if is_app_s else "operator"
            found.append(Kept(kind=kind, scope=scope or None, keep_ms=policy.keep_ms, said_by=by))
        return sorted([*found, *await self._dead_letters()], key=lambda each: (each.kind, each.scope or ""))

    async def _dead_letters(self) -> Sequence[Kept]:
        queues = await self._store.list_queues()
        dead = {each.consumer.dead_letter_queue for each in queues if each.consumer is not None}
        return [
            Kept(kind=DEAD_LETTERS, scope=each.name, keep_ms=each.settings.retention_ms, said_by="queue")
            for each in queues
            if each.name in dead
        ]

    async def set(self, kind: str, keep: Duration | None, *, scope: str | None = None) -> Kept:
        """Keep it for so long from now on; None is for ever. `InvalidSettingError`, `InvalidDurationError`; dead
        letters must have a queue: `QueueNotFoundError`."""
        if kind == DEAD_LETTERS:
            return await self._keep_dead(keep, scope)
        history, keep_ms = read_kind(kind, scope), read_keep(kind, keep)
        name = _name(history, scope)
        for part in self._parts:
            present = await part.get_document(POLICIES, name)
            policy = Policy(keep_ms=keep_ms) if present is None else replace(_read(present), keep_ms=keep_ms)
            await part.put_document(POLICIES, name, msgspec.json.encode(policy))
        return Kept(kind=kind, scope=scope, keep_ms=keep_ms, said_by="operator")

    async def _keep_dead(self, keep: Duration | None, queue: str | None) -> Kept:
        if queue is None or keep is None:
            problem = "are kept for a time that is said of one dead letter queue"
            raise InvalidSettingError(DEAD_LETTERS, queue or "all", problem, hint="name the queue, and a duration")
        keep_ms = read_duration_ms(keep, name="keep", most_ms=KEEP_MS_MAX)
        info = await self._store.get_queue(queue)
        settings = replace(info.settings, retention_ms=keep_ms)
        settings.check()
        await self._store.update_queue(queue, settings, version=info.version)
        return Kept(kind=DEAD_LETTERS, scope=queue, keep_ms=keep_ms, said_by="queue")

    async def clear(self, kind: str, *, scope: str | None = None) -> None:
        """As usual from now on. `NotFoundError` if nothing was said."""
        name = _name(read_kind(kind, scope), scope)
        gone = [await part.delete_document(POLICIES, name) for part in self._parts]
        if not any(gone):
            raise NotFoundError(f"nothing was said of how long `{name}` is kept", hint="see `conveyor retention list`")

    async def declare(self, wanted: Mapping[str, int | None]) -> None:
        """What an app says at its start, by the documents' names. What an operator has said since it first said so
        stays."""
        for part in self._parts:
            if part.keeps_others:
                continue
            for name, keep_ms in wanted.items():
                await _declare(part, name, keep_ms)

    async def preview(self) -> Sequence[Due]:
        """What the next sweeps would take away. Reads all of it, a page at a time."""
        policies = Policies(await self._documents())
        now = self._store.clock.now_ms()
        rows: Counter[tuple[History, str | None]] = Counter()
        oldest: dict[tuple[History, str | None], int] = {}
        for kind in History:
            newest: dict[str | None, int] = {}
            async for each in self._passed(kind):
                place = (kind, each.scope)
                newest[each.scope] = max(newest.get(each.scope, 0), each.ended_at)
                if _is_over(each, policies.keep_ms(kind, each.scope), now):
                    rows[place] += 1
                    oldest[place] = min(oldest.get(place, each.ended_at), each.ended_at)
            if kind in (History.RUNS, History.AUDIT):  # the last one stays, whatever its age
                for scope, ended_at in newest.items():
                    if now - ended_at >= (policies.keep_ms(kind, scope) or KEEP_MS_MAX * 100):
                        rows[kind, scope] -= 1
        return [
            Due(
                kind=kind.value, scope=scope, rows=count, oldest_at=oldest[kind, scope],
                keep_ms=policies.keep_ms(kind, scope),
            )
            for (kind, scope), count in sorted(rows.items(), key=lambda each: (each[0][0].value, each[0][1] or ""))
            if count > 0
        ]  # fmt: skip

    async def _passed(self, kind: History) -> AsyncIterator[Passed]:
        for part in self._parts:
            after: bytes | None = None
            while True:
                page = await part.retention.look(kind, after=after)
                for each in page.items:
                    yield each
                after = page.next_after
                if after is None:
                    break

    async def _documents(self) -> Sequence[Document]:
        return await self._parts[0].list_documents(POLICIES, limit=POLICIES_MAX)


class Declared:
    """What an app says of retention; called, it says more."""

    def __init__(self, given: Mapping[str, Duration | None]) -> None:
        self.wanted = read_declared(given)

    def __call__(
        self,
        *,
        scope: str | None = None,
        jobs: Duration | None = None,
        deliveries: Duration | None = None,
        runs: Duration | None = None,
        audit: Duration | None = None,
    ) -> None:
        """For how long finished jobs, webhook deliveries, runs of schedules and the audit trail are kept; `"forever"`
        is one too. With `scope` those of one queue, or runs of one schedule. What an operator says later holds until
        this is changed. `InvalidSettingError`, `InvalidDurationError`."""
        given = {"jobs": jobs, "deliveries": deliveries, "runs": runs, "audit": audit}
        end = "" if scope is None else f"/{scope}"
        self.wanted |= read_declared({f"{kind}{end}": keep for kind, keep in given.items() if keep is not None})


def read_kind(kind: str, scope: str | None) -> History:
    """`InvalidSettingError` for what is not kept, or has no scopes."""
    try:
        history = History(kind)
    except ValueError:
        raise InvalidSettingError("retention", kind, "is nothing that is kept", hint=", ".join(KINDS)) from None
    if history is History.AUDIT and scope is not None:
        raise InvalidSettingError("retention", f"{kind}/{scope}", "the audit trail is one, and has no queues")
    return history


def read_keep(kind: str, keep: Duration | None) -> int | None:
    """In milliseconds; `forever` and None are for ever. `InvalidDurationError`."""
    if keep is None or keep == FOREVER:
        return None
    return read_duration_ms(keep, name="keep", least_ms=_LEAST_MS[History(kind)], most_ms=KEEP_MS_MAX)


def read_declared(given: Mapping[str, Duration | None]) -> dict[str, int | None]:
    """What a file or an app says, by `KIND` or `KIND/SCOPE`. `InvalidSettingError`, `InvalidDurationError`."""
    wanted: dict[str, int | None] = {}
    for name, keep in given.items():
        kind, _, scope = name.partition("/")
        wanted[_name(read_kind(kind, scope or None), scope or None)] = read_keep(kind, keep)
    return wanted


async def _declare(store: Store, name: str, keep_ms: int | None) -> None:
    for _ in range(_TRIES):
        present = await store.get_document(POLICIES, name)
        policy = None if present is None else _read(present)
        if policy is not None and policy.is_declared and policy.declared_ms == keep_ms:
            return
        wanted = Policy(keep_ms=keep_ms, declared_ms=keep_ms, is_declared=True)
        try:
            version = 0 if present is None else present.version
            await store.put_document(POLICIES, name, msgspec.json.encode(wanted), version=version)
        except VersionConflictError:
            continue
        return


def _is_over(each: Passed, keep_ms: int | None, now: int) -> bool:
    return keep_ms is not None and max(each.ended_at + keep_ms, each.until) <= now


def _name(kind: History, scope: str | None) -> str:
    return kind.value if scope is None else f"{kind.value}/{scope}"


def _read(document: Document) -> Policy:
    return msgspec.json.decode(document.body, type=Policy)
