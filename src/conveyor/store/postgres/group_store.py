"""`GroupStore` of one schema."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.model.group import GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.store.groups import FIRST_UNSENT, Group, GroupDraft, Member, NodeDraft, Unsent
from conveyor.store.postgres import groups
from conveyor.store.postgres.job_store import Change, Run
from conveyor.store.postgres.link import Durability

_RELAXED = Durability.RELAXED


class PostgresGroups:
    """Runs each operation in a transaction of its own."""

    def __init__(self, run: Run, change: Change) -> None:
        self._run = run
        self._change = change

    async def start(self, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
        return await self._run(lambda tx: groups.start_group(tx, group, nodes, is_last=is_last))

    async def advance(self, id: MessageId) -> bool:
        return await self._run(lambda tx: groups.advance(tx, id))

    async def find(self, id: MessageId) -> Group | None:
        return await self._run(lambda tx: groups.find_group(tx, id), _RELAXED)

    async def look(
        self, *, name: str | None = None, state: GroupState | None = None, limit: int, before: MessageId | None = None
    ) -> list[Group]:
        return await self._run(lambda tx: groups.list_groups(tx, name, state, limit, before), _RELAXED)

    async def members(
        self, id: MessageId, *, state: MemberState | None = None, limit: int, after: int = -1
    ) -> list[Member]:
        return await self._run(lambda tx: groups.list_members(tx, id, state, limit, after), _RELAXED)

    async def find_member(self, id: MessageId) -> Member | None:
        return await self._run(lambda tx: groups.find_member(tx, id), _RELAXED)

    async def unsent(self, *, limit: int, after: tuple[MessageId, int] | None = None) -> list[Unsent]:
        return await self._run(lambda tx: groups.list_unsent(tx, limit, after or FIRST_UNSENT), _RELAXED)

    async def edit_unsent(self, was: Unsent, body: bytes) -> bool:
        return await self._change("group", was.group.hex(), lambda tx: groups.edit_unsent(tx, was, body))

    async def cancel(self, id: MessageId) -> Group | None:
        return await self._change("group", id.hex(), lambda tx: groups.cancel_group(tx, id))

    async def sweep(self) -> int:
        due = await self._run(groups.due_groups, _RELAXED)
        for id in due:
            await self.advance(id)
        forgotten = await self._run(groups.sweep_groups, _RELAXED)
        return len(due) + forgotten
