"""Limits in front of long queues: what a claim does depends on what it takes, not on what waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conveyor.model.duration import DAY_MS
from conveyor.model.rate import Rate
from conveyor.model.settings import QueueSettings
from conveyor.store.gates import PAST_MAX
from conveyor.store.postgres import PostgresStore
from conveyor.store.postgres.transaction import Transaction
from conveyor.store.protocol import Store
from conveyor.store.records import OwnerInfo
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_claim, a_consumer, a_draft, an_ack
from kit.backlog import fill_file, fill_schema
from kit.postgres import the_server

pytestmark = pytest.mark.anyio

OLD = 1_100
LONG = 10_000
HUGE = 30_000
STATEMENTS_MAX = 25


class Bench:
    """A store whose statements are counted, with a queue that another key has filled."""

    def __init__(self, kind: str, folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.path, self.url = folder / "store.db", "" if kind == "sqlite" else the_server().url()
        self.store: Store = PostgresStore(self.url, clock=clock) if self.url else SQLiteStore(self.path, clock=clock)
        self.statements: list[str] = []
        if self.url:
            for verb in ("row", "rows", "run", "run_many"):
                self._count_calls(monkeypatch, verb)

    def _count_calls(self, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
        original = getattr(Transaction, verb)

        def counted(transaction: Transaction, name: str, *values: object) -> object:
            self.statements.append(name)
            return original(transaction, name, *values)

        monkeypatch.setattr(Transaction, verb, counted)

    async def fill(self, count: int, *, age_ms: int = 0, **consumer: object) -> None:
        now = self.clock.now_ms() - age_ms
        await self.store.create_queue("inbox", QueueSettings())
        if self.url:
            await fill_schema(self.url, queue="inbox", key="long", count=count, now=now)
        else:
            fill_file(self.path, queue="inbox", key="long", count=count, now=now)
        await self.store.put_consumer("inbox", a_consumer(**consumer))
        if isinstance(self.store, SQLiteStore):
            connection = self.store._live._connection
            assert connection is not None
            connection.set_profile(lambda text, _ns: self.statements.append(text))

    async def worker(self) -> int:
        return await self.store.register_owner(OwnerInfo(app="t", host=self.store.host, pid=1, supervisor_pid=1))


@pytest.fixture(params=["sqlite", "postgres"])
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    bench = Bench(request.param, tmp_path, clock, monkeypatch)
    await bench.store.open()
    yield bench
    await bench.store.close()


@pytest.mark.parametrize("gate", [{"key_rate": Rate(2, 60_000)}, {"key_concurrency": 2}], ids=["rate", "concurrency"])
async def test_a_claim_does_not_wade_through_what_waits_behind_a_closed_key(
    bench: Bench, gate: dict[str, object]
) -> None:
    await bench.fill(LONG, **gate)  # type: ignore[arg-type]  # `age_ms` is none of them
    worker, store = await bench.worker(), bench.store
    first = await store.claim(a_claim(owner=worker))
    assert [lease.key for lease in first.leases] == ["long", "long"]
    while (await store.claim(a_claim(owner=worker))).opens_at == bench.clock.now_ms():
        pass  # so long a queue is put aside in portions
    await store.append([a_draft(key="short")])
    bench.statements.clear()
    second = await store.claim(a_claim(owner=worker))
    assert [lease.key for lease in second.leases] == ["short"]
    assert len(bench.statements) <= STATEMENTS_MAX, bench.statements
    bench.statements.clear()
    await store.settle(worker, [an_ack(lease) for lease in first.leases])
    assert len(bench.statements) <= STATEMENTS_MAX, bench.statements
    await bench.clock.advance(62)
    worker = await bench.worker()
    bench.statements.clear()
    third = await store.claim(a_claim(owner=worker))
    assert [lease.key for lease in third.leases] == ["long", "long"]
    assert len(bench.statements) <= STATEMENTS_MAX, bench.statements


@pytest.mark.parametrize(("weights", "wait"), [({}, 1), ({"long": 3}, 3)], ids=["1:1", "3:1"])
async def test_a_huge_queue_of_one_key_delays_another_by_no_more_than_its_turn(
    bench: Bench, weights: dict[str, int], wait: int
) -> None:
    await bench.fill(HUGE, fair=True, key_weights=weights)
    store = bench.store
    workers = [await bench.worker(), await bench.worker()]
    for number in range(5):
        (lease,) = (await store.claim(a_claim(owner=workers[number % 2], limit=1))).leases
        assert lease.key == "long"
    for _ in range(3):
        await store.append([a_draft(key="short")])
        bench.statements.clear()
        found: list[str | None] = []
        while "short" not in found:
            (lease,) = (await store.claim(a_claim(owner=workers[len(found) % 2], limit=1))).leases
            found.append(lease.key)
        assert len(found) <= wait + 1
        assert len(bench.statements) <= STATEMENTS_MAX * len(found), bench.statements


@pytest.mark.parametrize("gate", [{"ordered": True}, {"fair": True}], ids=["ordered", "fair"])
async def test_a_claim_buries_no_more_than_a_thousand_and_says_so(bench: Bench, gate: dict[str, object]) -> None:
    await bench.fill(OLD, age_ms=5 * DAY_MS, **gate)
    worker, store = await bench.worker(), bench.store
    await store.append([a_draft(key="long")])
    first = await store.claim(a_claim(owner=worker))
    assert (first.leases, first.opens_at) == ([], bench.clock.now_ms())
    assert (await store.metrics("inbox")).backlog_messages == OLD + 1 - PAST_MAX
    second = await store.claim(a_claim(owner=worker))
    assert [lease.key for lease in second.leases] == ["long"]
    assert (await store.metrics("inbox")).backlog_messages == 1
