"""Plotburn on conveyor: two queues, one schedule, its own endpoints. The only module that knows conveyor, but for
the alert that it sends."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2
from starlette.applications import Starlette

from conveyor import (
    Conveyor,
    ConveyorError,
    CronRun,
    DeadLetterAlert,
    Message,
    Outgoing,
    RateLimited,
    Reject,
    Retry,
    ScheduleBusyError,
)

from . import clock
from .endpoints import create_endpoints
from .errors import MovieGoneError, ProviderError, RateLimitedError, SettingError
from .movie import MovieJob
from .room import Room, open_room
from .runs import Begin, Cause
from .settings import Settings, read_settings

MOVIES = "movie-processing-queue"
MOVIES_DEAD = "movie-processing-dlq"
ALERTS = "plotburn-alerts"
DAILY = "daily"
SEND_COUNT = 100
RETRY_DELAY = "2s"
RUN_RETRIES = 2


class Doorway:
    """Opens the room when the app opens in a process, closes it when the app closes."""

    def __init__(self, app: Conveyor, settings: Settings | None, transport: httpx2.AsyncBaseTransport | None) -> None:
        self._app = app
        self._settings = settings
        self._transport = transport
        self._room: Room | None = None

    async def open(self) -> None:
        """Read the settings, unless they were given, and open the room."""
        try:
            settings = self._settings or read_settings(os.environ)
        except SettingError as error:
            raise ConveyorError(str(error), hint="the table of settings is in plotburn's README.md") from error
        self._room = await open_room(settings, self._app.kv, self._transport)

    async def close(self) -> None:
        """Close the room."""
        if self._room is not None:
            await self._room.close()
            self._room = None

    def room(self) -> Room:
        """The open room."""
        if self._room is None:
            raise RuntimeError("plotburn is not open: use `async with app:`")
        return self._room


@dataclass(frozen=True, slots=True, kw_only=True)
class Plotburn:
    """The application and its parts."""

    app: Conveyor
    doorway: Doorway
    endpoints: Starlette


def create_plotburn() -> Conveyor:
    """The application as `conveyor serve` runs it: store and settings come from the environment."""
    return build_plotburn().app


def build_plotburn(
    settings: Settings | None = None,
    *,
    url: str | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    retry_delay: str = RETRY_DELAY,
) -> Plotburn:
    """Build the application; what is not given is read from the environment when it opens."""
    app = Conveyor("plotburn", url=url)
    doorway = Doorway(app, settings, transport)
    app.on_open(doorway.open)
    app.on_close(doorway.close)
    declare_consumers(app, doorway, retry_delay=retry_delay)
    declare_schedule(app, doorway)
    endpoints = create_endpoints(doorway.room, lambda run: start_run(app, run))
    app.mount(endpoints)
    return Plotburn(app=app, doorway=doorway, endpoints=endpoints)


async def start_run(app: Conveyor, run: str) -> bool:
    """Whether the daily schedule runs now, and was not skipped for the run before it."""
    try:
        await app.trigger(DAILY, correlation_id=run)
    except ScheduleBusyError:
        return False
    return True


def declare_consumers(app: Conveyor, doorway: Doorway, *, retry_delay: str) -> None:
    """The movies, and the alerts about those that failed for good."""

    @app.consumer(
        MOVIES,
        max_batch_size=1,
        max_concurrency=2,
        max_retries=3,
        retry_delay=retry_delay,
        dead_letter_queue=MOVIES_DEAD,
        alert_queue=ALERTS,
    )
    async def roast(message: Message[MovieJob]) -> None:
        try:
            await doorway.room().kitchen.cook(message.body, place="Queue")
        except ProviderError as error:
            raise verdict_on(error) from error

    @app.consumer(ALERTS, max_batch_size=1, max_retries=5, retry_delay="10s")
    async def hear(message: Message[DeadLetterAlert]) -> None:
        await doorway.room().alerts.hear(message.body)


def declare_schedule(app: Conveyor, doorway: Doorway) -> None:
    """Every day at 16:30 UTC, which is 10 PM in India."""

    # A run that lost its worker goes on where it was: the retries are for that, errors of its own are final.
    @app.cron("30 16 * * *", name=DAILY, timezone="UTC", misfire="latest", overlap="skip", max_retries=RUN_RETRIES)
    async def daily(run: CronRun) -> None:
        async def send(jobs: Sequence[MovieJob]) -> None:
            queue = app.queue(MOVIES)
            for start in range(0, len(jobs), SEND_COUNT):
                await queue.send_batch([outgoing(job) for job in jobs[start : start + SEND_COUNT]])

        try:
            await doorway.room().daily.run(begin_of(run), send)
        except ProviderError as error:
            raise Reject(str(error)) from error


def outgoing(job: MovieJob) -> Outgoing:
    """The message of one movie; the headers are for the alert, if it dies."""
    return Outgoing(job, headers={"run": job.correlation_id, "movie_id": str(job.movie_id), "title": job.title})


def begin_of(run: CronRun) -> Begin:
    """The run in plotburn's words; a tick's name is the same in every delivery."""
    tick_ms = clock.to_ms(run.tick)
    if run.trigger == "manual":
        return Begin(run=run.correlation_id, cause=Cause.MANUAL, tick_ms=tick_ms)
    return Begin(run=f"cron-{tick_ms}", cause=Cause.SCHEDULED, tick_ms=tick_ms)


def verdict_on(error: ProviderError) -> RateLimited | Reject | Retry:
    """What a provider's failure means to the message."""
    if isinstance(error, RateLimitedError):
        return RateLimited(error.after_s, reason=str(error))
    if isinstance(error, MovieGoneError):
        return Reject(str(error))
    return Retry(reason=str(error))
