"""Uploads: received in parts that go to the bucket as they come, resumed where they stopped, examined once whole."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Final

import msgspec

from conveyor import Bucket, ConveyorError
from conveyor_apps.tables import Database, Transaction

from . import clock
from .child import Limits
from .errors import MediaError, RefusedError, ToolError
from .ffmpeg import Tools
from .logbook import say
from .probe import probe
from .recipes import Bench, take_pictures
from .settings import Settings
from .words import Media, Quality, Wish, part_key, preview_key
from .workfolder import work_folder
from .workshop import fetch_upload, read_file

NAME_CHARS_MAX: Final = 200
PART_BYTES_MAX: Final = 64 << 20
PREVIEWS: Final = 10
PREVIEW_SIDE: Final = 120
EXAMINED_AT_ONCE: Final = 2
EXAMINE: Final = Limits(memory_bytes=1 << 30, cpu_s=60, file_bytes=8 << 20, wall_s=60.0)


class UploadState(StrEnum):
    """Of an upload."""

    RECEIVING = "receiving"
    EXAMINING = "examining"
    READY = "ready"
    REFUSED = "refused"


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One file that somebody brought."""

    id: str
    name: str
    """As its owner calls it: shown, and never part of a path, a key or a command."""
    size: int
    received: int
    state: UploadState
    media: Media | None
    previews: int
    error: str | None
    created_at: str


class Uploads:
    """All of them. Only the process that serves browsers writes here."""

    def __init__(self, database: Database, bucket: Bucket, tools: Tools, settings: Settings) -> None:
        self._database = database
        self._bucket = bucket
        self._tools = tools
        self._settings = settings
        self._locks: dict[str, asyncio.Lock] = {}
        self._examining = asyncio.Semaphore(EXAMINED_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Examine what was not, when the server stopped."""
        for (upload,) in await self._database.read(lambda tx: tx.rows("examining")):
            self._examine_soon(upload)

    async def close(self) -> None:
        """Let go of what is being examined: it is begun anew."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def begin(self, name: str, size: int) -> Upload:
        """Room for a file of this size. `RefusedError`."""
        most = self._settings.upload_bytes_max
        if size > most:
            raise RefusedError(f"This file has {size / 1e6:,.0f} MB; {most / 1e6:,.0f} MB are the most.", status=413)
        upload = secrets.token_urlsafe(16)

        def work(tx: Transaction) -> None:
            count, held = tx.rows("sum_uploads")[0]
            if count >= self._settings.uploads_max:
                raise RefusedError("There are too many uploads here: please try again later.", status=507)
            if held + tx.rows("sum_outputs")[0][0] + size > self._settings.storage_bytes_max:
                raise RefusedError("There is no room for this file: please try again later.", status=507)
            tx.change("add_upload", id=upload, name=shown_name(name), size=size)

        await self._database.write(work)
        return await self.find(upload)

    async def find(self, upload: str) -> Upload:
        """`RefusedError` with 404."""
        rows = await self._database.read(lambda tx: tx.rows("find_upload", id=upload))
        if not rows:
            raise RefusedError("There is no such upload.", status=404)
        id, name, size, received, state, media, previews, error, created_at = rows[0]
        return Upload(
            id=id, name=name, size=size, received=received, state=UploadState(state), previews=previews, error=error,
            media=None if media is None else msgspec.json.decode(media, type=Media), created_at=clock.iso(created_at),
        )  # fmt: skip

    async def receive(self, upload: str, offset: int, chunks: AsyncIterator[bytes]) -> Upload:
        """One more part, which begins at `offset`; of one whose sender left, what came. `RefusedError` with 409 where
        the part does not follow what is here."""
        await self.find(upload)  # of what is not here, no lock is kept
        async with self._locks.setdefault(upload, asyncio.Lock()):
            found = await self.find(upload)
            if found.state is not UploadState.RECEIVING or offset != found.received:
                raise RefusedError(f"{found.received} bytes are here: go on from there.", status=409)
            most = min(PART_BYTES_MAX, found.size - offset)
            info = await self._bucket.put(part_key(upload, offset), _at_most(chunks, most), size_max=most)
            if info.size == 0:
                await self._bucket.delete(part_key(upload, offset))
                return found
            received = offset + info.size
            state = UploadState.EXAMINING if received == found.size else UploadState.RECEIVING
            await self._database.write(lambda tx: tx.change("receive", id=upload, received=received, state=state))
        if state is UploadState.EXAMINING:
            self._locks.pop(upload, None)
            self._examine_soon(upload)
        return await self.find(upload)

    def _examine_soon(self, upload: str) -> None:
        task = asyncio.create_task(self._examine(upload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _examine(self, upload: str) -> None:
        """What is it? Its answer is in the table."""
        media, previews, error = None, 0, None
        try:
            async with self._examining:
                media, previews = await self._look(await self.find(upload))
        except MediaError as refused:
            error = str(refused)
        except (ToolError, ConveyorError, RefusedError, OSError) as trouble:
            say(f"⚠️ Upload {upload} could not be examined: {type(trouble).__name__}: {trouble}")
            error = f"The file could not be examined: please upload it again. ({type(trouble).__name__})"
        state = UploadState.READY if error is None else UploadState.REFUSED
        text = None if media is None else msgspec.json.encode(media).decode()
        await self._database.write(
            lambda tx: tx.change("examined", id=upload, state=state, media=text, previews=previews, error=error)
        )
        if state is UploadState.REFUSED:
            await forget_upload(self._bucket, upload)

    async def _look(self, found: Upload) -> tuple[Media, int]:
        with work_folder(self._settings.work) as folder:
            source = folder / "source"
            await fetch_upload(self._bucket, found.id, found.size, source)
            media = await probe(self._tools, source)
            if media.video is None:
                return media, 0
            wish = Wish(clips=[], formats=[], quality=Quality.LOW)
            bench = Bench(tools=self._tools, source=source, folder=folder, media=media, wish=wish, limits=EXAMINE)
            moments = [media.duration_s * (number + 0.5) / PREVIEWS for number in range(PREVIEWS)]
            shots = [folder / f"preview-{number}.jpg" for number in range(PREVIEWS)]
            await take_pictures(bench, list(zip(moments, shots, strict=True)), side=PREVIEW_SIDE)
            for number, shot in enumerate(shots):
                await self._bucket.put(preview_key(found.id, number), read_file(shot), content_type="image/jpeg")
            return media, PREVIEWS

    async def drop_old(self, before_ms: int) -> int:
        """Forget uploads that are older, unless an order still needs them; how many."""
        dropped = 0
        rows = await self._database.read(lambda tx: tx.rows("old_uploads", before=before_ms))
        for (upload,) in rows:
            if await self._is_used(upload):
                continue
            await forget_upload(self._bucket, upload)
            await self._delete(upload)
            dropped += 1
        return dropped

    async def _is_used(self, upload: str) -> bool:
        return bool(await self._database.read(lambda tx: tx.rows("upload_is_used", id=upload)))

    async def _delete(self, upload: str) -> None:
        await self._database.write(lambda tx: tx.change("delete_upload", id=upload))


async def forget_upload(bucket: Bucket, upload: str) -> None:
    """Its parts and pictures leave the bucket."""
    await forget_prefix(bucket, f"uploads/{upload}/")


async def forget_prefix(bucket: Bucket, prefix: str) -> None:
    """All objects whose keys begin so leave the bucket."""
    while objects := (await bucket.list(prefix=prefix)).objects:
        for each in objects:
            await bucket.delete(each.key)


def shown_name(name: str) -> str:
    """A name that can be shown: its last part, without what is not printed, cut."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(sign for sign in last if sign.isprintable())  # what turns the direction of text is not
    return printable.strip()[:NAME_CHARS_MAX] or "upload"


async def _at_most(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """What comes, until its sender leaves; `RefusedError` if it is too much."""
    size = 0
    with contextlib.suppress(ConnectionError):
        async for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise RefusedError(f"This part has more than {most} bytes.", status=413)
            if chunk:
                yield chunk
