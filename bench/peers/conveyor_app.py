"""The application that `conveyor work bench.peers.conveyor_app:app` runs.

The environment says what is measured: CONVEYOR_URL the store, BENCH_MARKS where handled messages are noted,
BENCH_HANDLER whether the handler takes a `message` or a `batch`.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.peers.verbs import noting
from conveyor import Batch, Conveyor, Message

Body = dict[str, object]

app = Conveyor("bench")
_note = noting(Path(os.environ.get("BENCH_MARKS", "")))

if os.environ.get("BENCH_HANDLER") == "batch":

    @app.consumer("jobs", max_batch_size=100, max_batch_timeout=0)
    async def handle_batch(batch: Batch[Body]) -> None:
        for message in batch.messages:
            _note(message.body["number"])

else:

    @app.consumer("jobs", max_retries=3)
    async def handle(message: Message[Body]) -> None:
        _note(message.body["number"])
