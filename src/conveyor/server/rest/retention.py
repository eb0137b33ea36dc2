"""Retention: for how long is kept what has ended, and what would go now."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from conveyor.model.refusals import ForbiddenError
from conveyor.retention import DEAD_LETTERS, KEEP_MS_MAX, Due, Kept, Retention, read_kind
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.shapes import Asked, Moment, Told, maybe_moment
from conveyor.server.rights import Right
from conveyor.store.retaining import History


class ScopeAsked(Asked, frozen=True, kw_only=True):
    """Of what a policy is."""

    scope: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """A queue, or a schedule; without one it is all that have no policy of their own."""


class KeepAsked(Asked, frozen=True, kw_only=True):
    """For how long."""

    keep_ms: Annotated[int, Meta(ge=0, le=KEEP_MS_MAX)] | None
    """Null is for ever."""


class PolicyShown(Told, frozen=True, kw_only=True):
    """For how long one kind is kept."""

    kind: str
    scope: str | None
    keep_ms: int | None
    said_by: Literal["default", "app", "operator", "queue"]


class Policies(Told, frozen=True, kw_only=True):
    """All of them."""

    items: list[PolicyShown]


class DueShown(Told, frozen=True, kw_only=True):
    """What would go now, of one kind and scope."""

    kind: str
    scope: str | None
    rows: int
    oldest_at: Moment | None
    keep_ms: int | None


class Preview(Told, frozen=True, kw_only=True):
    """All that would go now."""

    items: list[DueShown]


async def list_retention(call: Call) -> Answer:
    """What is kept for how long, and who said so."""
    return Answer.json(Policies(items=[_show(each) for each in await Retention(call.store).list()]))


async def preview_retention(call: Call) -> Answer:
    """What would go now; nothing is changed."""
    return Answer.json(Preview(items=[_show_due(each) for each in await Retention(call.store).preview()]))


async def set_retention(call: Call) -> Answer:
    """Keep one kind for so long from now on; holds for what is there already, too."""
    kind, scope = _place(call)
    keep_ms = call.decode(KeepAsked).keep_ms
    keep = None if keep_ms is None else keep_ms / 1000
    return Answer.json(_show(await Retention(call.store).set(kind, keep, scope=scope)))


async def clear_retention(call: Call) -> Answer:
    """Keep one kind as it is usual again."""
    kind, scope = _place(call)
    await Retention(call.store).clear(kind, scope=scope)
    return Answer(204)


def _place(call: Call) -> tuple[str, str | None]:
    """`ForbiddenError` for the audit trail: how long it is kept is for admins."""
    kind, scope = call.path["kind"], read_query(call, ScopeAsked).scope
    call.target = kind if scope is None else f"{kind}/{scope}"
    if kind != DEAD_LETTERS and read_kind(kind, scope) is History.AUDIT and not call.caller.may(Right.ADMIN):
        raise ForbiddenError(Right.ADMIN)
    return kind, scope


def _show(kept: Kept) -> PolicyShown:
    return PolicyShown(kind=kept.kind, scope=kept.scope, keep_ms=kept.keep_ms, said_by=kept.said_by)


def _show_due(due: Due) -> DueShown:
    return DueShown(
        kind=due.kind, scope=due.scope, rows=due.rows, oldest_at=maybe_moment(due.oldest_at), keep_ms=due.keep_ms
    )


OPERATIONS: Final = (
    Operation(method="GET", path="/retention", right=Right.READ, scope="store", handle=list_retention, gives=Policies),
    Operation(
        method="GET", path="/retention/preview", right=Right.READ, scope="store", handle=preview_retention,
        gives=Preview,
    ),
    Operation(
        method="PUT", path="/retention/{kind}", right=Right.MANAGE, scope="store", handle=set_retention,
        action="retention.set", query=ScopeAsked, takes=KeepAsked, gives=PolicyShown,
    ),
    Operation(
        method="DELETE", path="/retention/{kind}", right=Right.MANAGE, scope="store", handle=clear_retention,
        action="retention.clear", query=ScopeAsked,
    ),
)  # fmt: skip
