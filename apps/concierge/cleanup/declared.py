"""Cleanup on conveyor: its schedules, and the dead letters that it looks after."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from conveyor import Conveyor, ConveyorError, CronRun
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.context import Context, DeadLetter
from conveyor_apps.concierge.jobs import CleanupJob
from conveyor_apps.concierge.settings import DEAD
from conveyor_apps.concierge.words import Target

SCHEDULES: Final = {
    Target.TEMP_FILES: "17 * * * *",
    Target.MESSAGE_QUEUE: "41 2 * * *",
    Target.AUDIT_LOGS: "23 3 * * SUN",
}
"""By UTC, at hours when nobody waits for messages."""


def declare_schedules(app: Conveyor, context: Callable[[], Context]) -> None:
    """Each tick sends a job of its target through the queue, as anybody else would; policy says how far it goes."""
    for target, expression in SCHEDULES.items():
        _declare(app, context, target, expression)


def _declare(app: Conveyor, context: Callable[[], Context], target: Target, expression: str) -> None:
    name = f"concierge-cleanup-{target.replace('_', '-')}"

    @app.cron(expression, name=name, timezone="UTC", misfire="latest", overlap="skip")
    async def clean(_run: CronRun) -> None:
        job = CleanupJob(target=target, older_than=clock.iso(clock.now_ms()))
        await context().enqueue(job, None)


class StoredDeadLetters:
    """Those of one queue, by way of conveyor's store."""

    def __init__(self, app: Conveyor, queue: str) -> None:
        self._app = app
        self._queue = queue

    async def page(self, after: int, limit: int) -> list[DeadLetter]:
        found = await self._app.store.peek(self._queue, limit=limit, after_seq=after)
        return [
            DeadLetter(
                number=each.seq, id=each.id.hex(), origin="" if each.dead is None else each.dead.origin_queue,
                reason="" if each.dead is None else each.dead.reason,
                died_at=each.sent_at if each.dead is None else each.dead.dead_at, attempts=each.attempts,
                body=each.body, opened=self._open(each),
            )
            for each in found
        ]  # fmt: skip

    def _open(self, message: Any) -> bytes:
        try:
            opened: bytes = self._app.sealer.opened(message).body
        except ConveyorError:  # its key is not here
            return b""
        return opened

    async def discard(self, numbers: Sequence[int]) -> int:
        return len(await self._app.store.discard(self._queue, numbers)) if numbers else 0


def dead_letters_of(app: Conveyor) -> StoredDeadLetters:
    """Of the queue of messages."""
    return StoredDeadLetters(app, DEAD)
