"""Many jobs at once: listed, grouped by their errors, and tried again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec.structs import replace

from conveyor.jobs.job import JobInfo, show_job
from conveyor.jobs.replay import replay as replay_each
from conveyor.model.errors import InvalidSettingError
from conveyor.model.job import JobState
from conveyor.model.rate import read_rate
from conveyor.store.jobs import JobsAsked
from conveyor.store.protocol import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class JobErrors:
    """Jobs whose last errors are of one kind."""

    fingerprint: str
    name: str
    """The jobs'."""
    error: str
    """Of the latest."""
    jobs: int
    last_at: datetime


def ask_for(
    name: str | None, queue: str | None, state: JobState | str | Iterable[JobState | str] | None, error: str | None
) -> JobsAsked:
    """`InvalidSettingError` for what is no state."""
    states = (state,) if isinstance(state, str) else state or ()
    try:
        chosen = frozenset(JobState(each) for each in states)
    except ValueError:
        raise InvalidSettingError("state", state, f"is none of {', '.join(JobState)}") from None
    return JobsAsked(name=name, queue=queue, states=chosen, fingerprint=error)


async def list_jobs(store: Store, asked: JobsAsked, limit: int) -> list[JobInfo]:
    """Newest first."""
    found: list[JobInfo] = []
    while len(found) < limit:
        page = await store.jobs.look(replace(asked, limit=limit - len(found)))
        found += [show_job(each, store.clock.now_ms()) for each in page.jobs]
        if page.next_before is None:
            break
        asked = replace(asked, before=page.next_before)
    return found


async def list_errors(store: Store, name: str | None, limit: int) -> list[JobErrors]:
    """The most frequent first."""
    return [
        JobErrors(
            fingerprint=each.fingerprint, name=each.name, error=each.error, jobs=each.jobs,
            last_at=datetime.fromtimestamp(each.last_at / 1000, UTC),
        )
        for each in await store.jobs.errors(name=name, limit=limit)
    ]  # fmt: skip


async def replay(store: Store, asked: JobsAsked, *, limit: int, rate: str | None) -> int:
    """How many were sent again."""
    pace = None if rate is None else read_rate(rate, name="rate")
    return len([each async for each in replay_each(store, asked, most=limit, rate=pace)])
