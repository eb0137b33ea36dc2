"""The worker: takes an order to its end. From bucket to bucket, in a folder that is always removed; what an earlier
attempt has put into the bucket is not made again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from conveyor import Bucket, ConveyorError

from .child import Limits
from .errors import MediaError, ReportError, StoppedError, ToolError
from .ffmpeg import Tools
from .progress import Progress
from .recipes import Bench, make_output
from .reports import Kind, Report, Reporter
from .words import CONTENT_TYPES, Order, Output, output_key, upload_prefix
from .workfolder import work_folder

T = TypeVar("T")

RETRIES: Final = 3
TICK_S: Final = 0.4
"""Between two looks at how far FFmpeg is."""
BEAT_S: Final = 2.0
"""A report at least so often, so that a cancel is heard of even where nothing moves."""
CHUNK_BYTES: Final = 1 << 18
TROUBLE: Final = (ToolError, ReportError, ConveyorError, OSError)
"""What another attempt may not meet."""


class Workshop:
    """Works on orders, one at a time for each call."""

    def __init__(self, bucket: Bucket, tools: Tools, reporter: Reporter, *, root: Path, limits: Limits) -> None:
        """`root` is where the folders are made."""
        self._bucket = bucket
        self._tools = tools
        self._reporter = reporter
        self._root = root
        self._limits = limits

    async def work(self, order: Order, *, attempt: int) -> None:
        """Every output of the order in the bucket, or somebody told why not. Raises what `TROUBLE` says if another
        attempt may help: the caller tries again, as long as `attempt` is not the last."""
        report = Report(order=order.id, generation=order.generation, attempt=attempt, kind=Kind.STARTED)
        try:
            await self._tell(report)
            await self._make_all(order, report)
            await self._tell(_as(report, Kind.DONE))
        except StoppedError:
            return
        except MediaError as error:
            await self._end(_as(report, Kind.FAILED, error=str(error)))
        except TROUBLE as error:
            if attempt > RETRIES:
                words = f"It failed {attempt} times: {type(error).__name__}: {error}"[:500]
                await self._end(_as(report, Kind.FAILED, error=words))
            else:
                await self._end(_as(report, Kind.RETRYING, error=f"{type(error).__name__}: {error}"[:500]))
            raise

    async def _end(self, report: Report) -> None:
        try:
            await self._reporter.tell(report)
        except ReportError:
            if report.kind is Kind.FAILED:
                raise

    async def _tell(self, report: Report) -> None:
        if await self._reporter.tell(report):
            raise StoppedError(report.order)

    async def _make_all(self, order: Order, report: Report) -> None:
        wanted: list[Output] = []
        for output in order.outputs():
            found = await self._bucket.head(output_key(order.id, output.name))
            if found is None:
                wanted.append(output)
            else:
                await self._tell(_as(report, Kind.OUTPUT, output=output.name, fraction=1.0, size=found.size))
        if not wanted:
            return
        with work_folder(self._root) as folder:
            source = folder / "source"
            await fetch_upload(self._bucket, order.upload, order.size, source)
            bench = Bench(
                tools=self._tools, source=source, folder=folder, media=order.media, wish=order.wish, limits=self._limits
            )
            for output in wanted:
                await self._make(order, bench, output, report)

    async def _make(self, order: Order, bench: Bench, output: Output, report: Report) -> None:
        seen: list[Progress] = [Progress(0.0, None)]

        def hear(progress: Progress) -> None:
            seen[0] = progress

        def now() -> Report:
            # The last hundredth is the upload's.
            fraction = min(seen[0].fraction, 0.99)
            return _as(report, Kind.PROGRESS, output=output.name, fraction=fraction, speed=seen[0].speed)

        target = await self._watched(make_output(bench, output, hear), now)
        info = await self._watched(
            self._bucket.put(
                output_key(order.id, output.name), read_file(target), content_type=CONTENT_TYPES[output.format]
            ),
            now,
        )
        target.unlink()
        await self._tell(_as(report, Kind.OUTPUT, output=output.name, fraction=1.0, size=info.size))

    async def _watched(self, work: Awaitable[T], now: Callable[[], Report]) -> T:
        """Do it, and tell how far it is; `StoppedError`, and its end, as soon as nobody wants it."""
        task = asyncio.ensure_future(work)
        told, silent_s = None, 0.0
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=TICK_S)
                silent_s += TICK_S
                report = now()
                if report != told or silent_s >= BEAT_S:
                    told, silent_s = report, 0.0
                    await self._tell(report)
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()


def _as(report: Report, kind: Kind, **facts: object) -> Report:
    return msgspec.structs.replace(report, kind=kind, **facts)


async def fetch_upload(bucket: Bucket, upload: str, size: int, target: Path) -> None:
    """The upload's parts, one after another, as one file. `MediaError` if some are gone."""
    written, cursor = 0, None
    with target.open("wb") as file:
        while True:
            page = await bucket.list(prefix=upload_prefix(upload), cursor=cursor)
            for each in page.objects:
                if each.key.rpartition("/")[2] != f"{written:015d}":
                    raise MediaError("A part of the upload is missing: please upload the file again.")
                async for chunk in bucket.chunks(each.key):
                    written += len(chunk)
                    if written > size:
                        raise MediaError("The upload is larger than it was said to be.")
                    await asyncio.to_thread(file.write, chunk)
            cursor = page.cursor
            if cursor is None:
                break
    if written != size:
        raise MediaError("The upload is not here any more: please upload the file again.")


async def read_file(path: Path) -> AsyncIterator[bytes]:
    """A file, piece by piece."""
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
