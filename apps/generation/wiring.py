"""generation on conveyor: a queue of jobs, the alerts of those that died, a schedule that finds what a crash has left,
webhooks, and its own endpoints."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from starlette.applications import Starlette

from conveyor import (
    Backoff,
    ConflictError,
    Conveyor,
    ConveyorError,
    CronRun,
    DeadLetterAlert,
    JobContext,
    JobEvent,
    JobFunction,
    JobNotFoundError,
    JobState,
    Message,
    NotFoundError,
)

from .errors import SettingError
from .logbook import Write
from .provider_errors import ProviderRefusedError, SubmissionInDoubtError
from .records import GenerationJob, VideoResult
from .relay import Delivery
from .room import Outside, Room, open_room
from .secret import kept_secret
from .settings import BUCKET, QUEUE, DispatchMode, Settings, read_settings
from .web import create_endpoints
from .workflow import EndedError

JOB: Final = "generation"
ALERTS: Final = "generation-alerts"
SWEEP: Final = "generation-sweep"
CLEAR: Final = "generation-clear"
FETCH_S: Final = 600
"""For the download and the upload, beside the time that the video has."""
RETRY_DELAY: Final = Backoff.exponential("5s", most="2m")
WEBHOOK_SCHEDULE: Final = ("5s", "10s", "20s", "30s", "1m", "2m", "5m", "15m", "1h", "6h", "12h", "1d")
HINT: Final = "the table of settings is in generation's README.md"


class Doorway:
    """Opens the room when the app opens in a process, closes it when the app closes."""

    def __init__(
        self, app: Conveyor, settings: Settings, transport: httpx2.AsyncBaseTransport | None, write: Write | None
    ) -> None:
        self._app = app
        self.settings = settings
        self._transport = transport
        self._write = write
        self._room: Room | None = None
        self.job: JobFunction[GenerationJob, VideoResult | None] | None = None

    async def open(self) -> None:
        """Open the room. `ConveyorError` that says what is missing."""
        app = self._app
        outside = Outside(
            clock=lambda: app.store.clock, bucket=app.bucket(BUCKET), send=self._send, withdraw=self._withdraw,
            new_event_id=app.webhooks.new_id, send_event=app.webhooks.send, pending=self._pending,
            limiter=app.limiter, mode=self._mode, fate=self._fate, transport=self._transport, write=self._write,
        )  # fmt: skip
        try:
            await self._know_receiver()
            self._room = await open_room(self.settings, outside)
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
            raise RuntimeError("generation is not open: use `async with app:`")
        return self._room

    async def _send(self, job: GenerationJob, priority: int) -> str:
        assert self.job is not None
        sender = self.job.options(priority=priority, headers={"generation": job.generation_id})
        return (await sender.enqueue(job)).id

    async def _withdraw(self, job_id: str) -> None:
        try:
            await self._app.jobs.get(job_id).cancel()
        except JobNotFoundError:
            return

    async def _fate(self, job_id: str) -> tuple[JobState | None, str | None]:
        try:
            info = await self._app.jobs.get(job_id).info()
        except JobNotFoundError:
            return None, None
        return info.state, info.error

    async def _know_receiver(self) -> None:
        """Next.js is an endpoint with the secret that the settings give, or the one that is kept."""
        url = self.settings.webhook_url
        given = self.settings.webhook_secret.reveal() or kept_secret(self.settings.data)
        try:
            present = await self._app.webhooks.secret(url)
        except NotFoundError:
            try:
                await self._app.webhooks.add(url, secret=given, description="Next.js")
            except ConflictError:  # another process was first
                return
        else:
            if present != given:
                await self._app.webhooks.rotate(url, secret=given)

    async def hear(self, delivery: Delivery) -> None:
        """What came of a webhook's try."""
        await self.room().relay.hear(delivery)

    async def _pending(self) -> int:
        return (await self._app.queue(self._app.webhooks.queue).metrics()).backlog_messages

    async def _mode(self) -> DispatchMode:
        """As the queue is operated just now, whatever was declared."""
        consumer = (await self._app.info(QUEUE)).consumer
        return self.settings.dispatch if consumer is None else DispatchMode(consumer.dispatch.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationApp:
    """The application and its parts."""

    app: Conveyor
    doorway: Doorway
    job: JobFunction[GenerationJob, VideoResult | None]
    endpoints: Starlette


def create_generation() -> Conveyor:
    """The application as `conveyor serve` runs it: store and settings come from the environment."""
    return build_generation().app


def build_generation(
    settings: Settings | None = None,
    *,
    url: str | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    retry_delay: Backoff = RETRY_DELAY,
    write: Write | None = None,
    **given: Any,
) -> GenerationApp:
    """Build the application; settings that are not given are read from the environment, and from the `vars` of a
    wrangler file. `ConveyorError`."""
    app = Conveyor("generation", url=url, **given)
    try:
        settings = settings or read_settings({**{name: str(value) for name, value in app.vars.items()}, **os.environ})
    except SettingError as error:
        raise ConveyorError(str(error), hint=HINT) from error
    doorway = Doorway(app, settings, transport, write)
    app.on_open(doorway.open)
    app.on_close(doorway.close)
    # Whoever sets the environment may name any address.
    app.webhooks.configure(
        http=settings.nextjs_url.startswith("http://"), ports=None, allow=["0.0.0.0/0", "::/0"],
        schedule=WEBHOOK_SCHEDULE, ordered=True, on_try=doorway.hear,
    )  # fmt: skip
    job = doorway.job = declare_job(app, doorway, settings, retry_delay=retry_delay)
    declare_rescue(app, doorway)

    def follow(job_id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        return app.jobs.get(job_id).follow(after=after)

    endpoints = create_endpoints(settings, doorway.room, app.bucket(BUCKET), follow)
    app.mount(endpoints, on_stop=endpoints.state.stop)
    return GenerationApp(app=app, doorway=doorway, job=job, endpoints=endpoints)


def declare_job(
    app: Conveyor, doorway: Doorway, settings: Settings, *, retry_delay: Backoff
) -> JobFunction[GenerationJob, VideoResult | None]:
    """The queue of the generations, and what is done for each."""
    mode = settings.dispatch
    app.job_queue(
        QUEUE, max_concurrency=settings.workers if mode is DispatchMode.QUEUE else None, alert_queue=ALERTS,
        dispatch=mode.value,
    )  # fmt: skip

    @app.job(
        name=JOB,
        queue=QUEUE,
        max_retries=settings.tries - 1,
        backoff=retry_delay,
        errors={ProviderRefusedError: None, SubmissionInDoubtError: None, EndedError: None},
        timeout=settings.timeout_s + FETCH_S,
        unique=lambda job: job.generation_id,
    )
    async def generate(job: GenerationJob, context: JobContext) -> VideoResult | None:
        return await doorway.room().workflow.run(job, context)

    return generate


def declare_rescue(app: Conveyor, doorway: Doorway) -> None:
    """What ends without a word is told; what a crash left between two stores is taken on."""

    @app.consumer(ALERTS, max_batch_size=1, max_retries=5, retry_delay="10s")
    async def hear(message: Message[DeadLetterAlert]) -> None:
        await doorway.room().rescue.hear(message.body)

    @app.cron("* * * * *", name=SWEEP, timezone="UTC", misfire="latest", overlap="skip")
    async def sweep(_run: CronRun) -> None:
        await doorway.room().rescue.sweep()

    @app.cron("23 3 * * *", name=CLEAR, timezone="UTC", misfire="latest", overlap="skip")
    async def clear(_run: CronRun) -> None:
        await doorway.room().keeper.clear()
