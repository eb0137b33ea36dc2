"""One export as a job: what is written where, how far it is, who is told at its end."""

from typing import Final

import msgspec

from conveyor import JobContext
from conveyor_apps.concierge import clock
from conveyor_apps.concierge.context import Context
from conveyor_apps.concierge.errors import ConciergeError
from conveyor_apps.concierge.jobs import CleanupJob, ExportJob
from conveyor_apps.concierge.statements import all_statements
from conveyor_apps.concierge.words import ExportState, Format, Target

from .datasets import DATASETS
from .errors import StoppedError
from .exporter import Extent, Made, export, measure
from .reading import Reader
from .selection import Selection, check_filters
from .standing import Exports

PREFIX: Final = "exports/"
TOLD_EVERY_S: Final = 1.0
HOUR_MS: Final = 3_600_000
NOTICE: Final = """Your export {export} is ready: {rows:,} rows, {size:,} bytes.

Sign in to download it before {until}: {url}

SHA-256 of the file: {sha256}
"""


def key_of(export: str, format: Format) -> str:
    """Where its file lies: every attempt writes to the same place."""
    return f"{PREFIX}{export}.{format}"


class Writer:
    """Writes exports with what a process has."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._exports = Exports(context.database, context.trail)

    async def write(self, job: ExportJob, running: JobContext) -> None:
        """From the first look to the last notice; what is done already is not done again. `ExportError`, `FieldError`:
        it has failed for good."""
        found = await self._exports.add(job)
        if found.state in {ExportState.CANCELLED, ExportState.FAILED, ExportState.EXPIRED}:
            return
        try:
            made = await running.step("write", self._write, job, running)
        except StoppedError:
            return
        if made is not None:
            await running.step("tell", self._tell_user, job, made)
            await running.step("forget later", self._forget_later, job)

    async def give_up(self, job: ExportJob, error: BaseException, *, is_last: bool) -> None:
        """An attempt failed."""
        is_final = is_last or isinstance(error, ConciergeError)
        problem = str(error) if isinstance(error, ConciergeError) else type(error).__name__
        if not is_final:
            await self._exports.put_back(job.export_id, problem)
        elif await self._exports.fail(job.export_id, problem):
            self._context.safety.capture(error, export=job.export_id)

    async def _write(self, job: ExportJob, running: JobContext) -> Made | None:
        selection = check_filters(job.filters)
        dataset = DATASETS[selection.dataset]
        async with Reader(self._context.database.path, all_statements()) as reader:
            seen = await measure(reader, dataset, selection.bindings())
            extent = await self._exports.begin(job.export_id, seen)
            if extent is None:
                return None
            made = await export(
                self._context.bucket, key_of(job.export_id, job.format), reader=reader, dataset=dataset,
                selection=selection.bindings(), extent=extent, format=job.format,
                tell=_Progress(self._exports, job.export_id, extent, running).tell,
                metadata=_metadata(job, selection),
            )  # fmt: skip
        expires_at = clock.now_ms() + self._context.settings.keeping.temp_hours * HOUR_MS
        if await self._exports.finish(job.export_id, made, expires_at):
            return made
        await self._context.bucket.delete(made.key)  # cancelled after its last page
        return None

    async def _tell_user(self, job: ExportJob, made: Made) -> None:
        found = await self._exports.find(job.export_id)
        until = clock.iso((found.expires_at if found else None) or clock.now_ms())
        text = NOTICE.format(
            export=job.export_id, rows=made.rows, size=made.size, until=until, sha256=made.sha256,
            url=f"{self._context.settings.desk.public_url}/#/exports/{job.export_id}",
        )  # fmt: skip
        await self._context.notify(job.user_id, "Your export is ready", text)

    async def _forget_later(self, job: ExportJob) -> None:
        found = await self._exports.find(job.export_id)
        if found is not None and found.expires_at is not None:
            due = CleanupJob(target=Target.TEMP_FILES, older_than=clock.iso(found.expires_at))
            await self._context.enqueue(due, found.expires_at + 1_000)


class _Progress:
    """Told of every page; says it to the job at once, and to the table once a second."""

    def __init__(self, exports: Exports, export: str, extent: Extent, running: JobContext) -> None:
        self._exports = exports
        self._export = export
        self._extent = extent
        self._running = running
        self._told_s = clock.monotonic_s()

    async def tell(self, rows: int) -> None:
        """`StoppedError` once nobody wants it any more."""
        self._running.progress(rows / max(self._extent.rows, rows), f"{rows:,} of {self._extent.rows:,} rows")
        if clock.monotonic_s() - self._told_s >= TOLD_EVERY_S:
            self._told_s = clock.monotonic_s()
            if not await self._exports.advance(self._export, rows):
                raise StoppedError(f"export {self._export} was cancelled")


def _metadata(job: ExportJob, selection: Selection) -> dict[str, str]:
    return {"export": job.export_id, "dataset": selection.dataset, "filters": msgspec.json.encode(job.filters).decode()}
