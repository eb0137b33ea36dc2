"""The primary is gone and its standby takes over, under load (F26)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conveyor.model.errors import OutcomeUnknownError
from conveyor.model.ids import IdSource
from conveyor.model.message import Draft
from conveyor.model.settings import QueueSettings
from conveyor.model.verdict import Settlement
from conveyor.store.postgres import PostgresStore
from conveyor.store.records import ClaimRequest
from kit.postgres import DURABLE, Server
from kit.scene import an_owner

pytestmark = pytest.mark.anyio

WRITES_AGAIN_S = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Pair:
    """A primary and its standby."""

    def __init__(self, *, synchronous: bool) -> None:
        self.primary, self.standby = Server(**DURABLE), Server(**DURABLE)
        self.primary.initialize()
        self.standby.follow(self.primary, "standby")
        if synchronous:
            self.primary.settings["synchronous_standby_names"] = "standby"

    def start(self) -> None:
        """Where commits wait for the standby, the first one waits for it to follow."""
        self.primary.start()
        self.standby.start()

    def url(self) -> str:
        """Both, the standby first: it must be passed over."""
        user, place = self.primary.url().split("@")
        return f"{user}@127.0.0.1:{self.standby.port},{place}"

    def remove(self) -> None:
        self.primary.remove()
        self.standby.remove()


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(synchronous=request.param == "synchronous")
    yield pair
    pair.remove()


@pytest.mark.parametrize(
    "pair", ["synchronous", pytest.param("asynchronous", marks=pytest.mark.campaign)], indirect=True
)
async def test_a_promoted_standby_goes_on_with_every_confirmed_send(
    pair: Pair, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pair.start()
    store = PostgresStore(pair.url())
    await store.open()
    await store.create_queue("jobs", QueueSettings())
    load = Load(store)
    working, sending = asyncio.ensure_future(load.work()), [asyncio.ensure_future(load.send()) for _ in range(10)]
    await load.until(lambda: len(load.sent) > 300)
    await asyncio.to_thread(pair.primary.stop, "immediate")
    promoted_at = await asyncio.to_thread(pair.standby.promote)
    await load.until(lambda: any(at > promoted_at for at in load.sent.values()))
    writes_again_s = min(at for at in load.sent.values() if at > promoted_at) - promoted_at
    await load.until(lambda: sum(at > promoted_at for at in load.sent.values()) > 200)
    load.is_over = True
    async with asyncio.timeout(60):
        await asyncio.gather(*sending)
        load.is_all_sent = True
        await working
    lost = load.sent.keys() - load.done
    figures = {"sent": len(load.sent), "lost": len(lost), "writes_again_s": round(writes_again_s, 3)}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    assert load.done <= load.tried
    if "asynchronous" not in request.node.name:
        assert not lost
    else:  # the campaign's, on a calm machine
        assert writes_again_s <= WRITES_AGAIN_S
    await store.close()


class Load:
    """Sends and a worker on one store; what was confirmed, and when."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._ids = IdSource(store.clock)
        self.is_over = False
        self.is_all_sent = False
        self.tried: set[bytes] = set()
        self.sent: dict[bytes, float] = {}
        self.done: set[bytes] = set()

    async def send(self) -> None:
        while not self.is_over:
            draft = Draft(id=self._ids.new(), queue="jobs", body=b"1")
            self.tried.add(draft.id)
            await self._store.append([draft])
            self.sent[draft.id] = time.monotonic()

    async def work(self) -> None:
        """Until there is nothing left."""
        owner = await an_owner(self._store)
        while True:
            is_all_sent = self.is_all_sent  # before the claim
            try:
                claimed = await self._store.claim(ClaimRequest(queue="jobs", owner=owner, limit=50))
            except OutcomeUnknownError:  # as every worker then does
                await self._store.reconcile(owner, "jobs", [], calls=0)
                continue
            settled = await self._store.settle(owner, [Settlement(lease.seq, lease.claim) for lease in claimed.leases])
            lost = set(settled.lost)
            self.done |= {lease.id for lease in claimed.leases if lease.seq not in lost}
            if is_all_sent and not claimed.leases:
                return

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await self._store.clock.sleep(0.01)
