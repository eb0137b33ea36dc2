"""A move carries everything, closes what it leaves, and can be broken off at any step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conveyor.model.clock import SystemClock
from conveyor.model.errors import (
    ConflictError,
    StoreCorruptError,
    StoreInUseError,
    StoreMovedError,
    StoreUnsupportedError,
)
from conveyor.model.settings import QueueSettings
from conveyor.store.carrying import carry
from conveyor.store.keeping import Keeper
from conveyor.store.moving import Moved, move
from conveyor.store.protocol import Store
from conveyor.store.records import OWNER_LEASE_MS, PULL_OWNER, Ending
from conveyor.store.urls import make_keeper, make_store
from conveyor.testing.clock import ManualClock
from conveyor.testing.factories import a_claim, a_draft, an_ack, an_ending, an_entry, an_owner
from kit.everything import answers_of, close_quietly, fill_everything, rows_of
from kit.postgres import the_server

pytestmark = pytest.mark.anyio

PAIRS = [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "sqlite"), ("postgres", "postgres")]


class Ends:
    """Two empty places."""

    def __init__(self, kinds: tuple[str, str], folder: Path) -> None:
        self.urls = [
            the_server().url() if kind == "postgres" else f"sqlite:///{folder}/{number}.db"
            for number, kind in enumerate(kinds)
        ]

    @property
    def source(self) -> Keeper:
        return make_keeper(self.urls[0])

    @property
    def target(self) -> Keeper:
        return make_keeper(self.urls[1])

    @contextlib.asynccontextmanager
    async def use(self, number: int, clock: ManualClock | None = None) -> AsyncIterator[Store]:
        store = make_store(self.urls[number], clock=clock)
        await store.open()
        try:
            yield store
        finally:
            await close_quietly(store)

    async def fill(self, clock: ManualClock | None = None) -> None:
        async with self.use(0, clock) as store:
            await store.create_queue("inbox", QueueSettings())
            await store.append([a_draft() for _ in range(3)])

    async def move(self, **options: Any) -> Moved:
        given = {"clock": SystemClock(), "wait_s": 0.0, "keeps_source": False, "progress": lambda _done, _total: None}
        return await move(self.source, self.target, **given | options)  # type: ignore[arg-type]  # tests name real options


@pytest.fixture(params=PAIRS, ids="-".join)
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Ends:
    return Ends(request.param, tmp_path)


@pytest.fixture(params=PAIRS[:2], ids="-".join)
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Ends:
    """Each kind of store once at each end."""
    return Ends(request.param, tmp_path)


async def test_everything_arrives(ends: Ends, clock: ManualClock) -> None:
    async with ends.use(0, clock) as store:
        await fill_everything(store)
        before = await answers_of(store)
    rows = await rows_of(ends.source)
    assert not [name for name, found in rows.items() if not found], "a table that nothing tests"
    moved = await ends.move()
    assert {name: tally.rows for name, tally in moved.tables.items()} == {name: len(found) for name, found in rows.items()}
    assert await rows_of(ends.target) == rows
    async with ends.use(1, clock) as store:
        assert await answers_of(store) == before


async def test_life_goes_on_where_it_was(ends: Ends, clock: ManualClock) -> None:
    async with ends.use(0, clock) as store:
        await fill_everything(store)
        [pulled] = (await store.claim(a_claim(queue="pulled", owner=PULL_OWNER, lease_ms=60_000))).leases
        await store.append([a_draft(priority=9)])
        [gone] = (await store.claim(a_claim(owner=1, limit=1))).leases
        await store.settle(1, [an_ack(gone)])
    await ends.move()
    async with ends.use(1, clock) as store:
        assert [sent.deduped for sent in await store.append([a_draft(dedupe="done"), a_draft(dedupe="open")])] == [True, True]
        assert (await store.settle_pulled([an_ack(pulled)])).lost == []
        assert [each.id for each in await store.peek("pulled", limit=9)] != [pulled.id]
        await store.append([a_draft()])
        assert (await store.peek("inbox", limit=100))[-1].seq > gone.seq, "no number comes twice"
        await clock.advance(OWNER_LEASE_MS / 1000)
        assert (await store.sweep()).owners == 1
        owner = await store.register_owner(an_owner())
        assert owner > 1
        ordered = (await store.claim(a_claim(queue="ordered", owner=owner))).leases
        assert [each.key for each in ordered] == ["a", "b", "é"]
        assert {each.attempts for each in ordered} == {2}
        assert await store.redrive("inbox-dlq") == 2
        assert (await store.get_queue("limited")).paused


async def test_nobody_uses_what_was_moved(two: Ends) -> None:
    await two.fill()
    async with two.use(0) as open_before:
        await two.move()
        address = two.target.address
        for attempt in writes(open_before):
            with pytest.raises(StoreMovedError, match="was moved to") as told:
                await attempt()
            assert address in told.value.message
        assert len(await open_before.peek("inbox", limit=9)) == 3, "it may still be looked at"
    with pytest.raises(StoreMovedError, match="was moved to"):
        await make_store(two.urls[0]).open()
    with pytest.raises(StoreMovedError, match="was moved to"):
        await two.move()
    async with two.use(1) as store:
        for attempt in writes(store):
            await attempt()


async def test_a_worker_whose_lease_was_over_neither_claims_nor_acks_in_what_was_moved(two: Ends, clock: ManualClock) -> None:
    await two.fill(clock)
    async with two.use(0, clock) as stopped:
        owner = await stopped.register_owner(an_owner())
        [lease] = (await stopped.claim(a_claim(owner=owner, limit=1))).leases
        await two.move()
        with pytest.raises(StoreMovedError):
            await stopped.claim(a_claim(owner=owner, limit=1))
        with pytest.raises(StoreMovedError):
            await stopped.settle(owner, [an_ack(lease)])
    async with two.use(1, clock) as store:
        assert (await store.settle(owner, [an_ack(lease)])).lost == [], "but where everything is now"


def writes(store: Store) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: store.append([a_draft()]),
        lambda: store.claim(a_claim(owner=PULL_OWNER, lease_ms=1_000)),
        lambda: store.register_owner(an_owner()),
        lambda: store.pause("inbox"),
        lambda: store.kv_put("ns", an_entry()),
    ]


async def test_a_source_that_is_kept_goes_on(two: Ends) -> None:
    await two.fill()
    await two.move(keeps_source=True)
    for number in (0, 1):
        async with two.use(number) as store:
            await store.append([a_draft()])
            assert (await store.metrics("inbox")).backlog_messages == 4


async def test_a_move_refuses_while_a_worker_lives_or_waits_for_its_end(two: Ends) -> None:
    await two.fill()
    async with two.use(0) as store:
        owner = await store.register_owner(an_owner())
        with pytest.raises(StoreInUseError, match="1 living worker"):
            await two.move()
        assert (await two.target.identify()).id is None, "and the target was not touched"
        patient = asyncio.create_task(two.move(wait_s=60.0))
        await store.append([a_draft()])
        await store.reap_owner(owner, an_ending(Ending.EXITED))
        assert (await patient).tables["messages"].rows == 4


async def test_the_target_must_be_empty(two: Ends) -> None:
    await two.fill()
    async with two.use(1) as store:
        await store.kv_put("ns", an_entry())
    with pytest.raises(ConflictError, match="is not empty"):
        await two.move()
    async with two.use(0) as store:
        await store.append([a_draft()])


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_store_is_not_moved_into_itself(kind: str, tmp_path: Path) -> None:
    ends = Ends((kind, kind), tmp_path)
    await ends.fill()
    ends.urls[1] = ends.urls[0]
    with pytest.raises(ConflictError, match="itself, or a copy"):
        await ends.move()
    with pytest.raises(StoreUnsupportedError, match="no conveyor store|there is no store"):
        await move_empty(kind, tmp_path)


async def move_empty(kind: str, folder: Path) -> None:
    ends = Ends((kind, kind), folder)
    if kind == "sqlite":
        ends.urls[0] = f"sqlite:///{folder}/empty.db"
        (folder / "empty.db").touch()
        ends.urls[1] = f"sqlite:///{folder}/other.db"
    await ends.move()


# Broken off


class Broken:
    """An end of the way that dies at a step, before or after it."""

    def __init__(self, keeper: Keeper, step: str, *, after: bool) -> None:
        self._keeper = keeper
        self._step = step
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._keeper, name)
        return self._breaking(found) if name == self._step else found

    def _breaking(self, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def broken(*values: Any) -> Any:
            if self._after:
                await step(*values)
            raise KeyboardInterrupt

        return broken

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[Any]:
        async with self._keeper.hold() as outgoing:
            yield Broken(outgoing, self._step, after=self._after)  # type: ignore[arg-type]  # it stands for either

    @contextlib.asynccontextmanager
    async def fill(self, *, resumes: str | None = None) -> AsyncIterator[Any]:
        async with self._keeper.fill(resumes=resumes) as incoming:
            yield Broken(incoming, self._step, after=self._after)  # type: ignore[arg-type]  # it stands for either


STEPS = [("finish", True), ("commit", False), ("commit", True), ("seal", False), ("seal", True), ("reopen", False), ("reopen", True)]


@pytest.mark.parametrize(("step", "after"), STEPS)
async def test_a_move_that_breaks_off_can_be_ended_and_loses_nothing(two: Ends, step: str, after: bool) -> None:
    await two.fill()
    ends = [Broken(each, step, after=after) for each in (two.source, two.target)]
    with pytest.raises(KeyboardInterrupt):
        await move(*ends, clock=SystemClock(), wait_s=0, keeps_source=False, progress=lambda *_: None)
    opened = [await can_open(url) for url in two.urls]
    assert opened != [True, True] or step in ("finish", "commit"), "two stores with the same messages"
    is_moved = (step, after) in {("seal", True), ("reopen", False), ("reopen", True)}
    assert opened[0] is not is_moved
    if (step, after) == ("reopen", True):
        assert opened[1]
        return
    if opened[0]:
        async with two.use(0) as store:
            await store.append([a_draft()])
    moved = await two.move()
    assert bool(moved.tables) is not is_moved
    async with two.use(1) as store:
        assert (await store.metrics("inbox")).backlog_messages == (3 if is_moved else 4)
        await store.append([a_draft()])
    assert not await can_open(two.urls[0])


async def can_open(url: str) -> bool:
    store = make_store(url)
    try:
        await store.open()
    except StoreMovedError:
        return False
    await store.close()
    return True


async def test_another_store_does_not_end_a_move_that_is_not_its_own(two: Ends, tmp_path: Path) -> None:
    await two.fill()
    with pytest.raises(KeyboardInterrupt):
        await move(
            Broken(two.source, "seal", after=False), two.target,
            clock=SystemClock(), wait_s=0, keeps_source=False, progress=lambda *_: None,
        )  # fmt: skip
    other = Ends(("sqlite", "sqlite"), tmp_path / "..")
    other.urls = [f"sqlite:///{tmp_path}/other.db", two.urls[1]]
    await other.fill()
    with pytest.raises(StoreMovedError, match="has not ended"):
        await other.move()


@pytest.mark.parametrize("table", ["messages", "kv"])
async def test_what_came_out_otherwise_is_told_and_not_kept(
    two: Ends, table: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that forgets."""
    async with two.use(0, clock) as store:
        await fill_everything(store)
    with pytest.raises(StoreCorruptError, match=f"`{table}` went in as"):
        async with two.source.read() as outgoing, two.target.fill() as incoming:
            load = incoming.load

            async def load_less(wanted: Any, chunks: Any) -> None:
                await load(wanted, less(chunks) if wanted.name == table else chunks)

            monkeypatch.setattr(incoming, "load", load_less)
            await carry(outgoing, incoming, "there", lambda _done, _total: None)
    async with two.use(1) as store:
        assert await store.list_queues() == []


async def less(chunks: AsyncIterator[list[Any]]) -> AsyncIterator[list[Any]]:
    async for chunk in chunks:
        yield chunk[1:]


async def test_progress_ends_at_its_total(two: Ends) -> None:
    await two.fill()
    seen: list[tuple[int, int]] = []
    await two.move(progress=lambda done, total: seen.append((done, total)))
    assert all(done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1] == 4 * 3 + 2, "each message four times, the queue twice"
