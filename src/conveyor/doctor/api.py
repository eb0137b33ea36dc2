"""A store behind an API: all that can be seen from here is whether it answers, and what it says of its queues."""

from __future__ import annotations

import asyncio
from typing import Final

from conveyor.doctor.finding import Finding, fail, fine
from conveyor.model.errors import ConveyorError
from conveyor.store.records import QueueInfo
from conveyor.store.urls import make_store

PATIENCE_S: Final = 3


def is_behind_api(url: str) -> bool:
    """Whether nobody here can look into the store itself."""
    return url.startswith("cloudflare:")


def examine_api(url: str) -> list[Finding]:
    """Not within an event loop."""
    try:
        queues = asyncio.run(_list(f"{url}{'&' if '?' in url else '?'}patience={PATIENCE_S}"))
    except ConveyorError as error:
        return [fail("api", error.message, error.hint)]
    paused = [f"`{each.name}`" for each in queues if each.paused]
    return [fine("api", f"it answers: {len(queues)} queue(s)" + (f", paused: {', '.join(paused)}" if paused else ""))]


async def _list(url: str) -> list[QueueInfo]:
    store = make_store(url)
    await store.open()
    try:
        return await store.list_queues()
    finally:
        await store.close()
