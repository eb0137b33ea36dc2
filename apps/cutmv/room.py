"""One open cutmv: everything wired, in one process, from opening to closing."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx2

from conveyor import Bucket
from conveyor_apps.tables import Database, read_statements

from . import clock
from .cleaning import Cleaning
from .dispatch import Direct, Dispatch, Send
from .ffmpeg import find_tools
from .hub import Hub
from .metrics import Depth, Gauges
from .orders import Orders, Way
from .reports import TIMEOUT_S, LocalReporter, NearestReporter, Report, Reporter, WebhookReporter
from .settings import Settings
from .uploads import Uploads
from .workfolder import sweep
from .workshop import Workshop

Alert = Callable[[str, str], Awaitable[None]]
"""Tells operators of an order that failed, and why."""


@dataclass(slots=True, kw_only=True)
class Room:
    """What consumers, schedule and endpoints work with."""

    settings: Settings
    secret: bytes
    database: Database
    client: httpx2.AsyncClient
    bucket: Bucket
    hub: Hub
    orders: Orders
    uploads: Uploads
    workshop: Workshop
    reporter: Reporter
    direct: Direct
    dispatch: Dispatch
    cleaning: Cleaning
    gauges: Gauges
    is_serving: bool = False
    """Whether browsers talk to this process."""
    resuming: asyncio.Task[None] | None = None

    async def start_serving(self) -> None:
        """From now on browsers come; what a former server left is taken up."""
        self.is_serving = True
        await self.uploads.open()
        adrift = await self.orders.adrift()
        self.resuming = asyncio.create_task(self.dispatch.resume(adrift))

    async def stop_serving(self) -> None:
        """Browsers are let go, and come back to the next server."""
        self.hub.close_all()
        if self.resuming is not None:
            self.resuming.cancel()
            await asyncio.wait({self.resuming})
        await self.direct.close()
        await self.uploads.close()
        self.is_serving = False

    async def close(self) -> None:
        """Close what was opened."""
        await self.client.aclose()
        await self.database.close()


async def open_room(settings: Settings, bucket: Bucket, *, send: Send, depth: Depth, alert: Alert) -> Room:
    """Open the file and the client, and put everyone in their place. `SettingError`."""
    tools = find_tools(os.environ)
    secret = settings.secret()
    sweep(settings.work)
    database = Database(settings.database, read_statements("conveyor_apps.cutmv", "ledger.sql"), clock.now_ms)
    await database.open()
    hub = Hub()
    orders = Orders(database, hub)
    orders.on_failed = alert
    uploads = Uploads(database, bucket, tools, settings)
    client = httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)
    far = WebhookReporter(client, settings.webhook_url, secret)

    def is_serving() -> bool:
        return room.is_serving

    def takes(way: Way) -> Callable[[Report], Awaitable[bool]]:
        async def take(report: Report) -> bool:
            return await orders.take(report, way=way)

        return take

    reporter = NearestReporter(is_serving, LocalReporter(takes(Way.QUEUE)), far)

    def workshop(told: Reporter) -> Workshop:
        return Workshop(bucket, tools, told, root=settings.work, limits=settings.limits)

    direct = Direct(workshop(LocalReporter(takes(Way.DIRECT))), orders, at_once=settings.workers)
    where = "Cloudflare Queues" if settings.cloudflare else "the embedded queue"
    dispatch = Dispatch(send, orders, direct, where=where)
    room = Room(
        settings=settings, secret=secret, database=database, client=client, bucket=bucket, hub=hub, orders=orders,
        uploads=uploads, workshop=workshop(reporter), reporter=reporter, direct=direct, dispatch=dispatch,
        cleaning=Cleaning(database, bucket, orders, uploads, reporter, settings),
        gauges=Gauges(
            depth, orders, hub, dispatch, queue=settings.queue, is_configured=settings.cloudflare is not None
        ),
    )  # fmt: skip
    return room
