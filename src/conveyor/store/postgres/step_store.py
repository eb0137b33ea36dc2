"""`StepStore` of one schema."""

from __future__ import annotations

from conveyor.model.ids import MessageId
from conveyor.model.step import JobEvent, StepRecord
from conveyor.store.postgres import outbox, steps
from conveyor.store.postgres.job_store import Change, Run
from conveyor.store.postgres.link import Durability
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.steps import Holder, Kept, Told


class PostgresSteps:
    """Runs each operation in a transaction of its own."""

    def __init__(self, run: Run, change: Change) -> None:
        self._run = run
        self._change = change

    async def read(self, id: MessageId) -> Kept:
        return await self._run(lambda tx: steps.read_kept(tx, id), Durability.RELAXED)

    async def write(self, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
        return await self._run(lambda tx: steps.write_step(tx, holder, step, is_first=is_first))

    async def send(self, id: MessageId, name: str, payload: bytes) -> Told:
        return await self._change("event", f"{id.hex()}/{name}", lambda tx: _send(tx, id, name, payload))


async def _send(tx: Transaction, id: MessageId, name: str, payload: bytes) -> Told:
    """What users' own transactions have sent is carried to its queue, if it is asked for."""
    told = await steps.send_event(tx, id, name, payload)
    if told.job is None:
        await outbox.carry_all(tx)
        told = await steps.send_event(tx, id, name, payload)
    return told
