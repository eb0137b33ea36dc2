"""The lines a run writes: to the process's log and to plotburn's own table, where `/logs` and `/debug` read them."""

import logging
from enum import StrEnum
from typing import Final

import msgspec

from conveyor_apps.tables import Database, Row

from . import clock

LOG: Final = logging.getLogger("plotburn")
LINE_CHARS_MAX: Final = 1_000
RUN_LINES_MAX: Final = 2_000
DAY_MS: Final = 24 * 3_600_000


class Level(StrEnum):
    """How loud a line is."""

    INFO = "info"
    ERROR = "error"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line, as the endpoints show it."""

    timestamp: str
    correlation_id: str
    level: Level
    message: str


class Journal:
    """Keeps lines for as many days as the settings say."""

    def __init__(self, database: Database, *, days: int) -> None:
        self._database = database
        self._days = days

    async def info(self, run: str, line: str) -> None:
        """Something went its way."""
        LOG.info("%s", line)
        await self._add(run, Level.INFO, line)

    async def error(self, run: str, line: str) -> None:
        """Something did not."""
        LOG.error("%s", line)
        await self._add(run, Level.ERROR, line)

    async def lines(self, run: str) -> list[Line]:
        """A run's lines, the first first."""
        rows = await self._database.read(lambda tx: tx.rows("lines_of_run", run=run, limit=RUN_LINES_MAX))
        return [_read_line(row) for row in rows]

    async def last_lines(self, *, limit: int) -> list[Line]:
        """The latest lines of all runs, the newest first."""
        rows = await self._database.read(lambda tx: tx.rows("last_lines", limit=limit))
        return [_read_line(row) for row in rows]

    async def drop_old(self) -> None:
        """Forget lines past their days, a bounded number at a time."""
        await self._database.write(lambda tx: tx.change("drop_old_lines", before=tx.now_ms - self._days * DAY_MS))

    async def _add(self, run: str, level: Level, line: str) -> None:
        text = line[:LINE_CHARS_MAX]
        await self._database.write(lambda tx: tx.change("add_line", run=run, level=level.value, line=text))


def _read_line(row: Row) -> Line:
    return Line(timestamp=clock.iso(row[2]), correlation_id=row[1], level=Level(row[3]), message=row[4])
