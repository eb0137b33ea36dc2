"""The application that `conveyor work bench.peers.conveyor_app:app` runs.

The environment says what is measured: CONVEYOR_URL the file, BENCH_MARKS where handled messages are noted,
BENCH_HANDLER whether the handler takes a `message` or a `batch`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from bench.peers.marks import Marks
from conveyor import Batch, Conveyor, Message

Body = dict[str, object]

app = Conveyor("bench")
_marks: Marks | None = None


def _note(number: object) -> None:
    """The marks are opened by the first message, so in the worker and not in its supervisor."""
    global _marks
    if _marks is None:
        path = Path(os.environ["BENCH_MARKS"])
        _marks = Marks(path)
        path.with_suffix(".loop").write_text(type(asyncio.get_running_loop()).__module__)
    assert isinstance(number, int)
    _marks.mark(number)


if os.environ.get("BENCH_HANDLER") == "batch":

    @app.consumer("jobs", max_batch_size=100, max_batch_timeout=0)
    async def handle_batch(batch: Batch[Body]) -> None:
        for message in batch.messages:
            _note(message.body["number"])

else:

    @app.consumer("jobs", max_retries=3)
    async def handle(message: Message[Body]) -> None:
        _note(message.body["number"])
