"""Concierge on conveyor: the document's queue, those of alerts and exports, its schedules, its own endpoints."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette

from conveyor import Backoff, Conveyor, ConveyorError, CronRun, DeadLetterAlert, Message, Reject, Retry, Snooze

from . import clock
from .cleanup import dead_letters_of, declare_schedules
from .context import Context, Safety
from .deliveries import Carrier, Later
from .endpoints import create_endpoints
from .errors import FieldError, SettingError, TemporaryError
from .exports import declare_exports
from .exports.declared import QUEUE as EXPORTS
from .jobs import ExportJob, Job, read_job
from .processors import process
from .providers import DeliveryService, Receipt
from .providers.opening import NewLimiter, open_providers
from .providers.receipts import RESEND_QUEUE, TWILIO_QUEUE, declare_receipts
from .room import Room, file_of, open_room
from .safety import open_safety, redact
from .settings import ALERTS, DEAD, QUEUE, Settings, read_settings

BATCH: Final = 10
BATCH_TIMEOUT: Final = "30s"
RETRIES: Final = 5
TIMEOUT: Final = "1h"
RETRY_S_MAX: Final = 86_400
RELAY: Final = "concierge-relay"
WATCH: Final = "concierge-watch"
UNENCRYPTED: Final = (
    "no key: recipients and texts lie in the queue as they are. Set CONVEYOR_SECRETS_KEY (`openssl rand -base64 32`) "
    "for every process; with CONVEYOR_ENCRYPTED='*' concierge does not start without one"
)
KEYS: Final = "secrets.key"
OWN_KEY: Final = ("sqlite:", "memory:")
"""Stores beside which conveyor makes a key by itself."""
HINT: Final = "the table of settings is in concierge's README.md"

OpenProviders = Callable[[Settings, NewLimiter], Awaitable[DeliveryService]]
OpenSafety = Callable[[Settings], Safety]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is opened with the room, and may be others in tests."""

    providers: OpenProviders
    safety: OpenSafety


class Doorway:
    """Opens the room when the app opens in a process, closes it when the app closes."""

    def __init__(self, app: Conveyor, settings: Settings, parts: Parts, *, is_encrypted: bool) -> None:
        self._app = app
        self._settings = settings
        self._parts = parts
        self._is_encrypted = is_encrypted
        self._room: Room | None = None
        self._emit: Callable[[Any], None] | None = None
        self.start_export: Callable[[ExportJob], Awaitable[None]] = _nobody

    async def open(self) -> None:
        """Open the room. `ConveyorError` that says what is missing."""
        path, joins = file_of(self._app, self._settings, QUEUE)
        safety = self._parts.safety(self._settings)
        try:
            providers = await self._parts.providers(self._settings, self._app.limiter)
        except SettingError as error:
            raise ConveyorError(str(error), hint=HINT) from error
        try:
            self._room = await open_room(
                self._app, self._settings, path=path, joins=joins, providers=providers, safety=safety,
                start_export=self.start_export, dead_letters=dead_letters_of(self._app), facts=self._facts,
            )  # fmt: skip
        except BaseException:
            await providers.close()
            raise
        for words in self.warnings():
            safety.warn("queue.unencrypted", words)
        self._emit = self._app.emit
        self._app.emit = safety.listen(self._emit)

    def warnings(self) -> list[str]:
        """What operators should change about this installation."""
        return [] if self._is_encrypted else [UNENCRYPTED]

    async def close(self) -> None:
        """Close the room."""
        if self._room is not None:
            if self._emit is not None:
                self._app.emit = self._emit
            await self._room.close()
            self._room = None

    def room(self) -> Room:
        """The open room."""
        if self._room is None:
            raise RuntimeError("concierge is not open: use `async with app:`")
        return self._room

    def context(self) -> Context:
        """What processors are given."""
        return self.room().context()

    async def receive(self, receipt: Receipt) -> None:
        """What a provider told of a message."""
        room = self.room()
        await room.deliveries.receive(receipt)
        room.safety.count("receipt", provider=receipt.provider, state=receipt.state)

    async def _facts(self) -> Mapping[str, Any]:
        metrics = await self._app.store.metrics(QUEUE)
        dead = await self._app.store.metrics(DEAD)
        info = await self._app.info(QUEUE)
        operating = info.consumer
        return {
            "backlog": metrics.backlog_messages,
            "deadLetters": dead.backlog_messages,
            "warnings": self.warnings(),
            "configuration": {
                "queue": QUEUE, "deadLetterQueue": DEAD, "paused": info.paused,
                "payloadsEncrypted": self._is_encrypted, "trailKeyed": bool(os.environ.get("CONVEYOR_PEPPER")),
                "maxBatchSize": operating.max_batch_size if operating else BATCH,
                "maxBatchTimeoutMs": operating.max_batch_timeout_ms if operating else 30_000,
                "maxRetries": operating.max_retries if operating else RETRIES,
                "maxConcurrency": operating.max_concurrency if operating else self._settings.workers,
                "retryDelaysMs": [_backoff(self._settings).delay_ms(each, 1.0) for each in range(1, RETRIES + 1)],
            },
        }  # fmt: skip


def _backoff(settings: Settings) -> Backoff:
    """2^attempt minutes: 2, 4, 8, 16, 32."""
    return Backoff(base_ms=round(settings.retry_s * 1000), factor=2.0)


async def _nobody(_job: ExportJob) -> None:
    raise RuntimeError("exports are not declared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Concierge:
    """The application and its parts."""

    app: Conveyor
    doorway: Doorway
    endpoints: Starlette


def build_concierge(
    settings: Settings | None = None, *, url: str | None = None, parts: Parts | None = None
) -> Concierge:
    """Build the application; settings that are not given are read from the environment. `ConveyorError`."""
    try:
        settings = settings or read_settings(os.environ)
    except SettingError as error:
        raise ConveyorError(str(error), hint=HINT) from error
    encrypted = _encrypted(url)
    is_encrypted = encrypted is not None or bool(os.environ.get("CONVEYOR_ENCRYPTED", "").strip())
    app = Conveyor("concierge", url=url, encrypted=encrypted)
    parts = parts or Parts(providers=open_providers, safety=open_safety)
    doorway = Doorway(app, settings, parts, is_encrypted=is_encrypted)
    app.on_open(doorway.open)
    app.on_close(doorway.close)
    declare_delivery(app, doorway, settings)
    doorway.start_export = declare_exports(app, doorway.context)
    declare_schedules(app, doorway.context)
    receipts = declare_receipts(app, settings, doorway.receive)

    @app.cron("* * * * *", name=WATCH, timezone="UTC", misfire="latest", overlap="skip")
    async def watch(_run: CronRun) -> None:
        room = doorway.room()
        await room.safety.look(room.facts, await room.providers.status())

    @app.cron("* * * * *", name=RELAY, timezone="UTC", misfire="latest", overlap="skip")
    async def relay(_run: CronRun) -> None:
        await doorway.room().messages.relay()

    endpoints = create_endpoints(doorway.room, receipts, https=settings.desk.public_url.startswith("https://"))
    app.mount(endpoints)
    return Concierge(app=app, doorway=doorway, endpoints=endpoints)


def _encrypted(url: str | None) -> list[str] | None:
    """The queues whose payloads lie encrypted, where a key is given, or one can be made beside the store; None: those
    that conveyor's own settings name."""
    chosen, files = url or os.environ.get("CONVEYOR_URL") or "sqlite:", os.environ.get("CONVEYOR_FILES")
    is_keyed = (
        chosen.startswith(OWN_KEY)
        or bool(os.environ.get("CONVEYOR_SECRETS_KEY"))
        or (bool(files) and (Path(files or "") / KEYS).is_file())
    )
    return [QUEUE, EXPORTS, RESEND_QUEUE, TWILIO_QUEUE] if is_keyed else None


def declare_delivery(app: Conveyor, doorway: Doorway, settings: Settings) -> None:
    """The document's consumer, and whoever hears of those that died without a word."""
    backoff = _backoff(settings)

    # Batches of ten are claimed, and each message of one is a call of its own: nothing waits 30 s for nine others, and
    # what becomes of one is nothing to its neighbours.
    @app.consumer(
        QUEUE,
        max_batch_size=BATCH,
        max_batch_timeout=BATCH_TIMEOUT,
        max_retries=RETRIES,
        retry_delay=backoff,
        max_concurrency=settings.workers,
        dead_letter_queue=DEAD,
        alert_queue=ALERTS,
        timeout=TIMEOUT,
    )
    async def deliver(message: Message[dict[str, Any]]) -> None:
        await _work(message, doorway.context(), backoff)

    @app.consumer(ALERTS, max_batch_size=1, max_retries=5, retry_delay="10s")
    async def hear(message: Message[DeadLetterAlert]) -> None:
        headers = message.body.headers or {}
        room = doorway.room()
        if "message" in headers:
            await room.deliveries.dead(str(headers["message"]), message.body.message_id, message.body.reason)
        elif "export" in headers:
            await room.exports.fail(str(headers["export"]), f"given up: {message.body.reason}")
        room.safety.count("dead_letter", reason=message.body.reason)


async def _work(message: Message[dict[str, Any]], context: Context, backoff: Backoff) -> None:
    """One job; what its failure means to the queue. No word of a message gets into a reason: those are shown."""
    try:
        job = read_job(message.body)
    except FieldError as error:
        raise Reject(str(error)) from None
    version = message.headers.get("version")
    carrier = Carrier(
        id=message.id, attempt=message.attempts, version=version if isinstance(version, int) else None,
        is_last=message.attempts > RETRIES,
    )  # fmt: skip
    with context.safety.job(job, message.attempts):
        later = await _attempt(job, context, carrier, backoff)
    if later is not None:
        raise Snooze(later.wait_ms / 1000)


async def _attempt(job: Job, context: Context, carrier: Carrier, backoff: Backoff) -> Later | None:
    kind, began_s = str(job.__struct_config__.tag), clock.monotonic_s()
    try:
        return await process(job, context, carrier)
    except TemporaryError as error:
        context.safety.count("job.retried", type=kind)
        wait_ms = max((error.after_s or 0) * 1000, backoff.delay_ms(carrier.attempt, 1.0))
        raise Retry(min(wait_ms / 1000, RETRY_S_MAX), reason=redact(str(error))) from None
    except Exception as error:  # noqa: BLE001  # what it says may hold what the message says: only its name goes on
        context.safety.count("job.retried", type=kind)
        context.safety.capture(error, type=kind, attempt=carrier.attempt)
        raise Retry(reason=type(error).__name__) from None
    finally:
        context.safety.observe("job", clock.monotonic_s() - began_s, type=kind)
