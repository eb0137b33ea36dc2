"""`GroupStore` of one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conveyor.model.group import GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.store.groups import FIRST_UNSENT, Group, GroupDraft, Member, NodeDraft, Unsent
from conveyor.store.sqlite import groups
from conveyor.store.sqlite.job_store import Change
from conveyor.store.sqlite.writer import Durability, Writer

_RELAXED = Durability.RELAXED


class SQLiteGroups:
    """Hands each operation to the writer that is there now."""

    def __init__(self, live: Callable[[], Writer], change: Change) -> None:
        self._live = live
        self._change = change

    async def start(self, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
        return await self._live().submit(lambda tx: groups.start_group(tx, group, nodes, is_last=is_last))

    async def advance(self, id: MessageId) -> bool:
        return await self._live().submit(lambda tx: groups.advance(tx, id))

    async def find(self, id: MessageId) -> Group | None:
        return await self._live().submit(lambda tx: groups.find_group(tx, id), _RELAXED)

    async def look(
        self, *, name: str | None = None, state: GroupState | None = None, limit: int, before: MessageId | None = None
    ) -> list[Group]:
        return await self._live().submit(lambda tx: groups.list_groups(tx, name, state, limit, before), _RELAXED)

    async def members(
        self, id: MessageId, *, state: MemberState | None = None, limit: int, after: int = -1
    ) -> list[Member]:
        return await self._live().submit(lambda tx: groups.list_members(tx, id, state, limit, after), _RELAXED)

    async def find_member(self, id: MessageId) -> Member | None:
        return await self._live().submit(lambda tx: groups.find_member(tx, id), _RELAXED)

    async def unsent(self, *, limit: int, after: tuple[MessageId, int] | None = None) -> list[Unsent]:
        return await self._live().submit(lambda tx: groups.list_unsent(tx, limit, after or FIRST_UNSENT), _RELAXED)

    async def edit_unsent(self, was: Unsent, body: bytes) -> bool:
        return await self._change("group", was.group.hex(), lambda tx: groups.edit_unsent(tx, was, body))

    async def cancel(self, id: MessageId) -> Group | None:
        return await self._change("group", id.hex(), lambda tx: groups.cancel_group(tx, id))

    async def sweep(self) -> int:
        due = await self._live().submit(groups.due_groups, _RELAXED)
        for id in due:
            await self.advance(id)
        forgotten = await self._live().submit(groups.sweep_groups, _RELAXED)
        return len(due) + forgotten
