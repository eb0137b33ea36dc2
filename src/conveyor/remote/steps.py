"""Steps of jobs in a store that keeps none."""

from __future__ import annotations

from conveyor.model.errors import StoreUnsupportedError
from conveyor.model.ids import MessageId
from conveyor.model.step import JobEvent, StepRecord
from conveyor.remote.absent import unsupported
from conveyor.store.steps import Holder, Kept, Told


class NoSteps:
    """`StepStore`."""

    async def read(self, id: MessageId) -> Kept:
        raise _no_steps()

    async def write(self, holder: Holder, step: StepRecord, *, is_first: bool) -> JobEvent | None:
        raise _no_steps()

    async def send(self, id: MessageId, name: str, payload: bytes) -> Told:
        return Told(job=None)


def _no_steps() -> StoreUnsupportedError:
    return unsupported("keeps no steps of jobs", "let the job's queue live in a store of your own")
