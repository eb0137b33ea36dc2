"""Groups in memory: a member counts as soon as it has ended."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from conveyor.model.beside import GroupGoneError
from conveyor.model.errors import QueueFullError
from conveyor.model.group import GROUP_MS, GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.model.job import FINAL
from conveyor.store.groups import (
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
    with_body,
)
from conveyor.store.memory.jobs import Jobs
from conveyor.store.memory.rows import GroupEntry, MemberEntry
from conveyor.store.memory.witnessed import changes

_OPEN = frozenset({MemberState.WAITING, MemberState.READY, MemberState.SENT, MemberState.ENDING})
_UNSENT = frozenset({MemberState.WAITING, MemberState.READY})


class Grouped(Jobs):
    """What ends members, and what follows from their ends."""

    @property
    def groups(self) -> MemoryGroups:
        return MemoryGroups(self)

    def _end_member(self, id: MessageId, end: MemberEnd) -> None:
        entry = self._tables.members.get(id)
        if entry is None or entry.member.state not in _OPEN:
            return
        was, group = entry.member.state, self._tables.groups[entry.member.group]
        entry.member = replace(entry.member, state=end.state, ended_at=self._now())
        entry.draft = None
        if has_ended(group.group):
            return
        counts = Counts(group.group.succeeded, group.group.failed, group.group.cancelled)
        counts.add(end.state)
        group.group = replace(
            group.group, succeeded=counts.succeeded, failed=counts.failed, cancelled=counts.cancelled,
            unsent=group.group.unsent - (was in _UNSENT),
        )  # fmt: skip
        self._follow(group, entry, end)

    def _follow(self, group: GroupEntry, ended: MemberEntry, end: MemberEnd) -> None:
        place = ended.member.place
        if fails_now(group.group):
            group.group = replace(group.group, state=GroupState.FAILING)
            self._cancel_some(group)
        elif group.group.state is GroupState.RUNNING:
            for each in [each for each in group.members if place in each.after]:
                self._free(each, place, end)
            self._send_some(group)
        self._end_if_whole(group)

    def _free(self, entry: MemberEntry, place: int, end: MemberEnd) -> None:
        """One less to wait for."""
        entry.after.discard(place)
        if entry.draft is None:
            return
        if entry.takes == place:
            queue = self._tables.queues.get(entry.member.queue)
            if queue is not None and len(end.result or b"") > queue.settings.max_message_bytes:
                self._end_member(entry.member.id, MemberEnd(MemberState.FAILED))
                return
            entry.draft = fed_with(entry.draft, end.result)
        if not entry.after:
            entry.member = replace(entry.member, state=MemberState.READY)

    def _send_some(self, group: GroupEntry) -> bool:
        ready = [each for each in group.members if each.member.state is MemberState.READY][:STEP_NODES]
        has_sent = False
        for entry in ready:
            if entry.draft is None or entry.member.queue not in self._tables.queues:
                self._end_member(entry.member.id, MemberEnd(MemberState.CANCELLED))
                continue
            try:
                self._append([decode_draft(entry.draft)])
            except QueueFullError:
                continue
            has_sent, entry.draft = True, None
            entry.member = replace(entry.member, state=MemberState.SENT)
            group.group = replace(group.group, unsent=group.group.unsent - 1)
        return has_sent and len(ready) == STEP_NODES

    def _cancel_some(self, group: GroupEntry, *, takes_out: bool = True) -> bool:
        for entry in [each for each in group.members if each.member.state in _UNSENT]:
            self._end_member(entry.member.id, MemberEnd(MemberState.CANCELLED))
        if not takes_out:
            return False
        sent = [each for each in group.members if each.member.state is MemberState.SENT][:STEP_NODES]
        for entry in sent:
            if entry.member.state is MemberState.SENT and not self._take_out(entry.member.id):
                entry.member = replace(entry.member, state=MemberState.ENDING)
        return len(sent) == STEP_NODES

    def _take_out(self, id: MessageId) -> bool:
        """False: it runs."""
        message = next((each for each in self._tables.messages.values() if each.id == id), None)
        if message is None or message.dead is not None:
            self._end_member(id, MemberEnd(MemberState.CANCELLED))
            return True
        if self._find_job(id) is not None:
            found = self._cancel_job(id)
            return found is None or found.state(self._now()) in FINAL
        if not message.leased:
            self._remove(message)
        return not message.leased

    def _end_if_whole(self, entry: GroupEntry) -> None:
        group = entry.group
        if group.is_whole and group.deadline_at is not None and not has_ended(group):
            self._end_group(entry, final_state(group, self._now()))

    def _end_group(self, entry: GroupEntry, state: GroupState) -> None:
        now = self._now()
        entry.group = replace(entry.group, state=state, ended_at=now)
        entry.expires_at = now + GROUP_MS
        if entry.on_complete is not None:
            draft = last_message(entry.group, entry.on_complete)
            self._ensure_queue(draft.queue)
            self._send(draft)  # past the backlog check: it is owed
            self._wake(draft.queue)

    def _advance(self, id: MessageId) -> bool:
        entry, now = self._tables.groups.get(id), self._now()
        if entry is None or has_ended(entry.group) or entry.group.state is GroupState.STARTING:
            return False
        if not entry.group.is_to_end(now):
            has_more = self._send_some(entry)
            self._end_if_whole(entry)
            return has_more
        is_left_alone = entry.group.state is GroupState.RUNNING and entry.group.on_failure == "continue"
        has_more = self._cancel_some(entry, takes_out=not is_left_alone)
        self._end_if_whole(entry)
        if not has_ended(entry.group) and entry.group.is_overdue(now) and not has_more:
            self._end_group(entry, GroupState.EXPIRED)
        return has_more

    def _start_group(self, draft: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
        for message in [*(node.message for node in nodes), *([draft.on_complete] if draft.on_complete else [])]:
            self._queue(message.queue)
        tables, now = self._tables, self._now()
        entry = tables.groups.get(draft.id)
        if entry is None:
            if nodes and nodes[0].place > 0:
                raise GroupGoneError(draft.id.hex())
            on_complete = None if draft.on_complete is None else encode_draft(draft.on_complete)
            entry = GroupEntry(group=_new_group(draft, now), on_complete=on_complete, expires_at=now + START_MS)
            tables.groups[draft.id] = entry
        elif entry.group.state is not GroupState.STARTING:
            raise GroupGoneError(draft.id.hex())
        for node in nodes:
            member = MemberEntry(
                member=Member(
                    id=node.message.id, group=draft.id, place=node.place, queue=node.message.queue, job=node.job,
                    state=MemberState.WAITING if node.after else MemberState.READY, ended_at=None,
                ),
                after=set(node.after), takes=node.takes, draft=encode_draft(node.message),
            )  # fmt: skip
            entry.members.append(member)
            tables.members[node.message.id] = member
        count = len(entry.members)
        has_edges = entry.group.has_edges or any(node.after for node in nodes)
        entry.group = replace(entry.group, total=count, unsent=count, has_edges=has_edges)
        if is_last:
            deadline_at = now + draft.deadline_ms
            entry.group = replace(entry.group, state=GroupState.RUNNING, deadline_at=deadline_at)
            entry.expires_at = None
            self._advance(draft.id)
        return entry.group

    @changes("group", lambda group_id: group_id.hex())
    async def _cancel_group(self, id: MessageId) -> Group | None:
        entry = self._tables.groups.get(id)
        if entry is not None and entry.group.state in (GroupState.RUNNING, GroupState.FAILING):
            entry.group = replace(entry.group, state=GroupState.CANCELLING)
        return None if entry is None else entry.group

    def _list_unsent(self) -> list[Unsent]:
        groups = self._tables.groups
        return [
            Unsent(group=id, place=each.member.place, draft=each.draft)
            for id in sorted(groups)
            for each in groups[id].members
            if each.draft is not None
        ]

    @changes("group", lambda was, _body: was.group.hex())
    async def _edit_unsent(self, was: Unsent, body: bytes) -> bool:
        entry = self._tables.groups.get(was.group)
        found = None if entry is None else next((e for e in entry.members if e.member.place == was.place), None)
        if found is None or found.draft != was.draft:
            return False
        found.draft = with_body(was, body)
        return True

    def _sweep_groups(self) -> int:
        now, tables = self._now(), self._tables
        due = [
            id
            for id, entry in tables.groups.items()
            if entry.group.deadline_at is not None
            and not has_ended(entry.group)
            and (entry.group.is_to_end(now) or any(each.member.state is MemberState.READY for each in entry.members))
        ]
        for id in due:
            self._advance(id)
        old = [id for id, entry in tables.groups.items() if entry.expires_at is not None and entry.expires_at <= now]
        for id in old[:1]:
            for each in tables.groups.pop(id).members:
                del tables.members[each.member.id]
        return len(due) + len(old[:1])


def _new_group(draft: GroupDraft, now: int) -> Group:
    return Group(
        id=draft.id, name=draft.name, state=GroupState.STARTING, on_failure=draft.on_failure, has_edges=False, total=0,
        unsent=0, succeeded=0, failed=0, cancelled=0, created_at=now, deadline_ms=draft.deadline_ms, deadline_at=None,
        ended_at=None,
    )  # fmt: skip


class MemoryGroups:
    """`GroupStore`."""

    def __init__(self, store: Grouped) -> None:
        self._store = store

    async def start(self, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
        return self._store._start_group(group, nodes, is_last=is_last)

    async def advance(self, id: MessageId) -> bool:
        return self._store._advance(id)

    async def find(self, id: MessageId) -> Group | None:
        entry = self._store._tables.groups.get(id)
        return None if entry is None else entry.group

    async def look(
        self, *, name: str | None = None, state: GroupState | None = None, limit: int, before: MessageId | None = None
    ) -> list[Group]:
        groups = self._store._tables.groups
        found = [groups[id].group for id in sorted(groups, reverse=True) if before is None or id < before]
        return [each for each in found if name in (None, each.name) and state in (None, each.state)][:limit]

    async def members(
        self, id: MessageId, *, state: MemberState | None = None, limit: int, after: int = -1
    ) -> list[Member]:
        entry = self._store._tables.groups.get(id)
        found = [] if entry is None else [each.member for each in entry.members]
        return [each for each in found if each.place > after and state in (None, each.state)][:limit]

    async def find_member(self, id: MessageId) -> Member | None:
        entry = self._store._tables.members.get(id)
        return None if entry is None else entry.member

    async def unsent(self, *, limit: int, after: tuple[MessageId, int] | None = None) -> list[Unsent]:
        found = self._store._list_unsent()
        return [each for each in found if after is None or (each.group, each.place) > after][:limit]

    async def edit_unsent(self, was: Unsent, body: bytes) -> bool:
        return await self._store._edit_unsent(was, body)

    async def cancel(self, id: MessageId) -> Group | None:
        return await self._store._cancel_group(id)

    async def sweep(self) -> int:
        return self._store._sweep_groups()
