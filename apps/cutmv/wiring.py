"""Cutmv on conveyor: a queue of orders, a schedule that cleans up, its own endpoints."""

import os
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette

from conveyor import Backoff, Conveyor, ConveyorError, CronRun, DeadLetterAlert, Message, Outgoing, Retry

from .endpoints import create_endpoints
from .errors import SettingError
from .logbook import say
from .reports import Kind, Report
from .room import Room, open_room
from .settings import BUCKET, Settings, read_settings, routes_of, stores_of
from .words import Order
from .workshop import RETRIES, TROUBLE

ALERTS = "cutmv-alerts"
CLEANING = "cutmv-cleaning"
RETRY_DELAY = Backoff.exponential("2s", most="10m")
ORDER_TIMEOUT = "2h"
HINT = "the table of settings is in cutmv's README.md"


class Doorway:
    """Opens the room when the app opens in a process, closes it when the app closes."""

    def __init__(self, app: Conveyor, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._room: Room | None = None

    async def open(self) -> None:
        """Open the room. `ConveyorError` that says what is missing."""
        settings = self._settings
        try:
            self._room = await open_room(
                settings, self._app.bucket(BUCKET), send=self._send(settings), depth=self._depth(settings),
                alert=self._alert(settings),
            )  # fmt: skip
        except SettingError as error:
            raise ConveyorError(str(error), hint=HINT) from error

    async def close(self) -> None:
        """Close the room."""
        if self._room is not None:
            await self._room.close()
            self._room = None

    def room(self) -> Room:
        """The open room."""
        if self._room is None:
            raise RuntimeError("cutmv is not open: use `async with app:`")
        return self._room

    def _send(self, settings: Settings) -> Any:
        async def send(order: Order) -> None:
            if settings.cloudflare is not None:  # whose wire carries no headers
                await self._app.queue(settings.queue).send(order)
                return
            headers = {"order": order.id, "generation": str(order.generation)}
            await self._app.queue(settings.queue).send_batch([Outgoing(order, headers=headers)])

        return send

    def _depth(self, settings: Settings) -> Any:
        async def depth() -> int:
            found = await self._app.store.metrics(settings.queue)
            return found.backlog_messages

        return depth

    def _alert(self, settings: Settings) -> Any:
        async def alert(order: str, error: str) -> None:
            say(f"❌ Job failed: {order}: {error}")
            if settings.alert_webhook:
                await self._app.webhooks.send(settings.alert_webhook, "order.failed", {"order": order, "error": error})

        return alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutmv:
    """The application and its parts."""

    app: Conveyor
    doorway: Doorway
    endpoints: Starlette


def create_cutmv() -> Conveyor:
    """The application as `conveyor serve` runs it: store and settings come from the environment."""
    return build_cutmv().app


def build_cutmv(
    settings: Settings | None = None, *, url: str | None = None, retry_delay: Backoff = RETRY_DELAY
) -> Cutmv:
    """Build the application; settings that are not given are read from the environment. `ConveyorError`."""
    try:
        settings = settings or read_settings(os.environ)
    except SettingError as error:
        raise ConveyorError(str(error), hint=HINT) from error
    cloudflare = settings.cloudflare
    if cloudflare is None:
        app = Conveyor("cutmv", url=url)
    else:
        app = Conveyor("cutmv", url=url, stores=stores_of(cloudflare), routes=routes_of(cloudflare))
    doorway = Doorway(app, settings)
    app.on_open(doorway.open)
    app.on_close(doorway.close)
    if settings.alert_webhook:  # whoever sets the environment may name any address
        app.webhooks.configure(http=True, ports=None, allow=["0.0.0.0/0", "::/0"])
    declare_worker(app, doorway, settings, retry_delay=retry_delay)

    @app.cron("17 * * * *", name=CLEANING, timezone="UTC", misfire="latest", overlap="skip")
    async def clean(_run: CronRun) -> None:
        await doorway.room().cleaning.run()

    endpoints = create_endpoints(doorway.room)
    app.mount(endpoints)
    return Cutmv(app=app, doorway=doorway, endpoints=endpoints)


def declare_worker(app: Conveyor, doorway: Doorway, settings: Settings, *, retry_delay: Backoff) -> None:
    """The orders; and, where the queue's store can tell of them, those that died without a word."""
    alerts = settings.cloudflare is None

    @app.consumer(
        settings.queue,
        max_batch_size=1,
        max_concurrency=settings.workers,
        max_retries=RETRIES,
        retry_delay=retry_delay,
        alert_queue=ALERTS if alerts else None,
        timeout=ORDER_TIMEOUT,
    )
    async def process(message: Message[Order]) -> None:
        try:
            await doorway.room().workshop.work(message.body, attempt=message.attempts)
        except TROUBLE as error:
            raise Retry(reason=f"{type(error).__name__}: {error}"[:300]) from error

    if not alerts:
        return

    @app.consumer(ALERTS, max_batch_size=1, max_retries=5, retry_delay="10s")
    async def hear(message: Message[DeadLetterAlert]) -> None:
        alert, headers = message.body, message.body.headers or {}
        if "order" not in headers:
            return
        report = Report(
            order=str(headers["order"]), generation=int(headers["generation"]), attempt=alert.attempts,
            kind=Kind.FAILED, error=f"It failed {alert.attempts} times ({alert.reason}). You can try again.",
        )  # fmt: skip
        await doorway.room().reporter.tell(report)
