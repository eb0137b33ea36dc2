"""How long history is kept: of jobs, deliveries, runs and the audit trail, by policies that are documents of the store.

A sweep takes away what is over, a few rows of each kind at a time. A job's record carries the moment of its own end;
where a policy says otherwise, the sweep dates it anew before that, each record once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from conveyor.model.duration import DAY_MS
from conveyor.model.job import FINAL, RECORD_MS
from conveyor.store.records import DELIVERY_MS, HISTORY_ROWS_MAX, Document

POLICIES: Final = "retention"
"""The kind of the policies' documents; their names are `KIND` or `KIND/SCOPE`."""
PLACES: Final = "retention_place"
"""Of how far the sweep has come."""
POLICIES_MAX: Final = 1_000
RUNS_MS: Final = 90 * DAY_MS
LOOKED_AT_MAX: Final = 2_000
"""Rows of one look for what would go."""
START: Final = "start"
"""Of a trail whose first records were taken away: `NAME.start` holds the last of them."""
UNFINISHED_MS: Final = 15 * DAY_MS
"""A run whose message may still be there is kept for so much longer."""
_FINAL: Final = frozenset(state.value for state in FINAL)


class History(StrEnum):
    """What is kept for some time after it has ended."""

    JOBS = "jobs"
    """Records of finished jobs, with their results and attempts; the scope is their queue."""
    DELIVERIES = "deliveries"
    """Of webhooks; the scope is their queue, `APP-webhooks`."""
    RUNS = "runs"
    """Of schedules; the scope is the schedule."""
    AUDIT = "audit"
    """Records of the audit trail; without a scope."""


DEFAULTS: Final[Mapping[History, int | None]] = {
    History.JOBS: RECORD_MS, History.DELIVERIES: DELIVERY_MS, History.RUNS: RUNS_MS, History.AUDIT: None,
}  # fmt: skip
"""In milliseconds; None is for ever."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How long one kind is kept, there or everywhere."""

    keep_ms: int | None
    declared_ms: int | None = None
    """What an app last declared: only another declaration takes the place of what an operator has said since."""
    is_declared: bool = False


class Policies:
    """All of a store's."""

    def __init__(self, documents: Iterable[Document]) -> None:
        found = {each.name: _read(each.body) for each in documents}
        self._keep = {name: policy.keep_ms for name, policy in found.items() if policy is not None}
        self.mark = msgspec.json.encode(sorted(self._keep.items())).decode()
        """Another one for other policies."""

    def keep_ms(self, kind: History, scope: str | None = None) -> int | None:
        """For how long; None is for ever."""
        own = f"{kind.value}/{scope}"
        if scope is not None and own in self._keep:
            return self._keep[own]
        return self._keep.get(kind.value, DEFAULTS[kind])

    def says(self, kind: History) -> bool:
        """Whether anything is kept otherwise than usual."""
        return any(name.partition("/")[0] == kind.value for name in self._keep)

    def shortest_ms(self, kind: History) -> int:
        """Of those that are said, and the usual one."""
        said = [keep for name, keep in self._keep.items() if name.partition("/")[0] == kind.value]
        return min(keep for keep in (*said, DEFAULTS[kind]) if keep is not None)


FOREVER: Final = 2**62


class Dated(msgspec.Struct, frozen=True, kw_only=True):
    """What the sweep knows of a job's record."""

    id: bytes
    queue: str
    state: str
    ended_at: int | None
    result_until: int | None
    expires_at: int

    def ends_at(self, policies: Policies) -> int | None:
        """When it is over; None for one that is not final."""
        if self.state not in _FINAL or self.ended_at is None:
            return None
        keep = policies.keep_ms(History.JOBS, self.queue)
        if keep is None:
            return FOREVER
        until = self.result_until or 0
        asked_for_longer = until if until > self.ended_at + RECORD_MS else 0
        return max(self.ended_at + keep, asked_for_longer)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where the jobs' records are dated by the policies of `mark`."""

    mark: str = ""
    expires_at: int = 0
    id: str = ""
    is_whole: bool = False
    """Since these policies came, all records have been looked at once."""

    def bound(self, policies: Policies, now: int) -> int:
        """No record beyond this one can be over yet."""
        return now + max(0, RECORD_MS - policies.shortest_ms(History.JOBS)) if self.is_whole else FOREVER


def read_place(document: Document | None, policies: Policies) -> Place:
    """From the start, if it is of other policies."""
    place = Place() if document is None else msgspec.json.decode(document.body, type=Place)
    return place if place.mark == policies.mark else Place(mark=policies.mark)


def move_on(place: Place, found: Sequence[Dated]) -> Place:
    """After a look that found these."""
    if len(found) < HISTORY_ROWS_MAX and not place.is_whole:
        return Place(mark=place.mark, is_whole=True)
    if not found:
        return place
    last = found[-1]
    return msgspec.structs.replace(place, expires_at=last.expires_at, id=last.id.hex())


def redate(found: Sequence[Dated], policies: Policies) -> list[tuple[int, bytes]]:
    """The new ends, and whose they are."""
    ends = [(each.ends_at(policies), each) for each in found]
    return [(at, each.id) for at, each in ends if at is not None and at != each.expires_at]


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has ended, as a look for what would go sees it."""

    scope: str | None
    ended_at: int
    until: int = 0
    """It stays so long at least."""


class PassedPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of them, and where to go on; None at the end."""

    items: list[Passed]
    next_after: bytes | None


Row: TypeAlias = tuple[Any, ...]


def passed_jobs(rows: Sequence[Row]) -> PassedPage:
    """From rows of (id, queue, state, ended_at, result_until)."""
    items = [
        Passed(scope=queue, ended_at=ended_at, until=until if until and until > ended_at + RECORD_MS else 0)
        for _, queue, state, ended_at, until in rows
        if state in _FINAL and ended_at is not None
    ]
    return _page(items, [id for id, *_ in rows])


def passed_deliveries(rows: Sequence[Row]) -> PassedPage:
    """From rows of (id, queue, state, modified_at)."""
    items = [Passed(scope=queue, ended_at=at) for _, queue, state, at in rows if state != "pending"]
    return _page(items, [id for id, *_ in rows])


def passed_runs(rows: Sequence[Row]) -> PassedPage:
    """From rows of (schedule, tick)."""
    items = [Passed(scope=schedule, ended_at=tick) for schedule, tick in rows]
    return _page(items, [msgspec.json.encode(list(row)) for row in rows])


def read_run_key(after: bytes | None) -> tuple[str, int]:
    """Where a look at the runs goes on."""
    return ("", 0) if after is None else msgspec.json.decode(after, type=tuple[str, int])


def passed_records(documents: Sequence[Document]) -> PassedPage:
    """From the records of a trail."""
    items = [Passed(scope=None, ended_at=each.created_at) for each in documents]
    return _page(items, [each.name.encode() for each in documents])


def until_newer(documents: Sequence[Document], before: int) -> list[Document]:
    """Those at the beginning of a trail that are over; never its last one."""
    newer = (number for number, each in enumerate(documents) if each.created_at > before)
    return list(documents[: min(next(newer, len(documents)), len(documents) - 1, HISTORY_ROWS_MAX)])


def _page(items: list[Passed], keys: Sequence[bytes]) -> PassedPage:
    return PassedPage(items=items, next_after=keys[-1] if len(keys) >= LOOKED_AT_MAX else None)


class RetentionStore(Protocol):
    """What is kept of what has ended."""

    async def look(self, kind: History, *, after: bytes | None = None) -> PassedPage:
        """A page of all that has ended, whatever the policies say of it, at most `LOOKED_AT_MAX`; no more than so many
        rows are read in one transaction."""
        ...


def _read(body: bytes) -> Policy | None:
    try:
        return msgspec.json.decode(body, type=Policy)
    except msgspec.MsgspecError:
        return None
