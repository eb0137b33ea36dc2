"""Groups of a store that keeps none: nobody behind Cloudflare's API tells what became of a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from conveyor.model.errors import StoreUnsupportedError
from conveyor.model.group import GroupState, MemberState
from conveyor.model.ids import MessageId
from conveyor.store.groups import Group, GroupDraft, Member, NodeDraft, Unsent


class NoGroups:
    """`GroupStore`."""

    async def start(self, group: GroupDraft, nodes: Sequence[NodeDraft], *, is_last: bool) -> NoReturn:
        raise StoreUnsupportedError(f"group `{group.name}` has queues behind Cloudflare's API, which keeps no groups")

    async def advance(self, id: MessageId) -> bool:
        return False

    async def find(self, id: MessageId) -> Group | None:
        return None

    async def look(
        self, *, name: str | None = None, state: GroupState | None = None, limit: int, before: MessageId | None = None
    ) -> list[Group]:
        return []

    async def members(
        self, id: MessageId, *, state: MemberState | None = None, limit: int, after: int = -1
    ) -> list[Member]:
        return []

    async def find_member(self, id: MessageId) -> Member | None:
        return None

    async def unsent(self, *, limit: int, after: tuple[MessageId, int] | None = None) -> list[Unsent]:
        return []

    async def edit_unsent(self, was: Unsent, body: bytes) -> bool:
        return False

    async def cancel(self, id: MessageId) -> Group | None:
        return None

    async def sweep(self) -> int:
        return 0
