"""The application that lives through the day: `conveyor work bench.age.app:app`, and who sends to it.

The environment says where the store is (CONVEYOR_URL) and where handled messages are noted (BENCH_MARKS). Jobs are
forgotten a minute after their end, so that of a run of minutes most of its history has come and gone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from bench.age.fates import HUNDRED, Fate, delay_of, fate_of
from bench.peers.marks import Marks
from bench.peers.verbs import noting
from conveyor import Conveyor, CronRun, Message, QueueSettings

Body = dict[str, Any]

QUEUE: Final = "day"
ORDERED: Final = "day-ordered"
PROBES: Final = "day-probes"
DEAD: Final = "day-dlq"
DEDUPE_MS: Final = 30_000

app = Conveyor("day")
app.declare_queue(QUEUE, QueueSettings(dedupe_window_ms=DEDUPE_MS))
app.retention(jobs="1m")
_handled = Path(os.environ.get("BENCH_MARKS", ""))
_note = noting(_handled)
_rejected: Marks | None = None


def rejected_beside(handled: Path) -> Path:
    """The marks of messages that were rejected once, a slot for every hundred."""
    return handled.with_name("rejected.marks")


@app.consumer(QUEUE)
async def handle(message: Message[Body]) -> None:
    number = message.body["number"]
    match fate_of(number):
        case Fate.RETRIED if message.attempts == 1:
            message.retry(delay_of(number))
        case Fate.REJECTED if _is_first_life(number):
            message.reject("as was to be")
        case _:
            _note(number)


@app.consumer(ORDERED, ordered=True)
async def handle_in_order(message: Message[Body]) -> None:
    _note(message.body["number"])


@app.consumer(PROBES)
async def handle_probe(message: Message[Body]) -> None:
    """It is sent to see how long that takes."""


@app.job(queue="day-jobs")
async def square(number: int) -> int:
    _note(number)
    return number * number


@app.cron("* * * * *")
async def each_minute(run: CronRun) -> None:
    """It leaves a row of history."""


def _is_first_life(number: int) -> bool:
    """Sent back from the dead letters, a message begins anew, so only this tells."""
    global _rejected
    if _rejected is None:
        _rejected = Marks(rejected_beside(_handled))
    place = number // HUNDRED
    if _rejected.is_marked(place):
        return False
    _rejected.mark(place)
    return True
