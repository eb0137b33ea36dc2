"""Tries many jobs again that failed for good, as fast as somebody says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from msgspec.structs import replace

from conveyor.jobs.job import retry_job
from conveyor.model.job import JobState
from conveyor.model.job_errors import JobNotFoundError, JobNotRetriableError
from conveyor.model.rate import Rate
from conveyor.store.jobs import JobFound, JobsAsked
from conveyor.store.protocol import Store

FAILED: Final = frozenset({JobState.FAILED, JobState.DEAD})


async def replay(store: Store, asked: JobsAsked, *, most: int, rate: Rate | None = None) -> AsyncIterator[JobFound]:
    """Those that were sent again, newest first; what has no dead letter any more is passed over."""
    pause_s = 0.0 if rate is None else rate.period_ms / 1000 / rate.count
    asked = replace(asked, states=asked.states & FAILED if asked.states else FAILED)
    left = most if asked.states else 0  # of the states that somebody named none is for good
    while left:
        page = await store.jobs.look(asked)
        for each in page.jobs:
            try:
                await retry_job(store, each.id)
            except (JobNotFoundError, JobNotRetriableError):
                continue
            yield each
            left -= 1
            if not left:
                return
            if pause_s:
                await store.clock.sleep(pause_s)
        if page.next_before is None:
            return
        asked = replace(asked, before=page.next_before)
