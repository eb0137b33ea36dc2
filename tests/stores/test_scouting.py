"""A look before the mark of a level, beside the claims."""

from __future__ import annotations

import pytest

from conveyor.model.settings import QueueSettings
from conveyor.store.postgres import PostgresStore
from conveyor.store.postgres.marks import Marks
from conveyor.store.postgres.scouting import scout
from conveyor.testing.clock import ManualClock
from kit.postgres import the_server
from kit.scene import drafts

pytestmark = pytest.mark.anyio


async def test_a_scout_finds_what_lies_in_its_piece_before_the_mark(clock: ManualClock) -> None:
    store = PostgresStore(the_server().url(), clock=clock)
    await store.open()
    try:
        await store.create_queue("jobs", QueueSettings())
        await look_for_one(store, Marks(clock))
    finally:
        await store.close()


async def look_for_one(store: PostgresStore, marks: Marks) -> None:
    await store.append(drafts(store, 1))
    (sent,) = await store.peek("jobs", limit=1)
    assert store._shared is not None
    level = (store._shared.catalog.rows["jobs"].lane, 0, int(sent.priority))
    before, place, mark = (sent.ready_at - 1_000, -1), (sent.ready_at, sent.seq), (sent.ready_at + 1_000, 0)
    marks.looked(level, mark, marks.monotonic() - 1, 0)
    await scout(store._open_pool, marks, level, (before, (sent.ready_at, sent.seq - 1)))
    await scout(store._open_pool, marks, level, (place, mark))
    assert marks.changes == 0, "it does not lie there"
    await scout(store._open_pool, marks, level, (before, place))
    assert marks.changes == 1, "the mark is lowered"
    assert marks.start(level) < place
