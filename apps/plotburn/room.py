"""One open plotburn: everything wired, in one process, from opening to closing."""

import asyncio
from dataclasses import dataclass
from typing import Final

import httpx2

from conveyor_apps.tables import Database, read_statements

from . import clock
from .alerts import Alerts
from .bulletin import Bulletin
from .caches import Caches, OpenNamespace
from .crew import hire
from .daily import Daily, Kitchen, NowPlayingList
from .journal import Journal
from .provider import new_client
from .roaster import Roaster
from .roasts import Roasts
from .runs import Runs
from .settings import Settings

ROASTS_ON_DEMAND: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What consumers, schedule and endpoints work with."""

    settings: Settings
    database: Database
    client: httpx2.AsyncClient
    caches: Caches
    roasts: Roasts
    runs: Runs
    journal: Journal
    bulletin: Bulletin
    roaster: Roaster
    listing: NowPlayingList
    kitchen: Kitchen
    daily: Daily
    alerts: Alerts
    on_demand: asyncio.Semaphore

    async def close(self) -> None:
        """Close what was opened."""
        await self.client.aclose()
        await self.database.close()


async def open_room(
    settings: Settings, open_namespace: OpenNamespace, transport: httpx2.AsyncBaseTransport | None = None
) -> Room:
    """Open the file and the client, and put everyone in their place."""
    settings.check()
    database = Database(settings.database, read_statements("conveyor_apps.plotburn", "ledger.sql"), clock.now_ms)
    await database.open()
    client = new_client(settings.provider_timeout_s, transport)
    caches = Caches(open_namespace, version=settings.kv_version, log_days=settings.log_retention_days)
    crew = hire(settings, client)
    runs, roasts = Runs(database), Roasts(database)
    journal = Journal(database, days=settings.log_retention_days)
    bulletin = Bulletin(runs, journal, caches, history_limit=settings.cron_history_limit)
    roaster = Roaster(crew, roasts, caches)
    listing = NowPlayingList(crew, caches, limit=settings.movies_limit)
    kitchen = Kitchen(roaster, journal, bulletin)
    return Room(
        settings=settings,
        database=database,
        client=client,
        caches=caches,
        roasts=roasts,
        runs=runs,
        journal=journal,
        bulletin=bulletin,
        roaster=roaster,
        listing=listing,
        kitchen=kitchen,
        daily=Daily(settings, listing, kitchen, runs, journal, bulletin),
        alerts=Alerts(runs, journal, bulletin, client, settings.alert_webhook),
        on_demand=asyncio.Semaphore(ROASTS_ON_DEMAND),
    )
