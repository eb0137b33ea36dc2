"""What is kept, durably, of each attempt to send: that it began, with whom, and how it ended.

An attempt that began and never ended is the dangerous one: its provider may have the message. Whoever comes next finds
its mark.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from conveyor_apps.tables import Database, Transaction

from .parcel import Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The last attempt to send what has this key."""

    key: str
    provider: str
    turn: int
    """Which attempt it is, from 1."""
    began_at: int
    """Milliseconds since the epoch."""
    reference: str | None = None
    """The provider's own id, once it has it."""
    is_open: bool = True
    """Nobody knows how it ended."""

    def taken(self) -> Taken | None:
        """What the provider said, if it has it."""
        return None if self.reference is None else Taken(provider=self.provider, reference=self.reference)


class Marks(Protocol):
    """Where they are kept."""

    async def find(self, key: str) -> Mark | None:
        """The last one of this key."""
        ...

    async def begin(self, key: str, provider: str, after: Mark | None) -> Mark | None:
        """A new attempt begins, and this is safely written when it returns; None if `after` is not the last one any
        more, since somebody else has begun meanwhile."""
        ...

    async def end(self, mark: Mark, taken: Taken | None) -> None:
        """It has ended: taken, or certainly not."""
        ...

    async def is_known(self, taken: Taken) -> bool:
        """Whether this is what a provider said to some message."""
        ...

    async def forget(self, before_ms: int) -> int:
        """Throw away those that began before then. How many."""
        ...


class MemoryMarks:
    """For one process that never dies: tests, trials."""

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}

    async def find(self, key: str) -> Mark | None:
        return self._marks.get(key)

    async def begin(self, key: str, provider: str, after: Mark | None) -> Mark | None:
        if self._marks.get(key) != after:
            return None
        self._marks[key] = Mark(key=key, provider=provider, turn=after.turn + 1 if after else 1, began_at=0)
        return self._marks[key]

    async def end(self, mark: Mark, taken: Taken | None) -> None:
        if self._marks.get(mark.key) == mark:
            self._marks[mark.key] = replace(mark, reference=None if taken is None else taken.reference, is_open=False)

    async def is_known(self, taken: Taken) -> bool:
        return any(each.taken() == taken for each in self._marks.values())

    async def forget(self, before_ms: int) -> int:
        old = [key for key, mark in self._marks.items() if mark.began_at < before_ms]
        for key in old:
            del self._marks[key]
        return len(old)


class TableMarks:
    """In concierge's own tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: str) -> Mark | None:
        return await self._database.read(lambda tx: _find(tx, key))

    async def begin(self, key: str, provider: str, after: Mark | None) -> Mark | None:
        def work(tx: Transaction) -> Mark | None:
            if _find(tx, key) != after:
                return None
            turn = after.turn + 1 if after else 1
            tx.change("begin_sending", key=key, provider=provider, turn=turn)
            return _find(tx, key)

        return await self._database.write(work)

    async def end(self, mark: Mark, taken: Taken | None) -> None:
        reference = None if taken is None else taken.reference
        await self._database.write(
            lambda tx: tx.change("end_sending", key=mark.key, turn=mark.turn, reference=reference)
        )

    async def is_known(self, taken: Taken) -> bool:
        provider, reference = taken.provider, taken.reference
        return await self._database.read(
            lambda tx: bool(tx.rows("known_sending", provider=provider, reference=reference))
        )

    async def forget(self, before_ms: int) -> int:
        return await self._database.write(lambda tx: tx.change("forget_sendings", before=before_ms))


def _find(tx: Transaction, key: str) -> Mark | None:
    rows = tx.rows("find_sending", key=key)
    if not rows:
        return None
    provider, turn, began_at, reference, is_open = rows[0]
    return Mark(key=key, provider=provider, turn=turn, began_at=began_at, reference=reference, is_open=bool(is_open))
