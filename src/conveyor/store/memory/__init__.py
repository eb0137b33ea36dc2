"""The model store: plain dicts and linear scans, plainly right. For tests, and to judge the others by."""

from __future__ import annotations

from typing import NoReturn

from conveyor.model.clock import Clock
from conveyor.model.errors import InvalidTransactionError
from conveyor.store.memory.alarms import Alarms
from conveyor.store.memory.deliveries import Deliveries
from conveyor.store.memory.documents import Documents
from conveyor.store.memory.groups import Grouped
from conveyor.store.memory.key_values import KeyValues
from conveyor.store.memory.owners import Owners
from conveyor.store.memory.queues import Queues
from conveyor.store.memory.reports import MemoryNotices, MemoryReports
from conveyor.store.memory.schedules import Schedules
from conveyor.store.memory.steps import Steps
from conveyor.store.undivided import Undivided


class MemoryStore(
    Grouped, Schedules, Alarms, Deliveries, Queues, Owners, KeyValues, Documents, Steps, Undivided
):
    """A `Store` that lives as long as its object; no method waits, so each is one transaction."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.reports = MemoryReports(lambda: self._tables, self.beat, self._wake)
        self.notices = MemoryNotices(lambda: self._tables)

    @property
    def host(self) -> str:
        """One process is all there is."""
        return "memory"

    def join(self, tx: object) -> NoReturn:
        """There is no database to share a transaction with."""
        raise InvalidTransactionError(
            tx,
            "the store in memory has no transactions",
            hint='test this on a file: `Conveyor(..., url="sqlite:///...")`',
        )

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False
        self._wakes.clear()
