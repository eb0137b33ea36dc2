"""Events of one process on their way to the servers of others: bounded, and never in the way."""

from __future__ import annotations

import msgspec
import pytest

from conveyor.model.errors import StoreError
from conveyor.model.events import Event, ScheduleDelayed
from conveyor.queue.notices import ANNOUNCED_MAX, Announcer, origin_of
from conveyor.store.memory import MemoryStore
from conveyor.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


async def told(store: MemoryStore) -> list[tuple[str, dict[str, object]]]:
    return [(each.name, msgspec.json.decode(each.body)) for each in await store.notices.read(after=0, limit=999)]


async def test_an_event_is_told_at_once_and_what_is_too_much_is_counted() -> None:
    clock = ManualClock()
    store, heard = MemoryStore(clock), list[Event]()
    await store.open()
    announcer = Announcer(store, heard.append)
    announcer.emit(ScheduleDelayed(error="first"))
    await clock.advance(0)
    assert await told(store) == [("conveyor.schedule.delayed", {"error": "first"})]
    for number in range(ANNOUNCED_MAX + 7):
        announcer.emit(ScheduleDelayed(error=str(number)))
    await clock.advance(0.5)
    assert len(await told(store)) == 1, "not more than once a second"
    await clock.advance(1)
    assert len(await told(store)) == 1 + ANNOUNCED_MAX + 1
    dropped = {"origin": origin_of(store), "events": 7}
    assert (await told(store))[-1] == ("conveyor.notices.dropped", dropped)
    assert len(heard) == 1 + ANNOUNCED_MAX + 7, "the process's own log has them all"


async def test_the_last_words_are_told_and_nothing_after_them() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await store.open()
    announcer = Announcer(store, lambda _event: None)
    announcer.emit(ScheduleDelayed(error="first"))
    await clock.advance(0)
    announcer.emit(ScheduleDelayed(error="last"))
    await announcer.close()
    announcer.emit(ScheduleDelayed(error="too late"))
    await clock.advance(5)
    assert [facts["error"] for _, facts in await told(store)] == ["first", "last"]


async def test_a_store_that_is_away_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await store.open()

    async def refuse(_notices: object) -> None:
        raise StoreError("away")

    with monkeypatch.context() as patched:
        patched.setattr(store.notices, "add", refuse)
        announcer = Announcer(store, lambda _event: None)
        announcer.emit(ScheduleDelayed(error="lost"))
        await clock.advance(0)
    await clock.advance(1)
    announcer.emit(ScheduleDelayed(error="told"))
    await clock.advance(1)
    assert [facts["error"] for _, facts in await told(store)] == ["told"]
