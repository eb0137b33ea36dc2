"""`conveyor groups`: how groups and chains stand, and a hand on them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import click

from conveyor.audit.act import looking
from conveyor.audit.trail import operator
from conveyor.cli.answers import ask, print_facts, print_json, print_rows, say, store_options
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
from conveyor.store.protocol import Store

_COLUMNS = ("id", "name", "state", "total", "succeeded", "failed", "cancelled", "created_at", "deadline_at")
_MEMBER_COLUMNS = ("place", "id", "job", "queue", "state", "ended_at", "error")
_STATES = tuple(each.value for each in GroupState)
_MEMBER_STATES = tuple(each.value for each in MemberState)


@click.group()
def groups() -> None:
    """List groups and chains; show their members, and cancel them.

    \b
    Example:
      conveyor groups list --state running
      conveyor groups show 019bc3a0e1f20000000101930cd870a0 --members failed
    """


@groups.command("list")
@click.option("--name", default=None, help="Only groups of this name.")
@click.option("--state", type=click.Choice(_STATES), default=None, help="Only these.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@store_options
def list_groups(*, name: str | None, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """Groups, newest first."""
    chosen = None if state is None else GroupState(state)
    found = ask(url, lambda store: store.groups.look(name=name, state=chosen, limit=limit))
    rows = [_row(show_group(each)) for each in found]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="no such groups")


@groups.command()
@click.argument("id")
@click.option("--members", "state", type=click.Choice((*_MEMBER_STATES, "all")), help="With its members in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@store_options
def show(id: str, *, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """A group: what was counted, and its members."""
    wanted = None if state in (None, "all") else MemberState(state)

    async def question(store: Store) -> tuple[GroupInfo, list[GroupMember]]:
        key = read_group_id(id)
        info = show_group(await find_group(store, key))
        if state is None:
            return info, []
        look = partial(read_members, store, key, state=wanted, limit=limit)
        return info, await looking(store, "group.peek", id, operator(), look)

    info, members = ask(url, question)
    rows = [_member_row(each) for each in members]
    if as_json:
        print_json(_row(info) | ({} if state is None else {"members": rows}))
        return
    print_facts({name: value for name, value in _row(info).items() if value is not None}, as_json=False)
    if state is not None:
        print_rows(rows, columns=_MEMBER_COLUMNS, as_json=False, empty="no such members")


@groups.command()
@click.argument("id")
@store_options
def cancel(id: str, *, url: str | None, as_json: bool) -> None:
    """End a group: what waits is taken out, jobs that run are told."""
    info = ask(url, lambda store: cancel_group(store, read_group_id(id)))
    running = "; what runs is told to end" if info.state is GroupState.CANCELLING else ""
    say(f"`{id}` is {info.state}{running}", {"id": id, "state": info.state.value}, as_json=as_json)


def _row(info: GroupInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "name": info.name,
        "state": info.state.value,
        "total": info.total,
        "succeeded": info.succeeded,
        "failed": info.failed,
        "cancelled": info.cancelled,
        "unfinished": info.unfinished,
        "created_at": _shown(info.created_at),
        "deadline_at": _shown(info.deadline_at),
        "ended_at": _shown(info.ended_at),
    }


def _member_row(member: GroupMember) -> dict[str, Any]:
    return {
        "place": member.place,
        "id": member.id,
        "job": member.job,
        "queue": member.queue,
        "state": member.state.value,
        "ended_at": _shown(member.ended_at),
        "error": member.error,
        "result": member.result,
    }


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
