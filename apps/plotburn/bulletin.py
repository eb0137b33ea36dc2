"""Publishes how runs stand: `cron:last-run`, `cron:history` and the run's log, copied from the ledger into KV."""

from typing import Final

import msgspec

from .caches import Caches
from .journal import Journal, Line
from .runs import CronStatus, MovieView, Runs, RunView

ROUNDS_MAX: Final = 10


class RunLog(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one run: the debug payload."""

    correlation_id: str
    run: RunView | None
    movies: list[MovieView]
    logs: list[Line]


class Bulletin:
    """The ledger is the truth; what is published is always a whole copy, so publishing may be repeated."""

    def __init__(self, runs: Runs, journal: Journal, caches: Caches, *, history_limit: int) -> None:
        self._runs = runs
        self._journal = journal
        self._caches = caches
        self._history_limit = history_limit

    async def publish(self, run: str) -> None:
        """Copy the ledger's word; if it changed meanwhile, again, so that the last copy is never an old one."""
        for _ in range(ROUNDS_MAX):
            status = await self.status()
            await self._caches.put_log(run, await self.run_log(run))
            await self._caches.put_cron(last_run=status.last_run, history=status.history)
            if await self.status() == status:
                return

    async def status(self) -> CronStatus:
        """The status document."""
        return await self._runs.status(limit=self._history_limit)

    async def run_log(self, run: str) -> RunLog:
        """The debug payload of one run."""
        return RunLog(
            correlation_id=run,
            run=await self._runs.view(run),
            movies=await self._runs.movies(run),
            logs=await self._journal.lines(run),
        )

    async def debug(self, run: str) -> RunLog | dict[str, object] | None:
        """The debug payload from the ledger, or as published if the ledger no longer has it."""
        log = await self.run_log(run)
        return log if log.run or log.logs else await self._caches.get_log(run)
