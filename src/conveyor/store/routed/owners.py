"""Owners in several stores: one number in all of them, and nobody waits for a store that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from conveyor.model.errors import StoreError
from conveyor.model.ids import IdSource
from conveyor.store.records import OWNER_LEASE_MS, Evidence, OwnerInfo, OwnerRow, Reaped, Swept
from conveyor.store.routed.numbers import common_owner, is_common
from conveyor.store.routed.part import Part

T = TypeVar("T")


class _Beat:
    """How renewals go in a store."""

    def __init__(self) -> None:
        self.missed_since: int | None = None
        """The first of those that failed in a row."""
        self.sweep_from = 0


class Owners:
    """`OwnerStore` over these stores. `StoreError` only where all of them refuse."""

    def __init__(self, parts: Sequence[Part], ids: IdSource) -> None:
        self._parts = parts
        self._ids = ids
        self._known: set[tuple[Part, int]] = set()
        """Seen alive there: if they are missing now, they were reaped."""
        self._unreaped: dict[Part, list[tuple[int, Evidence]]] = {}
        self._beats = {part: _Beat() for part in parts}

    def forget(self) -> None:
        """What was begun will be seen to by those who sweep."""
        self._known.clear()
        self._unreaped.clear()

    async def register(self, info: OwnerInfo, owner: int | None) -> int:
        number = common_owner(self._ids.new()) if owner is None else owner
        await self._ask(self._parts, f"register {number}", lambda part: self._register_in(part, info, number))
        return number

    async def _register_in(self, part: Part, info: OwnerInfo, owner: int) -> None:
        await part.register_owner(info, owner=owner)
        self._known.add((part, owner))

    async def renew(self, owners: Sequence[int]) -> list[int]:
        answers = await self._ask(self._parts, "renew", lambda part: self._renew_in(part, owners))
        gone = {owner for _, missing in answers for owner in missing}
        return [owner for owner in owners if owner in gone]

    async def _renew_in(self, part: Part, owners: Sequence[int]) -> list[int]:
        """Those that were reaped there. One that could not be registered there when it began is registered now."""
        here = [owner for owner in owners if part.is_here(owner)]
        beat = self._beats[part]
        beat.missed_since = beat.missed_since or part.clock.now_ms()  # until it is known to be none
        missing = await part.renew_owners(here)
        now = part.clock.now_ms()
        if now - beat.missed_since > OWNER_LEASE_MS:
            beat.sweep_from = now + OWNER_LEASE_MS
        beat.missed_since = None
        gone = [owner for owner in missing if not await self._rejoined(part, owner)]
        self._known |= {(part, owner) for owner in here if owner not in gone}
        return gone

    async def _rejoined(self, part: Part, owner: int) -> bool:
        """Registered late: what is known of it stands in the other stores."""
        if not is_common(owner) or (part, owner) in self._known:
            return False
        others = [other for other in self._parts if other is not part]
        for _, rows in await self._ask(others, "owners", Part.list_owners):
            info = next((row.info for row in rows if row.owner == owner), None)
            if info is not None:
                await self._register_in(part, info, owner)
                return True
        return False

    async def reap(self, owner: int, evidence: Evidence) -> Reaped:
        """In each store that answers; in the others before their next sweep."""
        here = [part for part in self._parts if part.is_here(owner)]
        answers = await self._ask(here, f"reap {owner}", lambda part: part.reap_owner(owner, evidence))
        done = [part for part, _ in answers]
        for part in here:
            self._known.discard((part, owner))
            if part not in done:
                self._unreaped.setdefault(part, []).append((owner, evidence))
        return Reaped(
            released=[seq for _, each in answers for seq in each.released],
            suspects=[seq for _, each in answers for seq in each.suspects],
            failed=[seq for _, each in answers for seq in each.failed],
            dead=[seq for _, each in answers for seq in each.dead],
        )

    async def rows(self) -> list[OwnerRow]:
        """Each once, with the end of the lease that ends last."""
        by_number: dict[int, OwnerRow] = {}
        for _, found in await self._ask(self._parts, "owners", Part.list_owners):
            for row in found:
                known = by_number.get(row.owner)
                if known is None or known.lease_until < row.lease_until:
                    by_number[row.owner] = row
        return [by_number[owner] for owner in sorted(by_number)]

    async def sweep(self) -> Swept:
        answers = await self._ask(self._parts, "sweep", self._sweep_in)
        sums = {field: sum(getattr(swept, field) for _, swept in answers) for field in Swept.__struct_fields__}
        owners = max((swept.owners for _, swept in answers), default=0)  # an owner lies in each of them
        return Swept(**sums | {"owners": owners})

    async def _sweep_in(self, part: Part) -> Swept:
        waiting = self._unreaped.get(part, [])
        while waiting:
            await part.reap_owner(*waiting[0])
            waiting.pop(0)
        beat = self._beats[part]
        if beat.missed_since is not None or part.clock.now_ms() < beat.sweep_from:
            return Swept()
        return await part.sweep()

    async def _ask(
        self, parts: Sequence[Part], what: str, question: Callable[[Part], Awaitable[T]]
    ) -> list[tuple[Part, T]]:
        """The answers of those that answer; the first one's error if none does."""

        async def ask(part: Part) -> T | StoreError:
            try:
                return await part.patiently(what, lambda: question(part))
            except StoreError as error:
                return error

        answers = await asyncio.gather(*(ask(part) for part in parts))
        given = [(part, each) for part, each in zip(parts, answers, strict=True) if not isinstance(each, StoreError)]
        if not given and answers and isinstance(answers[0], StoreError):
            raise answers[0]
        return given
