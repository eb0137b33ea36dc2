"""One open concierge: everything wired, in one process, from opening to closing."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from conveyor import Bucket, Conveyor
from conveyor_apps.pace import Pace
from conveyor_apps.tables import Database

from . import clock
from .audit import Trail
from .cleanup import Holds
from .context import Context, DeadLetters, Safety
from .deliveries import Deliveries
from .exports import Exports
from .inbox import Inbox
from .jobs import ExportJob
from .messages import Messages
from .outbox import Outbox
from .people import People
from .producer import Producer
from .providers import DeliveryService
from .settings import BUCKET, Settings
from .statements import all_statements
from .suppressions import Suppressions

LOGINS_A_MINUTE = 10


@dataclass(slots=True, kw_only=True)
class Room:
    """What consumers, schedules and endpoints work with."""

    settings: Settings
    database: Database
    trail: Trail
    messages: Messages
    deliveries: Deliveries
    inbox: Inbox
    people: People
    producer: Producer
    exports: Exports
    holds: Holds
    suppressions: Suppressions
    providers: DeliveryService
    bucket: Bucket
    safety: Safety
    start_export: Callable[[ExportJob], Awaitable[None]]
    dead_letters: DeadLetters
    facts: Callable[[], Awaitable[Mapping[str, Any]]]
    """How the queue stands, for `/debug/queue-status`."""
    rates: Pace
    logins: Pace

    def context(self) -> Context:
        """What processors are given."""
        return Context(
            settings=self.settings, database=self.database, messages=self.messages, deliveries=self.deliveries,
            trail=self.trail, providers=self.providers, bucket=self.bucket, safety=self.safety,
            notify=self.producer.notify, enqueue=self.producer.enqueue, start_export=self.start_export,
            dead_letters=self.dead_letters,
        )  # fmt: skip

    async def close(self) -> None:
        """Close what was opened."""
        try:
            await self.providers.close()
        finally:
            await self.safety.close()
            await self.database.close()


def file_of(app: Conveyor, settings: Settings, queue: str) -> tuple[Path, bool]:
    """Where concierge's tables lie, and whether that is the queue's own file."""
    url, scheme = app.routing.url, "sqlite:///"
    if url.startswith(scheme) and app.routing.store_of(queue) == "home":
        return Path(unquote(url.removeprefix(scheme).partition("?")[0])), True
    return settings.data / "concierge.db", False


async def open_room(
    app: Conveyor, settings: Settings, *, path: Path, joins: bool, providers: DeliveryService, safety: Safety,
    start_export: Callable[[ExportJob], Awaitable[None]], dead_letters: DeadLetters,
    facts: Callable[[], Awaitable[Mapping[str, Any]]],
) -> Room:  # fmt: skip
    """Open the file, and put everyone in their place."""
    database = Database(path, all_statements(), clock.now_ms)
    await database.open()
    await safety.open(database)
    trail = Trail(database, pepper=os.environ.get("CONVEYOR_PEPPER"))
    outbox = Outbox(app, joins=joins)
    messages, people = Messages(database, outbox, trail), People(database, trail, settings.desk)
    return Room(
        settings=settings, database=database, trail=trail, messages=messages, deliveries=Deliveries(database, trail),
        inbox=Inbox(database), people=people, producer=Producer(database, messages, people, outbox, trail),
        exports=Exports(database, trail), holds=Holds(database, trail),
        suppressions=Suppressions(database, trail), providers=providers,
        bucket=app.bucket(BUCKET), safety=safety, start_export=start_export, dead_letters=dead_letters, facts=facts,
        rates=_pace(settings.desk.rate), logins=_pace(LOGINS_A_MINUTE),
    )  # fmt: skip


def _pace(a_minute: int) -> Pace:
    """As many at once as in ten seconds, but ten at least."""
    return Pace(a_minute, at_once=max(10, a_minute // 6))
