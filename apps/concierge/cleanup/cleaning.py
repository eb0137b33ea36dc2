"""What a cleanup does with each target, and what it would do."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.jobs import CleanupJob
from conveyor_apps.concierge.settings import KeepingSettings
from conveyor_apps.concierge.words import Target

from .dead import clean_dead_letters, count_dead_letters
from .messages import clean_messages, count_messages
from .temporary import clean_temporary, count_temporary
from .trail import clean_trail, count_trail

BATCHES_MAX: Final = 10
"""Of one job; what is left is for the next, which it sends."""
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000


class Cleaned(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a cleanup did, or would do."""

    target: Target
    before: str
    """Nothing that is younger goes, whatever was asked for."""
    rows: int = 0
    held: int = 0
    """Old enough, and kept by a legal hold; counted by a dry run alone."""
    is_dry: bool = False


def floor_ms(target: Target, keeping: KeepingSettings, now_ms: int) -> int:
    """What is younger is kept by policy."""
    match target:
        case Target.AUDIT_LOGS:
            return now_ms - keeping.audit_days * DAY_MS
        case Target.MESSAGE_QUEUE:
            return now_ms - keeping.message_days * DAY_MS
        case Target.TEMP_FILES:
            return now_ms


def bound_of(job: CleanupJob, keeping: KeepingSettings) -> int:
    """The moment before which things go: as asked for, and no younger than policy allows."""
    return min(clock.read_iso(job.older_than), floor_ms(job.target, keeping, clock.now_ms()))


async def run_cleanup(job: CleanupJob, context: Context) -> Cleaned:
    """One job's share of it; another job follows if there is more. `ArchiveError`: then nothing more was deleted."""
    before = bound_of(job, context.settings.keeping)
    steps: dict[Target, list[Any]] = {
        Target.AUDIT_LOGS: [clean_trail],
        Target.MESSAGE_QUEUE: [clean_messages, clean_dead_letters],
        Target.TEMP_FILES: [clean_temporary],
    }
    rows = batches = 0
    for step in steps[job.target]:
        while batches < BATCHES_MAX and (count := await step(context, before)):
            rows, batches = rows + count, batches + 1
    if batches >= BATCHES_MAX:
        await context.enqueue(job, None)
    if rows:
        context.safety.breadcrumb("cleanup.done", target=job.target, rows=rows)
    return Cleaned(target=job.target, before=clock.iso(before), rows=rows)


async def preview_cleanup(job: CleanupJob, context: Context) -> Cleaned:
    """A dry run: what would go now, and what is held."""
    before = bound_of(job, context.settings.keeping)
    counts: dict[Target, list[Callable[..., Any]]] = {
        Target.AUDIT_LOGS: [count_trail],
        Target.MESSAGE_QUEUE: [count_messages, count_dead_letters],
        Target.TEMP_FILES: [count_temporary],
    }
    found = [await count(context, before) for count in counts[job.target]]
    return Cleaned(
        target=job.target, before=clock.iso(before), rows=sum(rows for rows, _ in found),
        held=sum(held for _, held in found), is_dry=True,
    )  # fmt: skip
