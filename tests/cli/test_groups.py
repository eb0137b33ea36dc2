"""`conveyor groups`: listed, shown, cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conveyor.model.group import GROUP_HEADER
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.settings import QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.groups import GroupDraft, NodeDraft
from conveyor.store.protocol import Store
from conveyor.store.records import ClaimRequest, OwnerInfo

if TYPE_CHECKING:
    from .conftest import Terminal


async def fill(store: Store) -> str:
    """A group of two messages, one of them done."""
    await store.create_queue("mails", QueueSettings())
    ids = IdSource(store.clock)
    id = ids.new()
    headers = b'{"%s":"%s"}' % (GROUP_HEADER.encode(), id.hex().encode())
    draft = GroupDraft(id=id, name="nightly", on_failure="continue", deadline_ms=60_000, on_complete=None)
    messages = [Draft(id=ids.new(), queue="mails", body=b"1", headers=headers) for _ in range(2)]
    nodes = [NodeDraft(place=place, message=each, job=None) for place, each in enumerate(messages)]
    await store.groups.start(draft, nodes, is_last=True)
    owner = await store.register_owner(OwnerInfo(app="shop", host=store.host, pid=1, supervisor_pid=1))
    [lease] = (await store.claim(ClaimRequest(queue="mails", owner=owner, limit=1))).leases
    await store.settle(owner, [Settlement(lease.seq, lease.claim, is_member=True)])
    return id.hex()


@pytest.fixture
def id(terminal: Terminal) -> str:
    return terminal.store(fill)


def test_groups_are_listed(terminal: Terminal, id: str) -> None:
    [group] = terminal.ok("groups", "list", "--json").json
    assert (group["id"], group["state"], group["succeeded"], group["unfinished"]) == (id, "running", 1, 1)
    assert id in terminal.ok("groups", "list").out
    assert terminal.ok("groups", "list", "--state", "expired").out == "no such groups\n"


def test_a_group_is_shown_with_its_members(terminal: Terminal, id: str) -> None:
    assert "members" not in terminal.ok("groups", "show", id, "--json").json
    shown = terminal.ok("groups", "show", id, "--members", "all", "--json").json
    assert [each["state"] for each in shown["members"]] == ["succeeded", "sent"]
    assert "nightly" in terminal.ok("groups", "show", id, "--members", "sent").out
    assert terminal.ok("groups", "show", id, "--members", "failed").out.endswith("no such members\n")
    [first, *_] = terminal.ok("audit", "list", "--action", "group.peek", "--json").json
    assert (first["target"], first["actor"]) == (id, "cli"), "members have results"
    assert "group_not_found" in terminal.run("groups", "show", "what").err


def test_a_group_is_cancelled(terminal: Terminal, id: str) -> None:
    assert terminal.ok("groups", "cancel", id).out == f"`{id}` is cancelled\n"
    assert terminal.ok("groups", "cancel", id, "--json").json == {"id": id, "state": "cancelled"}
    assert terminal.run("groups", "cancel", "0" * 32).code == 1
