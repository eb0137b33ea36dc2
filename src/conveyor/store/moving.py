"""`conveyor move`: everything in one store goes to another, all or nothing, and the old one is closed behind it.

1. The source is held: nobody writes there, and a kill lets go of it.
2. The target is filled in one transaction, read back, compared, and committed under a note, *arriving*: nobody may open
   it yet.
3. The source is closed under a note, *moved*, that says where everything is. From this commit on the target is the
   store.
4. The target's note is taken away.

A kill before 2 has committed leaves an empty target; before 3, the source as it was, and a target that the next move
begins anew; before 4, two closed stores, and the next move only does 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from conveyor.model.clock import Clock
from conveyor.model.errors import ConflictError, StoreInUseError
from conveyor.store.carrying import Progress, Tally, carry
from conveyor.store.keeping import Identity, Portable
from conveyor.store.note import Note, Passage

_POLL_S: Final = 0.25


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What a move came to."""

    source: str
    target: str
    tables: Mapping[str, Tally]
    """Empty: only the last step of an earlier move was left to do."""
    seconds: float


async def move(
    source: Portable, target: Portable, *, clock: Clock, wait_s: float, keeps_source: bool, progress: Progress
) -> Moved:
    """A `StoreError` or `ConflictError` has left the source as it was, unless it was moved before."""
    began = clock.monotonic()
    tables: Mapping[str, Tally] = {}
    here, there = await source.identify(), await target.identify()
    if not _is_nearly_done(here, there):
        _check_ends(here, there, source, target)
        tables = await _carry_when_idle(source, target, here, began + wait_s, clock, progress, keeps=keeps_source)
    if not keeps_source:
        await target.reopen()
    seconds = clock.monotonic() - began
    return Moved(source=source.where, target=target.where, tables=tables, seconds=seconds)


def _is_nearly_done(here: Identity, there: Identity) -> bool:
    return (
        here.note is not None
        and here.note.passage is Passage.MOVED
        and there.note is not None
        and (there.note.passage, there.note.peer) == (Passage.ARRIVING, here.id)
    )


def _check_ends(here: Identity, there: Identity, source: Portable, target: Portable) -> None:
    if here.note is not None:
        raise here.note.refusal()
    if here.id is not None and here.id == there.id:
        problem = f"`{target.where}` is `{source.where}` itself, or a copy of it"
        raise ConflictError(problem, hint="move into a store of its own")


async def _carry_when_idle(
    source: Portable, target: Portable, here: Identity, until: float, clock: Clock, progress: Progress, *, keeps: bool
) -> Mapping[str, Tally]:
    while True:
        try:
            return await _carry(source, target, here, progress, keeps=keeps)
        except StoreInUseError:
            if clock.monotonic() >= until:
                raise
            await clock.sleep(_POLL_S)


async def _carry(
    source: Portable, target: Portable, here: Identity, progress: Progress, *, keeps: bool
) -> Mapping[str, Tally]:
    async with source.hold() as outgoing:
        async with target.fill(resumes=here.id) as incoming:
            tables = await carry(outgoing, incoming, target.where, progress)
            arriving = Note(passage=Passage.ARRIVING, where=source.address, peer=here.id or "")
            await incoming.commit(None if keeps else arriving)
        if not keeps:
            await outgoing.seal(Note(passage=Passage.MOVED, where=target.address))
    return tables
