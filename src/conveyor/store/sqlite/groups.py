"""Groups: started, counted in the commit in which their members end, and brought to an end."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.beside import GroupGoneError
from conveyor.model.errors import QueueFullError
from conveyor.model.group import GROUP_MS, GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft
from conveyor.store.groups import (
    DUE_MAX,
    PAGE_NODES,
    START_MS,
    STEP_NODES,
    Counts,
    Group,
    GroupDraft,
    Member,
    MemberEnd,
    NodeDraft,
    Unsent,
    decode_draft,
    encode_draft,
    fails_now,
    fed_with,
    final_state,
    has_ended,
    last_message,
    read_group,
    read_member,
    with_body,
)
from conveyor.store.jobs import NEWEST
from conveyor.store.records import SWEEP_ROWS_MAX
from conveyor.store.sqlite import jobs
from conveyor.store.sqlite.append import append, append_one
from conveyor.store.sqlite.settle import take_out_ready
from conveyor.store.sqlite.transaction import Transaction

_Ended = list[tuple[int, MemberEnd]]
"""Members of one group, by place."""


# Starting


def start_group(tx: Transaction, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
    for queue in {node.message.queue for node in nodes} | ({group.on_complete.queue} if group.on_complete else set()):
        tx.catalog.get(tx, queue)
    present = find_group(tx, group.id)
    if present is not None and present.state is not GroupState.STARTING:
        raise GroupGoneError(group.id.hex())
    if present is None and nodes and nodes[0].place > 0:
        raise GroupGoneError(group.id.hex())
    roots = [node.message for node in nodes if not node.after]
    are_sent = present is None and is_last and _try_send(tx, roots)
    if present is None:
        on_complete = None if group.on_complete is None else encode_draft(group.on_complete)
        facts = (group.id, group.name, group.on_failure, tx.now, group.deadline_ms, tx.now + START_MS, on_complete)
        tx.run("insert_group", *facts)
    _insert_nodes(tx, group.id, nodes, are_sent=are_sent)
    unsent = len(nodes) - (len(roots) if are_sent else 0)
    tx.run("add_to_group", len(nodes), unsent, any(node.after for node in nodes), group.id)
    if is_last:
        tx.run("launch_group", tx.now, group.id)
        advance(tx, group.id)
    started = find_group(tx, group.id)
    assert started is not None, "it was written in this transaction"
    return started


def _insert_nodes(tx: Transaction, group: MessageId, nodes: Sequence[NodeDraft], *, are_sent: bool) -> None:
    root = MemberState.SENT if are_sent else MemberState.READY
    tx.run_many(
        "insert_node",
        [
            (
                *(node.message.id, group, node.place, node.message.queue, node.job),
                *((MemberState.WAITING if node.after else root).value, len(node.after), node.takes),
            )
            for node in nodes
        ],
    )
    edges = [(group, parent, node.place) for node in nodes for parent in node.after]
    tx.run_many("insert_edge", edges)
    unsent = [node for node in nodes if node.after or not are_sent]
    tx.run_many("insert_node_draft", [(group, node.place, encode_draft(node.message)) for node in unsent])


def _try_send(tx: Transaction, drafts: Sequence[Draft]) -> bool:
    """All of them, or none: a queue is full."""
    try:
        append(tx, drafts)
    except QueueFullError:
        return False
    return True


# Counting


def count_members(tx: Transaction) -> None:
    """Those that ended in this transaction; the last of a group ends it. What follows from that may end others."""
    is_first = True
    while tx.members:
        ended, tx.members = tx.members, {}
        by_group: dict[MessageId, _Ended] = {}
        for id, end in ended.items():
            found = tx.row("end_node", end.state.value, tx.now, id)
            if found is not None:
                by_group.setdefault(found[0], []).append((found[1], end))
        for group, members in by_group.items():
            _count(tx, group, members, takes_out=is_first)
        is_first = False


def _count(tx: Transaction, id: MessageId, ended: _Ended, *, takes_out: bool) -> None:
    group = _add(tx, id, [end.state for _, end in ended])
    if group is None:  # it was over before they were
        return
    if fails_now(group):
        group = _set_state(tx, group, GroupState.FAILING)
    if group.state in (GroupState.FAILING, GroupState.CANCELLING):
        _cancel_some(tx, group, takes_out=takes_out)
    elif group.state is GroupState.RUNNING and group.unsent:
        for place, end in ended:
            _free_children(tx, group, place, end)
        _send_some(tx, group)
    _end_if_whole(tx, id)


def _add(tx: Transaction, id: MessageId, states: Sequence[MemberState], *, unsent: int = 0) -> Group | None:
    counts = Counts()
    for state in states:
        counts.add(state)
    found = tx.row("count_members", counts.succeeded, counts.failed, counts.cancelled, unsent, id)
    return None if found is None else read_group(found)


def _free_children(tx: Transaction, group: Group, place: int, end: MemberEnd) -> None:
    if not group.has_edges:
        return
    for id, child, queue, takes in tx.rows("free_children", group.id, place):
        if takes != place:
            continue
        row = tx.catalog.find(tx, queue)
        if row is not None and len(end.result or b"") > row.settings.max_message_bytes:
            _never_send(tx, group, id, child, MemberState.FAILED)
            continue
        found = tx.row("read_node_draft", group.id, child)
        if found is not None:
            tx.run("write_node_draft", fed_with(found[0], end.result), group.id, child)


def _never_send(tx: Transaction, group: Group, id: MessageId, place: int, state: MemberState) -> None:
    """A member that cannot be sent ends as one that was: it is counted before the commit."""
    tx.run("mark_node", MemberState.SENT.value, id)
    tx.run("drop_node_draft", group.id, place)
    _add(tx, group.id, (), unsent=1)
    tx.members[id] = MemberEnd(state)


def _send_some(tx: Transaction, group: Group, limit: int = STEP_NODES) -> bool:
    """Members that wait for nobody; whether there may be more that can be sent now."""
    found = tx.rows("ready_nodes", group.id, limit)
    here = [row for row in found if tx.catalog.find(tx, row[2]) is not None]
    for id, place, queue, _draft in found:
        if tx.catalog.find(tx, queue) is None:
            _never_send(tx, group, id, place, MemberState.CANCELLED)
    count = len(here)
    while count and not _try_send(tx, [decode_draft(row[3]) for row in here[:count]]):
        count //= 2  # its queue is nearly full
    if count:
        tx.run_many("mark_node", [(MemberState.SENT.value, row[0]) for row in here[:count]])
        tx.run_many("drop_node_draft", [(group.id, row[1]) for row in here[:count]])
        _add(tx, group.id, (), unsent=count)
    return len(found) == limit and count > 0


def _set_state(tx: Transaction, group: Group, state: GroupState) -> Group:
    found = tx.row("set_group_state", state.value, group.id)
    assert found is not None, "it was read in this transaction"
    return read_group(found)


def _end_if_whole(tx: Transaction, id: MessageId) -> None:
    group = find_group(tx, id)
    if group is not None and group.is_whole and group.deadline_at is not None and not has_ended(group):
        _end(tx, group, final_state(group, tx.now))


def _end(tx: Transaction, group: Group, state: GroupState) -> None:
    found = tx.row("end_group", state.value, tx.now, tx.now + GROUP_MS, group.id)
    if found is None:
        return
    *columns, on_complete = found
    if on_complete is not None:
        draft = last_message(read_group(columns), on_complete)
        append_one(tx, tx.catalog.ensure(tx, draft.queue), draft)  # past the backlog check: it is owed


# Going on, or to its end


def advance(tx: Transaction, id: MessageId) -> bool:
    """One step; whether there is more to do at once."""
    count_members(tx)
    group = find_group(tx, id)
    if group is None or has_ended(group) or group.state is GroupState.STARTING:
        return False
    if not group.is_to_end(tx.now):
        has_more = _send_some(tx, group, PAGE_NODES) if group.unsent else False
        count_members(tx)
        _end_if_whole(tx, id)
        return has_more
    is_left_alone = group.state is GroupState.RUNNING and group.on_failure == "continue"
    has_more = _cancel_some(tx, group, takes_out=not is_left_alone)
    count_members(tx)
    _end_if_whole(tx, id)
    if group.is_overdue(tx.now) and not has_more:
        _end(tx, group, GroupState.EXPIRED)
    return has_more


def _cancel_some(tx: Transaction, group: Group, *, takes_out: bool) -> bool:
    """What was not sent never is. Of what was sent some is taken out, or told to end if it runs; whether there may be
    more of that."""
    if group.unsent:
        dropped = tx.run("drop_unsent", tx.now, group.id)
        tx.run("drop_drafts", group.id)
        _add(tx, group.id, [MemberState.CANCELLED] * dropped, unsent=dropped)
    if not takes_out:
        return False
    sent = tx.rows("sent_nodes", group.id, STEP_NODES)
    for (id,) in sent:
        if not _take_out(tx, id):
            tx.run("mark_node", MemberState.ENDING.value, id)
    return len(sent) == STEP_NODES


def _take_out(tx: Transaction, id: MessageId) -> bool:
    """False: it runs, and ends by itself, or as soon as it hears of it."""
    tx.flush()
    found = jobs.find_message(tx, id)
    if found is None or found.dead is not None:  # purged, or lost
        tx.members[id] = MemberEnd(MemberState.CANCELLED)
        return True
    if jobs.find_job(tx, id) is not None:
        jobs.cancel_job(tx, id, take_out_ready)
        return not found.leased
    if found.leased:
        return False
    row = tx.catalog.get(tx, found.queue)
    tx.wake(row)
    return take_out_ready(tx, row, found)


def cancel_group(tx: Transaction, id: MessageId) -> Group | None:
    count_members(tx)
    group = find_group(tx, id)
    if group is not None and group.state in (GroupState.RUNNING, GroupState.FAILING):
        group = _set_state(tx, group, GroupState.CANCELLING)
    return group


# Looking


def find_group(tx: Transaction, id: MessageId) -> Group | None:
    found = tx.row("read_group", id)
    return None if found is None else read_group(found)


def list_groups(
    tx: Transaction, name: str | None, state: GroupState | None, limit: int, before: MessageId | None
) -> list[Group]:
    found = tx.rows("list_groups", before or NEWEST, name, None if state is None else state.value, limit)
    return [read_group(row) for row in found]


def list_members(tx: Transaction, id: MessageId, state: MemberState | None, limit: int, after: int) -> list[Member]:
    found = tx.rows("list_members", id, after, None if state is None else state.value, limit)
    return [read_member(row) for row in found]


def find_member(tx: Transaction, id: MessageId) -> Member | None:
    found = tx.row("read_member", id)
    return None if found is None else read_member(found)


def list_unsent(tx: Transaction, limit: int, after: tuple[MessageId, int]) -> list[Unsent]:
    found = tx.rows("list_node_drafts", *after, limit)
    return [Unsent(group=MessageId(group), place=place, draft=draft) for group, place, draft in found]


def edit_unsent(tx: Transaction, was: Unsent, body: bytes) -> bool:
    return tx.run("edit_node_draft", with_body(was, body), was.group, was.place, was.draft) > 0


# What time makes due


def due_groups(tx: Transaction) -> list[MessageId]:
    return [id for (id,) in tx.rows("due_groups", tx.now, DUE_MAX)]


def sweep_groups(tx: Transaction) -> int:
    """Some rows of the oldest group that is kept no longer; 1 if that was all of it."""
    found = tx.row("expired_groups", tx.now)
    if found is None:
        return 0
    rows = tx.run("sweep_nodes", found[0], SWEEP_ROWS_MAX) + tx.run("sweep_drafts", found[0], SWEEP_ROWS_MAX)
    if rows < SWEEP_ROWS_MAX:
        tx.run("drop_edges", found[0])
        tx.run("drop_group", found[0])
    return 1
