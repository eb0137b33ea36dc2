"""One open generation: everything wired, in one process, from opening to closing."""

from dataclasses import dataclass

from conveyor_apps.tables import Database

from .desk import Desk
from .ledger import Ledger
from .logbook import Logbook
from .settings import Settings
from .status import Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the job, the schedule and the endpoints work with."""

    settings: Settings
    database: Database
    ledger: Ledger
    statistics: Statistics
    desk: Desk
    log: Logbook

    async def close(self) -> None:
        """Close what was opened."""
        await self.database.close()
