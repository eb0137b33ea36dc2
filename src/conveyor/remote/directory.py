"""Queues and consumers behind the API, in our words: names to ids, settings in both directions."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from msgspec.structs import replace

from conveyor.model.clock import Clock
from conveyor.model.errors import (
    ConflictError,
    ConsumerConflictError,
    QueueExistsError,
    QueueNotFoundError,
    StoreUnsupportedError,
)
from conveyor.model.settings import ConsumerSettings, ConsumerType, QueueSettings
from conveyor.model.verdict import Backoff
from conveyor.remote.client import Client, TokenRefusedError
from conveyor.remote.wire import ConsumerDraft, ConsumerRow, ConsumerTerms, QueueRow, read_moment
from conveyor.store.records import QueueInfo

FRESH_S: Final = 30.0
"""How long what we know of a queue is taken for true."""
PAUSED_S: Final = 2.0
"""The same of a queue that is paused, or cannot be pulled."""
PAGE: Final = 100
_NAME_TAKEN: Final = 11_009


class Known:
    """What the API said of a queue, and when."""

    __slots__ = ("asked_at", "row", "version")

    def __init__(self, row: QueueRow, asked_at: float, version: int) -> None:
        self.row = row
        self.asked_at = asked_at
        self.version = version

    @property
    def path(self) -> str:
        return f"/queues/{self.row.queue_id}"

    @property
    def is_vague(self) -> bool:
        """We may not look: there is no more than a name."""
        return self.row.settings is None

    @property
    def fresh_s(self) -> float:
        settings = self.row.settings
        return PAUSED_S if self.consumer is None or (settings is not None and settings.delivery_paused) else FRESH_S

    @property
    def consumer(self) -> ConsumerRow | None:
        return self.row.consumers[0] if self.row.consumers else None


class Directory:
    """The queues of an account."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._asking = asyncio.Lock()

    def open(self) -> None:
        """In this event loop, knowing nothing."""
        self._known.clear()
        self._asking = asyncio.Lock()

    async def find(self, name: str, *, fresh: bool = False, patience_s: float | None = None) -> Known:
        """`QueueNotFoundError`."""
        found = None if fresh else self._fresh(name)
        if found is not None:
            return found
        async with self._asking:  # what others wait for too is asked once
            found = None if fresh else self._fresh(name)
            return found or await self._look(name, patience_s)

    def _fresh(self, name: str) -> Known | None:
        known = self._known.get(name)
        is_fresh = known is not None and self._clock.monotonic() - known.asked_at < known.fresh_s
        return known if is_fresh else None

    async def _look(self, name: str, patience_s: float | None) -> Known:
        known = self._known.get(name)
        row = await self._ask(name, patience_s)
        if row is None:
            self._known.pop(name, None)
            raise self.missing(name)
        version = 1 if known is None else known.version + (row != known.row)
        self._known[name] = found = Known(row, self._clock.monotonic(), version)
        return found

    def forget(self, name: str) -> None:
        """Ask anew next time: it may have been deleted, and made again."""
        self._known.pop(name, None)

    def missing(self, name: str) -> QueueNotFoundError:
        error = QueueNotFoundError(name)
        shown = self._client.address.shown
        makes = f"`conveyor queues create {name} --url '{shown}'`"
        error.hint = f"{makes} makes it, or at Cloudflare `wrangler queues create {name}`"
        return error

    def check_allowed(self, name: str) -> None:
        """`QueueNotFoundError` if the URL names another queue."""
        only = self._client.address.queue
        if only is not None and name != only:
            error = QueueNotFoundError(name)
            error.hint = f"`{self._client.address.shown}` is queue `{only}`: leave that out to reach all of the account"
            raise error

    async def _ask(self, name: str, patience_s: float | None) -> QueueRow | None:
        """A token that may only send, or only consume, may not look: a conveyor takes a name for an id too."""
        query = {"name": name, "page": "1"}
        try:
            rows: list[QueueRow] = await self._client.call(
                "GET", "/queues", list[QueueRow], query=query, patience_s=patience_s
            )
        except TokenRefusedError:
            if self._client.address.is_cloudflare:
                raise
            return QueueRow(queue_id=name, queue_name=name)
        return next((row for row in rows if row.queue_name == name), None)

    async def rows(self) -> list[QueueRow]:
        """All queues; only that of the URL if it names one."""
        only = self._client.address.queue
        if only is not None:
            return [(await self.find(only, fresh=True)).row]
        found: list[QueueRow] = []
        page = 1
        while True:
            query = {"page": str(page), "per_page": str(PAGE)}
            rows: list[QueueRow] = await self._client.call("GET", "/queues", list[QueueRow], query=query)
            new = [row for row in rows if row.queue_id not in {each.queue_id for each in found}]
            found += new
            if len(rows) < PAGE or not new:
                return found
            page += 1

    async def create(self, name: str, settings: QueueSettings) -> None:
        """`QueueExistsError`."""
        body = {"queue_name": name, "settings": _queue_terms(settings)}
        try:
            await self._client.call("POST", "/queues", Any, body=body, is_repeatable=False)
        except ConflictError as error:
            raise QueueExistsError(name) from error

    async def update(self, name: str, settings: QueueSettings) -> None:
        known = await self.find(name)
        body = {"queue_name": known.row.queue_name, "settings": _queue_terms(settings)}
        await self._client.call("PATCH", known.path, Any, body=body)
        self.forget(name)

    async def rename(self, name: str, new: str) -> None:
        """`QueueExistsError`; `ConflictError` in its words, if it is not to be renamed."""
        known = await self.find(name, fresh=True)
        try:
            await self._client.call("PATCH", known.path, Any, body={"queue_name": new}, is_repeatable=False)
        except ConflictError as error:
            if error.facts.get("remote_code") == _NAME_TAKEN:
                raise QueueExistsError(new) from error
            raise
        finally:
            self.forget(name)

    async def pause(self, name: str, *, paused: bool) -> None:
        known = await self.find(name)
        body = {"queue_name": known.row.queue_name, "settings": {"delivery_paused": paused}}
        await self._client.call("PATCH", known.path, Any, body=body)
        self.forget(name)

    async def delete(self, name: str) -> None:
        known = await self.find(name)
        await self._client.call("DELETE", known.path, Any, is_repeatable=False)
        self.forget(name)

    async def put_consumer(self, name: str, settings: ConsumerSettings | None) -> None:
        """Make it what is said, or remove it. `ConsumerConflictError`."""
        known = await self.find(name, fresh=True)
        present = known.consumer
        self.forget(name)
        path = f"{known.path}/consumers"
        if settings is None:
            if present is not None:
                await self._client.call("DELETE", f"{path}/{present.consumer_id}", Any, is_repeatable=False)
            return
        draft = _consumer_draft(settings)
        if present is not None and present.type == draft.type:
            await self._client.call("PUT", f"{path}/{present.consumer_id}", Any, body=draft)
            return
        try:
            await self._client.call("POST", path, Any, body=draft, is_repeatable=False)
        except ConflictError as error:
            there = present.type if present is not None else "somebody else"
            raise ConsumerConflictError(name, there, settings.script or draft.type) from error


def read_info(name: str, known: Known) -> QueueInfo:
    """A queue as it operates there."""
    row = known.row
    usual = QueueSettings()
    terms = row.settings
    settings = usual
    if terms is not None:
        settings = replace(
            usual,
            delivery_delay_ms=_ms(terms.delivery_delay, usual.delivery_delay_ms),
            retention_ms=_ms(terms.message_retention_period, usual.retention_ms),
        )
    return QueueInfo(
        name=name,
        settings=settings,
        consumer=None if known.consumer is None else read_consumer_row(known.consumer),
        paused=bool(terms is not None and terms.delivery_paused),
        version=known.version,
        created_at=read_moment(row.created_on),
        modified_at=read_moment(row.modified_on),
    )


def read_consumer_row(row: ConsumerRow) -> ConsumerSettings:
    """A consumer as it operates there."""
    terms, usual = row.settings or ConsumerTerms(), ConsumerSettings()
    return replace(
        usual,
        type=ConsumerType.HTTP_PULL if row.type == ConsumerType.HTTP_PULL else ConsumerType.WORKER,
        script=row.script_name or row.script or "",
        dead_letter_queue=row.dead_letter_queue or None,
        max_batch_size=usual.max_batch_size if terms.batch_size is None else int(terms.batch_size),
        max_retries=usual.max_retries if terms.max_retries is None else int(terms.max_retries),
        max_concurrency=None if terms.max_concurrency is None else int(terms.max_concurrency),
        max_batch_timeout_ms=_whole(terms.max_wait_time_ms, usual.max_batch_timeout_ms),
        visibility_timeout_ms=_whole(terms.visibility_timeout_ms, usual.visibility_timeout_ms),
        retry_delay=Backoff(base_ms=_ms(terms.retry_delay, 0)),
    )


def _consumer_draft(settings: ConsumerSettings) -> ConsumerDraft:
    if settings.retry_delay.factor != 1 or settings.retry_delay.jitter:
        raise StoreUnsupportedError("Cloudflare's API knows one `retry_delay`, not one that grows")
    is_pull = settings.type is ConsumerType.HTTP_PULL
    terms = ConsumerTerms(
        batch_size=settings.max_batch_size,
        max_retries=settings.max_retries,
        retry_delay=seconds_of(settings.retry_delay.base_ms),
        max_wait_time_ms=None if is_pull else settings.max_batch_timeout_ms,
        max_concurrency=None if is_pull else settings.max_concurrency,
        visibility_timeout_ms=settings.visibility_timeout_ms if is_pull else None,
    )
    return ConsumerDraft(
        type="http_pull" if is_pull else "worker",
        settings=terms,
        script_name=None if is_pull else settings.script,
        dead_letter_queue=settings.dead_letter_queue,
    )


def _queue_terms(settings: QueueSettings) -> dict[str, int]:
    usual = QueueSettings()
    for field in QueueSettings.__struct_fields__:
        if field not in ("delivery_delay_ms", "retention_ms") and getattr(settings, field) != getattr(usual, field):
            raise StoreUnsupportedError(
                f"Cloudflare's API has no setting `{field.removesuffix('_ms')}`", hint="set it where the queue lives"
            )
    return {
        "delivery_delay": seconds_of(settings.delivery_delay_ms),
        "message_retention_period": seconds_of(settings.retention_ms),
    }


def seconds_of(milliseconds: int) -> int:
    """The API counts in whole seconds; nothing comes earlier than was asked for."""
    return math.ceil(milliseconds / 1000)


def _ms(seconds: float | None, usual: int) -> int:
    return usual if seconds is None else round(seconds * 1000)


def _whole(value: float | None, usual: int) -> int:
    return usual if value is None else round(value)
