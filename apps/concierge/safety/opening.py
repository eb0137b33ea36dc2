"""The one who is told of everything, and tells logs, metrics and Sentry of it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Final

import msgspec

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.settings import Settings
from conveyor_apps.tables import Database

from .alerts import Alert, call_webhook, look
from .logs import Hooks, Lines
from .metrics import FLUSH_S, Meter, metrics_text
from .redaction import hiding, redact
from .sentry import Sentry

MONITOR: Final = "concierge-watch"
_WARNINGS: Final = frozenset({"failed", "refused", "captured", "raised"})
_hooks: list[tuple[object, Hooks]] = []
"""Of this process: the first who opens installs them."""


def open_safety(settings: Settings) -> "Watch":
    """As the settings say. `SettingError`."""
    watch = settings.watch
    return Watch(Sentry(watch.sentry_dsn.reveal(), traces=watch.traces_percent / 100), webhook=watch.alert_webhook)


class Watch:
    """`context.Safety`. Nothing here raises or waits, but for `open`, `close` and `look`."""

    def __init__(self, sentry: Sentry, *, webhook: str = "", out: Callable[[], IO[str]] | None = None) -> None:
        self.sentry = sentry
        self.lines = Lines() if out is None else Lines(out)
        self._webhook = webhook
        self._meter = Meter()
        self._database: Database | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def open(self, database: Database) -> None:
        """From now on what is counted goes into the table, and the process speaks by our lines."""
        self._database = database
        if not _hooks:
            _hooks.append((self, Hooks(self.lines)))
        self._flushing = asyncio.create_task(self._flush_often(database))

    async def close(self) -> None:
        """Write down what is left, and send it off."""
        if self._flushing is not None:
            self._flushing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flushing
            self._flushing = None
        if self._database is not None:
            await self._flush(self._database)
        await self.sentry.close()
        for owner, hooks in list(_hooks):
            if owner is self:
                hooks.undo()
                _hooks.clear()

    # What is told

    @contextmanager
    def job(self, job: object, attempt: int) -> Iterator[None]:
        """Around one attempt of a job."""
        facts = {**_facts_of(job), "attempt": attempt}
        with hiding(job), self.sentry.job(facts):
            self.breadcrumb("job.begun", **facts)
            try:
                yield
            finally:
                self.breadcrumb("job.over", **facts)

    def breadcrumb(self, event: str, **facts: str | float) -> None:
        """One step of the way."""
        level = "warning" if event.rpartition(".")[2] in _WARNINGS else "info"
        self.lines.say(event, facts, level)
        self.sentry.breadcrumb(event, facts, level)
        if event.startswith("message.") and "provider" in facts:
            self._meter.add("carried", {"provider": str(facts["provider"]), "outcome": event.rpartition(".")[2]})

    def warn(self, event: str, words: str) -> None:
        """Something about this installation that its operators should change."""
        self.lines.warn(event, words)

    def capture(self, error: BaseException, **facts: str | float) -> None:
        """Something that somebody should look at."""
        self.lines.say("error.captured", {**facts, "reason": type(error).__name__}, "error")
        self.lines.crash("error", error)
        self.sentry.capture(error, facts)
        self._meter.add("errors", {"type": type(error).__name__})

    def count(self, event: str, **labels: str) -> None:
        """One more of these."""
        self._meter.add(event.replace(".", "_"), labels)

    def observe(self, event: str, seconds: float, **labels: str) -> None:
        """How long it took."""
        self._meter.add(f"{event.replace('.', '_')}_seconds", labels, seconds)

    def listen(self, emit: Callable[[Any], None]) -> Callable[[Any], None]:
        """Conveyor's own events on their way to its log: with the kind of an error, and none of its words."""

        def heard(event: Any) -> None:
            self._meter.add("queue_events", {"event": str(event.name).removeprefix("conveyor.")})
            emit(_without_words(event))

        return heard

    # For operators

    async def text(self, facts: Callable[[], Awaitable[Mapping[str, Any]]], providers: list[dict[str, object]]) -> str:
        """Prometheus' text format."""
        assert self._database is not None
        await self._flush(self._database)
        return await metrics_text(self._database, facts, providers)

    async def look(
        self, facts: Callable[[], Awaitable[Mapping[str, Any]]], providers: list[dict[str, object]]
    ) -> list[Alert]:
        """Once a minute: tell what is wrong, and what is not any more. `WebhookError`."""
        assert self._database is not None
        began_s = clock.monotonic_s()
        check_in = self.sentry.check_in(MONITOR, "in_progress")
        try:
            alerts = await look(self._database, facts, providers, self._tell)
        except BaseException:
            self.sentry.check_in(MONITOR, "error", id=check_in, seconds=clock.monotonic_s() - began_s)
            raise
        self.sentry.check_in(MONITOR, "ok", id=check_in, seconds=clock.monotonic_s() - began_s)
        return alerts

    async def _tell(self, alert: Alert) -> None:
        level, state = ("info", "resolved") if alert.is_over else ("warning", "firing")
        self.lines.say("alert", {"alert": alert.name, "state": state}, level)
        self._meter.add("alerts_told", {"alert": alert.name.partition(".")[0], "state": state})
        self.sentry.tell(f"{state}: {alert.detail}", {"alert": alert.name, "state": state}, level)
        if self._webhook:
            await call_webhook(self._webhook, alert)

    async def _flush_often(self, database: Database) -> None:
        while True:
            await clock.pause(FLUSH_S)
            await self._flush(database)

    async def _flush(self, database: Database) -> None:
        try:
            await self._meter.flush(database)
        except Exception as error:  # noqa: BLE001  # it is counted still, and tried again
            self.lines.crash("metrics.not_written", error)


def _facts_of(job: object) -> dict[str, str | float]:
    """What may be said of a job: its type and its ids."""
    names = {"message_id": "message", "export_id": "export", "target": "target"}
    found = {shown: str(getattr(job, name)) for name, shown in names.items() if hasattr(job, name)}
    config = getattr(job, "__struct_config__", None)
    return {**found, "type": str(config.tag if config is not None else type(job).__name__)}


def _without_words(event: Any) -> Any:
    """An error in an event is text by now: what stands before its words is kept."""
    error = getattr(event, "error", None)
    if not isinstance(error, str):
        return event
    return msgspec.structs.replace(event, error=redact(error.partition(":")[0]))
