"""`StepStore` of one SQLite file."""

from __future__ import annotations

from collections.abc import Callable

from conveyor.model.ids import MessageId
from conveyor.model.step import JobEvent, StepRecord
from conveyor.store.sqlite import steps
from conveyor.store.sqlite.job_store import Change
from conveyor.store.sqlite.writer import Durability, Writer
from conveyor.store.steps import Holder, Kept, Told


class SQLiteSteps:
    """Hands each operation to the writer that is there now."""

    def __init__(self, live: Callable[[], Writer], change: Change) -> None:
        self._live = live
        self._change = change

    async def read(self, id: MessageId) -> Kept:
        return await self._live().submit(lambda tx: steps.read_kept(tx, id), Durability.RELAXED)

    async def write(self, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
        return await self._live().submit(lambda tx: steps.write_step(tx, holder, step, is_first=is_first))

    async def send(self, id: MessageId, name: str, payload: bytes) -> Told:
        return await self._change("event", f"{id.hex()}/{name}", lambda tx: steps.send_event(tx, id, name, payload))
