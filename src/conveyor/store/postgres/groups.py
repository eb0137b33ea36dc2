"""Groups: started, counted in the commit in which their members end, and brought to an end."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.beside import GroupGoneError
from conveyor.model.errors import QueueFullError
from conveyor.model.group import GROUP_MS, GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.model.message import Draft, Peeked
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
    ended_states,
    fails_now,
    fed_with,
    final_state,
    has_ended,
    last_message,
    read_group,
    read_member,
    with_body,
)
from conveyor.store.jobs import NEWEST, job_name
from conveyor.store.postgres import catalog, jobs
from conveyor.store.postgres.append import Depths, append, append_one
from conveyor.store.postgres.settle import take_out_ready
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.records import SWEEP_ROWS_MAX

_Ended = list[tuple[int, MemberEnd]]
"""Members of one group, by place."""


# Starting


async def start_group(tx: Transaction, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
    for queue in {node.message.queue for node in nodes} | ({group.on_complete.queue} if group.on_complete else set()):
        tx.catalog.get(queue)
    present = await find_group(tx, group.id)
    if present is not None and present.state is not GroupState.STARTING:
        raise GroupGoneError(group.id.hex())
    if present is None and nodes and nodes[0].place > 0:
        raise GroupGoneError(group.id.hex())
    roots = [node.message for node in nodes if not node.after]
    are_sent = present is None and is_last and await _try_send(tx, roots)
    if present is None:
        on_complete = None if group.on_complete is None else encode_draft(group.on_complete)
        facts = (group.id, group.name, group.on_failure, tx.now, group.deadline_ms, tx.now + START_MS, on_complete)
        await tx.run("insert_group", *facts)
    await _insert_nodes(tx, group.id, nodes, are_sent=are_sent)
    unsent = len(nodes) - (len(roots) if are_sent else 0)
    await tx.run("add_to_group", len(nodes), unsent, any(node.after for node in nodes), group.id)
    if is_last:
        await tx.run("launch_group", tx.now, group.id)
        await advance(tx, group.id)
    started = await find_group(tx, group.id)
    assert started is not None, "it was written in this transaction"
    return started


async def _insert_nodes(tx: Transaction, group: MessageId, nodes: Sequence[NodeDraft], *, are_sent: bool) -> None:
    root = MemberState.SENT if are_sent else MemberState.READY
    rows = [
        (
            *(node.message.id, group, node.place, node.message.queue, node.job),
            *((MemberState.WAITING if node.after else root).value, len(node.after), node.takes),
        )
        for node in nodes
    ]
    if rows:
        await tx.run("insert_nodes", *zip(*rows, strict=True))
    edges = [(group, parent, node.place) for node in nodes for parent in node.after]
    if edges:
        await tx.run_many("insert_edge", edges)
    unsent = [(group, node.place, encode_draft(node.message)) for node in nodes if node.after or not are_sent]
    if unsent:
        await tx.run_many("insert_node_draft", unsent)


async def _try_send(tx: Transaction, drafts: Sequence[Draft]) -> bool:
    """All of them, or none: a queue is full."""
    try:
        await append(tx, drafts, Depths())
    except QueueFullError:
        return False
    return True


# Counting


async def count_members(tx: Transaction) -> None:
    """Those that ended in this transaction; the last of a group ends it. What follows from that may end others.

    Last of all: whoever waits for a group's lock holds messages, and whoever has it wants no message that another who
    waits may hold, but for ready ones (see `_cancel_some`).
    """
    is_first = True
    while tx.members:
        ended, tx.members = tx.members, {}
        groups = [id for (id,) in await tx.rows("groups_of", list(ended))]
        if not groups:
            continue
        await tx.rows("lock_groups", groups)
        by_group: dict[MessageId, _Ended] = {}
        for state, ids in ended_states(ended).items():
            for group, place, id in await tx.rows("end_nodes", state.value, tx.now, ids):
                by_group.setdefault(group, []).append((place, ended[id]))
        for group in sorted(by_group):
            await _count(tx, group, by_group[group], takes_out=is_first)
        is_first = False


async def _count(tx: Transaction, id: MessageId, ended: _Ended, *, takes_out: bool) -> None:
    group = await _add(tx, id, [end.state for _, end in ended])
    if group is None:  # it was over before they were
        return
    if fails_now(group):
        group = await _set_state(tx, group, GroupState.FAILING)
    if group.state in (GroupState.FAILING, GroupState.CANCELLING):
        await _drop_unsent(tx, group)
        if takes_out:
            await _take_out_some(tx, group, tells=False)
    elif group.state is GroupState.RUNNING and group.unsent:
        for place, end in ended:
            await _free_children(tx, group, place, end)
        await _send_some(tx, group)
    await _end_if_whole(tx, id)


async def _add(tx: Transaction, id: MessageId, states: Sequence[MemberState], *, unsent: int = 0) -> Group | None:
    counts = Counts()
    for state in states:
        counts.add(state)
    found = await tx.row("count_members", counts.succeeded, counts.failed, counts.cancelled, unsent, id)
    return None if found is None else read_group(found)


async def _free_children(tx: Transaction, group: Group, place: int, end: MemberEnd) -> None:
    if not group.has_edges:
        return
    for id, child, queue, takes in await tx.rows("free_children", group.id, place):
        if takes != place:
            continue
        row = tx.catalog.find(queue)
        if row is not None and len(end.result or b"") > row.settings.max_message_bytes:
            await _never_send(tx, group, id, child, MemberState.FAILED)
            continue
        found = await tx.row("read_node_draft", group.id, child)
        if found is not None:
            await tx.run("write_node_draft", fed_with(found[0], end.result), group.id, child)


async def _never_send(tx: Transaction, group: Group, id: MessageId, place: int, state: MemberState) -> None:
    """A member that cannot be sent ends as one that was: it is counted before the commit."""
    await tx.run("mark_nodes", MemberState.SENT.value, [id])
    await tx.run("drop_node_drafts", group.id, [place])
    await _add(tx, group.id, (), unsent=1)
    tx.members[id] = MemberEnd(state)


async def _send_some(tx: Transaction, group: Group, limit: int = STEP_NODES) -> bool:
    """Members that wait for nobody; whether there may be more that can be sent now."""
    found = await tx.rows("ready_nodes", group.id, limit)
    here = [row for row in found if tx.catalog.find(row[2]) is not None]
    for id, place, queue, _draft in found:
        if tx.catalog.find(queue) is None:
            await _never_send(tx, group, id, place, MemberState.CANCELLED)
    count = len(here)
    while count and not await _try_send(tx, [decode_draft(row[3]) for row in here[:count]]):
        count //= 2  # its queue is nearly full
    if count:
        await tx.run("mark_nodes", MemberState.SENT.value, [row[0] for row in here[:count]])
        await tx.run("drop_node_drafts", group.id, [row[1] for row in here[:count]])
        await _add(tx, group.id, (), unsent=count)
    return len(found) == limit and count > 0


async def _set_state(tx: Transaction, group: Group, state: GroupState) -> Group:
    found = await tx.row("set_group_state", state.value, group.id)
    assert found is not None, "it was read in this transaction"
    return read_group(found)


async def _end_if_whole(tx: Transaction, id: MessageId) -> None:
    group = await find_group(tx, id)
    if group is not None and group.is_whole and group.deadline_at is not None and not has_ended(group):
        await _end(tx, group, final_state(group, tx.now))


async def _end(tx: Transaction, group: Group, state: GroupState) -> None:
    found = await tx.row("end_group", state.value, tx.now, tx.now + GROUP_MS, group.id)
    if found is None:
        return
    *columns, on_complete = found
    if on_complete is not None:
        draft = last_message(read_group(columns), on_complete)
        await append_one(tx, await catalog.ensure(tx, draft.queue), draft)  # past the backlog check: it is owed


# Going on, or to its end


async def advance(tx: Transaction, id: MessageId) -> bool:
    """One step; whether there is more to do at once."""
    await count_members(tx)
    group = await find_group(tx, id)
    if group is None or has_ended(group) or group.state is GroupState.STARTING:
        return False
    if not group.is_to_end(tx.now):
        await tx.rows("lock_groups", [id])
        group = await find_group(tx, id)
        assert group is not None, "only those that have ended are forgotten"
        is_to_go_on = group.state is GroupState.RUNNING and group.unsent > 0
        has_more = await _send_some(tx, group, PAGE_NODES) if is_to_go_on else False
        await count_members(tx)
        await _end_if_whole(tx, id)
        return has_more
    is_left_alone = group.state is GroupState.RUNNING and group.on_failure == "continue"
    has_more = False if is_left_alone else await _take_out_some(tx, group, tells=True)
    await tx.rows("lock_groups", [id])
    group = await find_group(tx, id)
    assert group is not None, "only those that have ended are forgotten"
    await _drop_unsent(tx, group)
    await count_members(tx)
    await _end_if_whole(tx, id)
    if group.is_overdue(tx.now) and not has_more:
        await _end(tx, group, GroupState.EXPIRED)
    return has_more


async def _drop_unsent(tx: Transaction, group: Group) -> None:
    """What was not sent never is. The group is locked."""
    if not group.unsent or has_ended(group):
        return
    dropped = await tx.run("drop_unsent", tx.now, group.id)
    await tx.run("drop_drafts", group.id)
    await _add(tx, group.id, [MemberState.CANCELLED] * dropped, unsent=dropped)


async def _take_out_some(tx: Transaction, group: Group, *, tells: bool) -> bool:
    """Of what was sent, some that waits is taken out; whether there may be more.

    With `tells`, what runs is told to end. That takes its lease, which a worker may hold who waits for the group's
    lock: so whoever has that lock leaves it to the next step.
    """
    sent = [id for (id,) in await tx.rows("sent_nodes", group.id, STEP_NODES)]
    await tx.flush()
    messages = await jobs.find_messages(tx, sent)
    ending: list[MessageId] = []
    for id in sent:
        message = messages.get(id)
        if message is None or message.dead is not None:  # purged, or lost
            tx.members[id] = MemberEnd(MemberState.CANCELLED)
        elif message.leased and not tells:
            continue
        elif not await _take_out(tx, message):
            ending.append(id)
    if tells and ending:
        await tx.rows("lock_groups", [group.id])
        await tx.run("mark_nodes", MemberState.ENDING.value, ending)
    return tells and len(sent) == STEP_NODES


async def _take_out(tx: Transaction, message: Peeked) -> bool:
    """False: it runs, and ends by itself, or as soon as it hears of it."""
    if job_name(message.headers) is not None:
        found = await jobs.cancel_job(tx, message.id, take_out_ready)
        return found is None or found.message is None
    row = tx.catalog.get(message.queue)
    tx.wake(row)
    return not message.leased and await take_out_ready(tx, row, message)


async def cancel_group(tx: Transaction, id: MessageId) -> Group | None:
    await count_members(tx)
    group = await find_group(tx, id)
    if group is not None and group.state in (GroupState.RUNNING, GroupState.FAILING):
        group = await _set_state(tx, group, GroupState.CANCELLING)
    return group


# Looking


async def find_group(tx: Transaction, id: MessageId) -> Group | None:
    found = await tx.row("read_group", id)
    return None if found is None else read_group(found)


async def list_groups(
    tx: Transaction, name: str | None, state: GroupState | None, limit: int, before: MessageId | None
) -> list[Group]:
    found = await tx.rows("list_groups", before or NEWEST, name, None if state is None else state.value, limit)
    return [read_group(row) for row in found]


async def list_members(
    tx: Transaction, id: MessageId, state: MemberState | None, limit: int, after: int
) -> list[Member]:
    found = await tx.rows("list_members", id, after, None if state is None else state.value, limit)
    return [read_member(row) for row in found]


async def find_member(tx: Transaction, id: MessageId) -> Member | None:
    found = await tx.row("read_member", id)
    return None if found is None else read_member(found)


async def list_unsent(tx: Transaction, limit: int, after: tuple[MessageId, int]) -> list[Unsent]:
    found = await tx.rows("list_node_drafts", *after, limit)
    return [Unsent(group=MessageId(group), place=place, draft=draft) for group, place, draft in found]


async def edit_unsent(tx: Transaction, was: Unsent, body: bytes) -> bool:
    await tx.rows("lock_groups", [was.group])  # whoever sends it holds this, from reading it to its COMMIT
    return await tx.run("edit_node_draft", with_body(was, body), was.group, was.place, was.draft) > 0


# What time makes due


async def due_groups(tx: Transaction) -> list[MessageId]:
    return [id for (id,) in await tx.rows("due_groups", tx.now, DUE_MAX)]


async def sweep_groups(tx: Transaction) -> int:
    """Some rows of the oldest group that is kept no longer; 1 if that was all of it."""
    found = await tx.row("expired_groups", tx.now)
    if found is None:
        return 0
    rows = await tx.run("sweep_nodes", found[0], SWEEP_ROWS_MAX) + await tx.run(
        "sweep_drafts", found[0], SWEEP_ROWS_MAX
    )
    if rows < SWEEP_ROWS_MAX:
        await tx.run("drop_edges", found[0])
        await tx.run("drop_group", found[0])
    return 1
