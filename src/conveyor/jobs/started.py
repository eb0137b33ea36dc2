"""A group that was started: how it stands, what came of its members, and a hand on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from conveyor.model.beside import GroupNotFoundError, GroupTimeoutError
from conveyor.model.duration import DAY_MS, Duration, read_duration_ms
from conveyor.model.group import GroupState, MemberState
from conveyor.model.ids import MessageId, read_id
from conveyor.store.groups import Group as Kept
from conveyor.store.groups import has_ended
from conveyor.store.protocol import Store

_LOOK_S_FIRST: Final = 0.01
_LOOK_S_MAX: Final = 0.25
_WAIT_MS_MAX: Final = 366 * DAY_MS
_PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """A group as the store knows it now."""

    id: str
    name: str
    state: GroupState
    total: int
    succeeded: int
    failed: int
    cancelled: int
    created_at: datetime
    deadline_at: datetime | None
    """None until it has started."""
    ended_at: datetime | None

    @property
    def unfinished(self) -> int:
        """Members that have not ended, or had not when the deadline came."""
        return self.total - self.succeeded - self.failed - self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A member, and what is known of it."""

    id: str
    """Its message's and job's."""
    place: int
    """In the order in which they were added, from 0."""
    queue: str
    job: str | None
    """The job's name; None for a plain message."""
    state: MemberState
    ended_at: datetime | None
    result: Any
    """What its function returned, as JSON values, while that is kept."""
    error: str | None


class StartedGroup:
    """A hand on a group that was started."""

    __slots__ = ("_store", "id", "name")

    def __init__(self, store: Store, id: str, name: str) -> None:
        self._store = store
        self.id = id
        """32 hex digits."""
        self.name = name

    async def info(self) -> GroupInfo:
        """How it stands now. `GroupNotFoundError`."""
        return show_group(await self._find())

    async def wait(self, timeout: Duration | None = None) -> GroupInfo:  # noqa: ASYNC109  # no cancel scope knows durations
        """Until it has ended: by its deadline at the latest. `GroupTimeoutError` if that takes longer than `timeout`,
        which leaves it as it is; `GroupNotFoundError`."""
        clock, pause_s = self._store.clock, _LOOK_S_FIRST
        wait_ms = None if timeout is None else read_duration_ms(timeout, name="timeout", most_ms=_WAIT_MS_MAX)
        until = None if wait_ms is None else clock.monotonic() + wait_ms / 1000
        while not has_ended(group := await self._find()):
            if group.is_overdue(clock.now_ms()):
                await self.go_on()
                continue
            left_s = pause_s if until is None else until - clock.monotonic()
            if left_s <= 0:
                raise GroupTimeoutError(self.name, self.id, (wait_ms or 0) / 1000)
            await clock.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _LOOK_S_MAX)
        return show_group(group)

    async def cancel(self) -> GroupInfo:
        """End it: what waits is taken out, jobs that run are told. It has ended once they have; `on_complete` is told
        as ever. One that has ended stays as it is. `GroupNotFoundError`."""
        if await self._store.groups.cancel(self._key) is None:
            raise GroupNotFoundError(self.id)
        await self.go_on()
        return await self.info()

    async def members(self, state: MemberState | None = None) -> AsyncIterator[GroupMember]:
        """Those in this state, or all, in the order in which they were added; read page by page."""
        after = -1
        while page := await read_members(self._store, self._key, state=state, after=after):
            for member in page:
                yield member
            after = page[-1].place

    def __repr__(self) -> str:
        return f"<Group {self.id} {self.name!r}>"

    @property
    def _key(self) -> MessageId:
        return MessageId(bytes.fromhex(self.id))

    async def _find(self) -> Kept:
        return await find_group(self._store, self._key)

    async def go_on(self) -> None:
        """Take the steps that can be taken at once; the sweep takes those that nobody does."""
        while await self._store.groups.advance(self._key):
            pass


def read_group_id(text: str) -> MessageId:
    """`GroupNotFoundError` for what is no id."""
    found = read_id(text)
    if found is None:
        raise GroupNotFoundError(text)
    return found


async def find_group(store: Store, id: MessageId) -> Kept:
    """`GroupNotFoundError`."""
    group = await store.groups.find(id)
    if group is None:
        raise GroupNotFoundError(id.hex())
    return group


async def cancel_group(store: Store, id: MessageId) -> GroupInfo:
    """`GroupNotFoundError`."""
    group = await find_group(store, id)
    return await StartedGroup(store, id.hex(), group.name).cancel()


async def read_members(
    store: Store, id: MessageId, *, state: MemberState | None = None, after: int = -1, limit: int = _PAGE
) -> list[GroupMember]:
    """Some members by place, with what is kept of their jobs."""
    members = await store.groups.members(id, state=state, limit=limit, after=after)
    found = await store.jobs.find([each.id for each in members if each.job is not None])
    records = {each.id: each.record for each in found}
    shown = []
    for each in members:
        record = records.get(each.id)
        result = None if record is None else record.result
        shown.append(
            GroupMember(
                id=each.id.hex(), place=each.place, queue=each.queue, job=each.job, state=each.state,
                ended_at=None if each.ended_at is None else _moment(each.ended_at),
                result=None if result is None else msgspec.json.decode(result),
                error=None if record is None else record.error,
            )
        )  # fmt: skip
    return shown


def show_group(group: Kept) -> GroupInfo:
    """As users see it."""
    return GroupInfo(
        id=group.id.hex(), name=group.name, state=group.state, total=group.total, succeeded=group.succeeded,
        failed=group.failed, cancelled=group.cancelled, created_at=_moment(group.created_at),
        deadline_at=None if group.deadline_at is None else _moment(group.deadline_at),
        ended_at=None if group.ended_at is None else _moment(group.ended_at),
    )  # fmt: skip


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
