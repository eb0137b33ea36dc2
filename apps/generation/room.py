"""One open generation: everything wired, in one process, from opening to closing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from conveyor import Bucket, Limiter
from conveyor_apps.tables import Database, read_statements

from .clients import open_providers
from .desk import Desk, Send, Withdraw
from .google import Call, new_client
from .keeping import Keeper
from .ledger import Ledger
from .limits import ProviderLimits
from .logbook import Component, Logbook, Write
from .relay import Relay, SendEvent
from .rescue import Fate, Rescue
from .settings import Settings
from .status import PROVIDER_CALLS, PROVIDER_ERRORS, Operated, Pending, Statistics
from .workflow import Clock, Workflow

PROVIDER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the room reaches beyond its own walls: conveyor, in the app's words."""

    clock: Callable[[], Clock]
    bucket: Bucket
    send: Send
    withdraw: Withdraw
    new_event_id: Callable[[], str]
    send_event: SendEvent
    pending: Pending
    limiter: Callable[[str, str], Limiter]
    mode: Operated
    fate: Fate
    transport: httpx2.AsyncBaseTransport | None = None
    """In place of the network."""
    write: Write | None = None
    """Takes the log's lines in place of stderr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the job, the schedule and the endpoints work with."""

    settings: Settings
    database: Database
    ledger: Ledger
    statistics: Statistics
    desk: Desk
    relay: Relay
    keeper: Keeper
    rescue: Rescue
    workflow: Workflow
    log: Logbook
    client: httpx2.AsyncClient
    calls: "CallCounter"

    async def close(self) -> None:
        """Close what was opened."""
        await self.client.aclose()
        await self.calls.close()
        await self.database.close()


@dataclass(slots=True)
class CallCounter:
    """Hears of each call of a provider: logs it, and counts it."""

    log: Logbook
    statistics: Statistics
    _counting: set[asyncio.Task[None]] = field(default_factory=set)

    def hear(self, call: Call) -> None:
        """One call that has ended."""
        say = self.log.debug if call.outcome == "ok" else self.log.warning  # what came of it is said beside
        say(
            Component.PROVIDER, "Provider call", provider=call.provider, verb=call.verb, outcome=call.outcome,
            status=call.status,
        )  # fmt: skip
        names = [PROVIDER_CALLS] if call.outcome == "ok" else [PROVIDER_CALLS, PROVIDER_ERRORS]
        for name in names:
            task = asyncio.create_task(self.statistics.count(name))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)

    async def close(self) -> None:
        """What was heard is written."""
        if self._counting:
            await asyncio.wait(set(self._counting))


async def open_room(settings: Settings, outside: Outside) -> Room:
    """Open the file and the client, and put everyone in their place."""

    def now_ms() -> int:
        return outside.clock().now_ms()

    statements = read_statements("conveyor_apps.generation", "ledger.sql")
    database = Database(settings.database, statements, now_ms)
    await database.open()
    log = Logbook(now_ms, style=settings.log_style, least=settings.log_level, write=outside.write)
    ledger = Ledger(database, outside.new_event_id)
    statistics = Statistics(database, outside.mode, outside.pending)
    client = new_client(PROVIDER_TIMEOUT_S, outside.transport)
    relay = Relay(ledger, statistics, log, send=outside.send_event, url=settings.webhook_url)
    calls = CallCounter(log, statistics)
    workflow = Workflow(
        settings, ledger, statistics, log, providers=open_providers(settings, client, tell=calls.hear),
        bucket=outside.bucket, hand=relay.hand, time=outside.clock, mode=outside.mode,
        withdraw=outside.withdraw,
        limits=ProviderLimits(outside.limiter, settings.provider_rate, now_ms),
    )  # fmt: skip
    desk = Desk(settings, ledger, statistics, log, send=outside.send, withdraw=outside.withdraw, hand=relay.hand)
    return Room(
        settings=settings, database=database, ledger=ledger, statistics=statistics, relay=relay, workflow=workflow,
        keeper=Keeper(ledger, outside.bucket, log, settings.keep_s), log=log, client=client, calls=calls,
        desk=desk, rescue=Rescue(ledger, desk, statistics, log, hand=relay.hand, fate=outside.fate),
    )  # fmt: skip
