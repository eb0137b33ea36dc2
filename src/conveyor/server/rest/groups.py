"""Groups and chains: listed, shown with their members, cancelled."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from conveyor.jobs.started import (
    GroupInfo,
    GroupMember,
    cancel_group,
    find_group,
    read_group_id,
    read_members,
    show_group,
)
from conveyor.model.group import GroupState, MemberState
from conveyor.server.endpoint import Answer, Call
from conveyor.server.rest.operation import Operation, read_query
from conveyor.server.rest.paging import read_cursor, write_cursor
from conveyor.server.rest.shapes import Moment, Page, PageAsked, Told
from conveyor.server.rights import Right

Name = Annotated[str, Meta(min_length=1, max_length=100)]


class GroupsWanted(PageAsked, frozen=True, kw_only=True):
    """Which groups to list."""

    name: Name | None = None
    state: GroupState | None = None


class MembersWanted(PageAsked, frozen=True, kw_only=True):
    """Which members to list."""

    state: MemberState | None = None


class GroupShown(Told, frozen=True, kw_only=True):
    """A group as it stands. `unfinished` members have not ended, or had not when the deadline came."""

    id: str
    name: str
    state: GroupState
    total: int
    succeeded: int
    failed: int
    cancelled: int
    unfinished: int
    created_at: Moment
    deadline_at: Moment | None
    ended_at: Moment | None


class GroupMemberShown(Told, frozen=True, kw_only=True):
    """A member of a group; `result` and `error` are those of its job, while they are kept."""

    id: str
    place: int
    queue: str
    job: str | None
    state: MemberState
    ended_at: Moment | None
    result: Any
    error: str | None


async def list_groups(call: Call) -> Answer:
    """Groups and chains, newest first."""
    asked = read_query(call, GroupsWanted)
    cursor = read_cursor("groups", asked.cursor, str)
    before = None if cursor is None else read_group_id(cursor)
    found = await call.store.groups.look(name=asked.name, state=asked.state, limit=asked.limit, before=before)
    following = write_cursor("groups", found[-1].id.hex()) if len(found) == asked.limit else None
    return Answer.json(Page(items=[_show(show_group(each)) for each in found], next_cursor=following))


async def get_group(call: Call) -> Answer:
    """A group, and what was counted of it."""
    return Answer.json(_show(show_group(await find_group(call.store, read_group_id(call.path["group"])))))


async def list_group_members(call: Call) -> Answer:
    """Its members, in the order in which they were added."""
    asked, id = read_query(call, MembersWanted), read_group_id(call.path["group"])
    await find_group(call.store, id)
    cursor = read_cursor("members", asked.cursor, int)
    after = -1 if cursor is None else cursor
    members = await read_members(call.store, id, state=asked.state, after=after, limit=asked.limit)
    following = write_cursor("members", members[-1].place) if len(members) == asked.limit else None
    return Answer.json(Page(items=[_show_member(each) for each in members], next_cursor=following))


async def cancel(call: Call) -> Answer:
    """End a group: what waits at once, jobs that run within seconds."""
    return Answer.json(_show(await cancel_group(call.store, read_group_id(call.path["group"]))))


def _show(info: GroupInfo) -> GroupShown:
    return GroupShown(
        id=info.id, name=info.name, state=info.state, total=info.total, succeeded=info.succeeded, failed=info.failed,
        cancelled=info.cancelled, unfinished=info.unfinished, created_at=info.created_at, deadline_at=info.deadline_at,
        ended_at=info.ended_at,
    )  # fmt: skip


def _show_member(member: GroupMember) -> GroupMemberShown:
    return GroupMemberShown(
        id=member.id, place=member.place, queue=member.queue, job=member.job, state=member.state,
        ended_at=member.ended_at, result=member.result, error=member.error,
    )  # fmt: skip


OPERATIONS: Final = (
    Operation(
        method="GET", path="/groups", right=Right.READ, scope="store", handle=list_groups, query=GroupsWanted,
        gives=Page[GroupShown],
    ),
    Operation(
        method="GET", path="/groups/{group}", right=Right.READ, scope="store", handle=get_group, gives=GroupShown
    ),
    Operation(
        method="GET", path="/groups/{group}/members", right=Right.READ, scope="store", handle=list_group_members,
        action="group.peek", query=MembersWanted, gives=Page[GroupMemberShown],
    ),
    Operation(
        method="POST", path="/groups/{group}/cancel", right=Right.MANAGE, scope="store", handle=cancel,
        action="group.cancel", gives=GroupShown,
    ),
)  # fmt: skip
