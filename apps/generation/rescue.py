"""What ends without a word is told; what a crash left between two stores is taken on.

A job that dies is told by the alert that conveyor writes in the same transaction. The sweep, each minute, finds the
rest: an alert that was lost too, a job that an operator cancelled or purged, one that was never sent, an event that was
not handed on.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from conveyor import DeadLetterAlert, JobState

from .desk import Desk
from .ledger import Ledger, Open
from .logbook import Component, Logbook
from .records import Failure
from .relay import Hand
from .status import Statistics

LEFT_MS: Final = 30_000
"""What lies so long where it should have been taken on was left by a process that died."""
LOOKED_AT: Final = 500
"""Jobs of open generations that one sweep asks for; the next one goes on behind them."""
REDRIVES: Final = "conveyor-redrives"
GONE: Final = (JobState.CANCELLED, None)
DEAD: Final = (JobState.DEAD, JobState.FAILED)

Fate = Callable[[str], Awaitable[tuple[JobState | None, str | None]]]
"""How the job with this id stands, and its last error; None and None where nobody knows it any more."""


class Rescue:
    """Finds those that nobody is at any more."""

    def __init__(
        self, ledger: Ledger, desk: Desk, statistics: Statistics, log: Logbook, *, hand: Hand, fate: Fate
    ) -> None:
        self._ledger = ledger
        self._desk = desk
        self._statistics = statistics
        self._log = log
        self._hand = hand
        self._fate = fate
        self._looked = 0
        """At the jobs of those up to this number."""

    async def hear(self, alert: DeadLetterAlert) -> None:
        """A job has died. Where somebody has tried it again by now, that is what counts."""
        headers = alert.headers or {}
        id = str(headers.get("generation", ""))
        found = await self._ledger.standing(id)
        if found is None:
            return
        generation, run, turn = found
        if run <= int(headers.get(REDRIVES, 0)):
            text = alert.error or f"it ended after {alert.attempts} tries: {alert.reason}"
            await self._fail(id, generation.user_id, Failure(code=alert.reason, message=text), turn, alert.attempts)
        await self._hand(id)

    async def sweep(self) -> None:
        """All that was left. `ConveyorError` if the queue takes no jobs just now."""
        await self._statistics.fold()
        for id in await self._ledger.silent(for_ms=LEFT_MS):
            await self._hand(id)
        await self._look()
        for each in await self._ledger.unsent(for_ms=LEFT_MS):  # last: a full queue takes none, and holds up nothing
            await self._desk.send(each)

    async def _look(self) -> None:
        """At those of which nothing was heard: their job may have ended long ago."""
        found = await self._ledger.open(for_ms=LEFT_MS, after=self._looked, limit=LOOKED_AT)
        self._looked = found[-1].number if len(found) == LOOKED_AT else 0
        for each in found:
            state, error = await self._fate(each.job_id)
            if state in GONE:
                await self._cancel(each)
            elif state in DEAD:
                text = error or "its job ended without a word"
                await self._fail(each.id, each.user_id, Failure(code=f"job_{state}", message=text), each.turn, None)

    async def _cancel(self, left: Open) -> None:
        ended = await self._ledger.cancel(left.id, turn=left.turn)
        if ended.state.is_final:
            self._log.info(
                Component.GENERATION, "Generation cancelled", generationId=left.id, userId=left.user_id, by="its job"
            )
            await self._hand(left.id)

    async def _fail(self, id: str, user_id: str, failure: Failure, turn: int, attempt: int | None) -> None:
        if await self._ledger.fail(id, failure, turn=turn):
            self._log.error(
                Component.GENERATION, "Generation failed", generationId=id, userId=user_id, attempt=attempt,
                code=failure.code, error=failure.message,
            )  # fmt: skip
            await self._hand(id)
