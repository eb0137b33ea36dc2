"""Groups of several stores: each lies, with all its members, in one of them. Members of two stores could not be counted
in the transaction in which they end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from conveyor.model.errors import StoreUnsupportedError
from conveyor.model.group import GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.store.groups import Group, GroupDraft, GroupStore, Member, NodeDraft, Unsent
from conveyor.store.routed.asking import first_of
from conveyor.store.routing import HOME

T = TypeVar("T")


class PartGroups:
    """`GroupStore` of one part."""

    def __init__(self, inner: Callable[[], GroupStore]) -> None:
        self._inner = inner

    async def start(self, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
        return await self._inner().start(group, nodes, is_last=is_last)

    async def advance(self, id: MessageId) -> bool:
        return await self._inner().advance(id)

    async def find(self, id: MessageId) -> Group | None:
        return await self._inner().find(id)

    async def look(
        self, *, name: str | None = None, state: GroupState | None = None, limit: int, before: MessageId | None = None
    ) -> list[Group]:
        return await self._inner().look(name=name, state=state, limit=limit, before=before)

    async def members(
        self, id: MessageId, *, state: MemberState | None = None, limit: int, after: int = -1
    ) -> list[Member]:
        return await self._inner().members(id, state=state, limit=limit, after=after)

    async def find_member(self, id: MessageId) -> Member | None:
        return await self._inner().find_member(id)

    async def unsent(self, *, limit: int, after: tuple[MessageId, int] | None = None) -> list[Unsent]:
        return await self._inner().unsent(limit=limit, after=after)

    async def edit_unsent(self, was: Unsent, body: bytes) -> bool:
        return await self._inner().edit_unsent(was, body)

    async def cancel(self, id: MessageId) -> Group | None:
        return await self._inner().cancel(id)

    async def sweep(self) -> int:
        return await self._inner().sweep()


class RoutedGroups:
    """`GroupStore` of them all. What is asked by id is asked of each in turn; the error of a store that is away comes
    last, since the group may lie there."""

    def __init__(self, parts: Mapping[str, GroupStore], store_of: Callable[[str], str]) -> None:
        self._parts = parts
        self._store_of = store_of

    async def start(self, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> Group:
        """`StoreUnsupportedError` if its queues lie in more than one store."""
        queues = {node.message.queue for node in nodes} | ({group.on_complete.queue} if group.on_complete else set())
        found = {self._store_of(queue): queue for queue in queues}
        if len(found) > 1:
            where = " and ".join(f"`{queue}` in `{name}`" for name, queue in sorted(found.items()))
            raise StoreUnsupportedError(
                f"group `{group.name}` has queues in several stores: {where}", hint="route all of them to one store"
            )
        return await self._parts[next(iter(found), HOME)].start(group, nodes, is_last=is_last)

    async def advance(self, id: MessageId) -> bool:
        return bool(await self._first(lambda part: part.advance(id)))

    async def find(self, id: MessageId) -> Group | None:
        return await self._first(lambda part: part.find(id))

    async def look(
        self, *, name: str | None = None, state: GroupState | None = None, limit: int, before: MessageId | None = None
    ) -> list[Group]:
        pages = [await each.look(name=name, state=state, limit=limit, before=before) for each in self._parts.values()]
        return sorted((group for page in pages for group in page), key=lambda group: group.id, reverse=True)[:limit]

    async def members(
        self, id: MessageId, *, state: MemberState | None = None, limit: int, after: int = -1
    ) -> list[Member]:
        return await self._first(lambda part: part.members(id, state=state, limit=limit, after=after)) or []

    async def find_member(self, id: MessageId) -> Member | None:
        return await self._first(lambda part: part.find_member(id))

    async def unsent(self, *, limit: int, after: tuple[MessageId, int] | None = None) -> list[Unsent]:
        pages = [await each.unsent(limit=limit, after=after) for each in self._parts.values()]
        return sorted((each for page in pages for each in page), key=lambda each: (each.group, each.place))[:limit]

    async def edit_unsent(self, was: Unsent, body: bytes) -> bool:
        return bool(await self._first(lambda part: part.edit_unsent(was, body)))

    async def cancel(self, id: MessageId) -> Group | None:
        return await self._first(lambda part: part.cancel(id))

    async def sweep(self) -> int:
        return sum([await part.sweep() for part in self._parts.values()])

    async def _first(self, question: Callable[[GroupStore], Awaitable[T]]) -> T | None:
        return await first_of(self._parts.values(), question)
