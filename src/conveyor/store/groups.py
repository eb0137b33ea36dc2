"""What all stores say of groups, as data, what a store must promise of them, and what follows from the data alone.

A group is a small graph: its nodes are messages, each sent once those that it comes after have ended. A member that
ends is counted in the transaction in which it ends, whatever ended it, and once: its node says so. The last one sends
the last message of its group in that same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from conveyor.model.duration import MINUTE_MS
from conveyor.model.group import ENDED, GROUP_MARK, GroupResult, GroupState, MemberState, OnFailure
from conveyor.model.ids import MessageId
from conveyor.model.job import JobRecord, JobState
from conveyor.model.message import Draft

PAGE_NODES: Final = 1_000
PAGE_BYTES: Final = 4_000_000
"""Nodes that are written down in one transaction."""
STEP_NODES: Final = 200
"""Nodes that are sent, or cancelled, in one transaction beside what else it does."""
START_MS: Final = 15 * MINUTE_MS
"""A group whose start was given up is forgotten after so long."""
DUE_MAX: Final = 100
"""Groups that one sweep looks after."""

FIRST_UNSENT: Final = (MessageId(b""), -1)
"""Before any."""


class GroupDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A group as it is handed to a store."""

    id: MessageId
    name: str
    on_failure: OnFailure
    deadline_ms: int
    """After its start."""
    on_complete: Draft | None
    """Sent at its end, once, with a `GroupResult` for a body."""


class NodeDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A member as it is handed to a store: its message, sent once those at the places in `after` have ended."""

    place: int
    message: Draft
    job: str | None
    after: tuple[int, ...] = ()
    takes: int | None = None
    """The place of the member whose result is to be the body."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A group as it stands. Times are milliseconds of the store's clock."""

    id: MessageId
    name: str
    state: GroupState
    on_failure: OnFailure
    has_edges: bool
    total: int
    unsent: int
    succeeded: int
    failed: int
    cancelled: int
    created_at: int
    deadline_ms: int
    deadline_at: int | None
    """None until it has started."""
    ended_at: int | None

    @property
    def is_whole(self) -> bool:
        """Every member has ended."""
        return self.succeeded + self.failed + self.cancelled == self.total

    def is_overdue(self, now: int) -> bool:
        return self.ended_at is None and self.deadline_at is not None and self.deadline_at <= now

    def is_to_end(self, now: int) -> bool:
        """Nothing of it is to begin any more."""
        return self.state in (GroupState.CANCELLING, GroupState.FAILING) or self.is_overdue(now)

    @property
    def result(self) -> GroupResult:
        return GroupResult(
            id=self.id.hex(), name=self.name, state=self.state, total=self.total, succeeded=self.succeeded,
            failed=self.failed, cancelled=self.cancelled,
        )  # fmt: skip


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member as it stands."""

    id: MessageId
    """Its message's."""
    group: MessageId
    place: int
    queue: str
    job: str | None
    state: MemberState
    ended_at: int | None


class Unsent(msgspec.Struct, frozen=True, kw_only=True):
    """The message of a member that is still to be sent, as it is kept."""

    group: MessageId
    place: int
    draft: bytes

    @property
    def message(self) -> Draft:
        return decode_draft(self.draft)


class MemberEnd(msgspec.Struct, frozen=True, gc=False):
    """How a member ended."""

    state: MemberState
    result: bytes | None = None
    """JSON; what a successor may take."""


class Counts(msgspec.Struct):
    """Members that ended in one transaction, by how they did."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    def add(self, state: MemberState) -> None:
        match state:
            case MemberState.SUCCEEDED:
                self.succeeded += 1
            case MemberState.FAILED:
                self.failed += 1
            case _:
                self.cancelled += 1


class GroupStore(Protocol):
    """What is kept of groups. The ends of members are counted by whatever ends their messages."""

    async def start(self, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
        """Write nodes down, in the order of their places; with the last ones the group begins. Nothing of it runs
        before, and if they never come, nothing is left of it. `QueueNotFoundError`, `GroupGoneError`."""
        ...

    async def advance(self, id: MessageId) -> bool:
        """One step: send what may be sent, or take out what is to end; whether there is more to do at once. Whoever
        begins or cancels a group takes all of them; the sweep takes those that were left."""
        ...

    async def find(self, id: MessageId) -> Group | None: ...

    async def look(
        self, *, name: str | None = None, state: GroupState | None = None, limit: int, before: MessageId | None = None
    ) -> list[Group]:
        """Newest first."""
        ...

    async def members(
        self, id: MessageId, *, state: MemberState | None = None, limit: int, after: int = -1
    ) -> list[Member]:
        """By place."""
        ...

    async def find_member(self, id: MessageId) -> Member | None:
        """By its message."""
        ...

    async def unsent(self, *, limit: int, after: tuple[MessageId, int] | None = None) -> list[Unsent]:
        """Of all groups, by group and place."""
        ...

    async def edit_unsent(self, was: Unsent, body: bytes) -> bool:
        """Another body, if it is still what it was; whether it is."""
        ...

    async def cancel(self, id: MessageId) -> Group | None:
        """It is to end; `advance` does it. One that has ended stays as it is."""
        ...

    async def sweep(self) -> int:
        """Advance groups whose deadline has come, or that somebody has left half done, and forget old ones; how many
        there were."""
        ...


_DRAFT: Final = msgspec.json.Decoder(Draft)


def encode_draft(draft: Draft) -> bytes:
    return msgspec.json.encode(draft)


def decode_draft(text: bytes) -> Draft:
    return _DRAFT.decode(text)


def with_body(was: Unsent, body: bytes) -> bytes:
    """The draft with another body."""
    return encode_draft(replace(was.message, body=body))


def is_member(headers: bytes | None) -> bool:
    """Whether a message with these headers may be a group's. Its node knows."""
    return headers is not None and GROUP_MARK in headers


def end_of(outcome: JobRecord | None) -> MemberEnd:
    """How a member ended that was acked."""
    if outcome is None:
        return MemberEnd(MemberState.SUCCEEDED)
    state = MemberState.CANCELLED if outcome.state is JobState.CANCELLED else MemberState.SUCCEEDED
    return MemberEnd(state, outcome.result)


def final_state(group: Group, now: int) -> GroupState:
    """Of a group whose members have all ended."""
    if group.is_overdue(now):
        return GroupState.EXPIRED
    if group.state is GroupState.CANCELLING:
        return GroupState.CANCELLED
    if group.failed:
        return GroupState.FAILED
    return GroupState.CANCELLED if group.cancelled else GroupState.SUCCEEDED


def fails_now(group: Group) -> bool:
    """Whether the others are to be cancelled, for one did not succeed."""
    return (
        group.state is GroupState.RUNNING and group.on_failure == "cancel" and group.failed + group.cancelled > 0
    )  # fmt: skip


def last_message(group: Group, on_complete: bytes) -> Draft:
    """What tells of the end of a group that has ended."""
    return replace(decode_draft(on_complete), body=msgspec.json.encode(group.result))


def fed_with(draft: bytes, result: bytes | None) -> bytes:
    """A draft whose body is another's result."""
    return encode_draft(replace(decode_draft(draft), body=result or b"null"))


def read_group(row: Sequence[Any]) -> Group:
    """From the columns that every statement gives, in their order."""
    id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, *times = row
    created_at, deadline_ms, deadline_at, ended_at = times
    return Group(
        id=MessageId(bytes(id)), name=name, state=GroupState(state), on_failure=on_failure, has_edges=bool(has_edges),
        total=total, unsent=unsent, succeeded=succeeded, failed=failed, cancelled=cancelled, created_at=created_at,
        deadline_ms=deadline_ms, deadline_at=deadline_at, ended_at=ended_at,
    )  # fmt: skip


def read_member(row: Sequence[Any]) -> Member:
    id, group, place, queue, job, state, ended_at = row
    return Member(
        id=MessageId(bytes(id)), group=MessageId(bytes(group)), place=place, queue=queue, job=job,
        state=MemberState(state), ended_at=ended_at,
    )  # fmt: skip


def ended_states(ends: Mapping[MessageId, MemberEnd]) -> dict[MemberState, list[MessageId]]:
    """The members of one transaction, by how they ended."""
    states: dict[MemberState, list[MessageId]] = {}
    for id, end in ends.items():
        states.setdefault(end.state, []).append(id)
    return states


def has_ended(group: Group) -> bool:
    return group.state in ENDED
