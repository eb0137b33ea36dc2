"""Exports on conveyor: a job in a queue of their own, one at a time."""

from collections.abc import Awaitable, Callable
from typing import Final

from conveyor import Backoff, Conveyor, JobContext
from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.errors import ConciergeError
from conveyor_apps.concierge.jobs import ExportJob

from .writing import Writer

QUEUE: Final = "concierge-exports"
RETRIES: Final = 3
TIMEOUT: Final = "6h"


def declare_exports(
    app: Conveyor, context: Callable[[], Context], *, backoff: Backoff | None = None
) -> Callable[[ExportJob], Awaitable[None]]:
    """Declare the job; what starts one. Of one id only one is under way: to start it again changes nothing."""
    app.job_queue(QUEUE, max_concurrency=1)

    @app.job(
        queue=QUEUE, name="export_generation", max_retries=RETRIES, backoff=backoff or Backoff.exponential("10s"),
        errors={ConciergeError: None}, timeout=TIMEOUT, unique=lambda job: job.export_id,
    )  # fmt: skip
    async def generate(job: ExportJob, running: JobContext) -> None:
        here = context()
        writer = Writer(here)
        with here.safety.job(job, running.attempt):
            try:
                await writer.write(job, running)
            except Exception as error:
                await writer.give_up(job, error, is_last=running.attempt > RETRIES)
                raise

    async def start(job: ExportJob) -> None:
        await generate.enqueue(job)

    return start


async def run_export(job: ExportJob, context: Context) -> None:
    """What the queue of messages does with one: hand it on to those who have the time."""
    await context.start_export(job)
