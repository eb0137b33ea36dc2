"""Subscriptions: one for a queue and a source, of events that there are, and changed by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.model.errors import ConflictError, InvalidSettingError, NotFoundError, VersionConflictError
from conveyor.store.sqlite import SQLiteStore
from conveyor.subscriptions import Subscription, Subscriptions

pytestmark = pytest.mark.anyio

KV = {"type": "kv"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app() -> AsyncIterator[Conveyor]:
    async with Conveyor("shop", url="memory://", wrangler=None) as app:
        yield app


@pytest.fixture
def room(app: Conveyor) -> Subscriptions:
    return Subscriptions(app.store)


async def hear(room: Subscriptions, queue: str = "letters", **given: Any) -> Subscription:
    asked: dict[str, Any] = {"source": KV, "events": ["namespace.created", "cf.kv.namespace.created"]}
    return await room.create(queue, f"id of {queue}", **(asked | given))


async def test_a_queue_hears_of_a_source_once(room: Subscriptions) -> None:
    made = await hear(room)
    assert (made.name, made.events, made.enabled) == ("letters", ["namespace.created"], True)
    with pytest.raises(ConflictError):
        await hear(room, events=["namespace.deleted"])
    others = [await hear(room, queue="parcels"), await hear(room, source={"type": "r2"}, events=["bucket.created"])]
    assert {each.id for each in await room.list()} == {made.id, *(each.id for each in others)}
    assert [each.id for each in await room.list(queue="parcels")] == [others[0].id]
    assert await room.delete(made.id) == made
    with pytest.raises(NotFoundError):
        await room.get(made.id)


WRONG: list[dict[str, Any]] = [{"events": []}, {"events": ["namespace.renamed"]}, {"name": "a\nb"}, {"name": "x" * 257}]


@pytest.mark.parametrize("given", [*WRONG, {"source": {"type": "moon"}}, {"source": {}}])
async def test_what_cannot_be_heard_of_is_refused(room: Subscriptions, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError):
        await hear(room, **given)
    assert await room.list() == []


@pytest.mark.parametrize("given", WRONG)
async def test_nor_can_a_subscription_become_so(room: Subscriptions, given: dict[str, Any]) -> None:
    made = await hear(room)
    with pytest.raises(InvalidSettingError):
        await room.update(made.id, **given)
    assert await room.get(made.id) == made


async def test_what_is_said_changes_and_the_rest_stays(room: Subscriptions) -> None:
    made = await hear(room)
    changed = await room.update(made.id, enabled=False, to=("parcels", "id of parcels"))
    assert (changed.queue, changed.queue_id, changed.enabled) == ("parcels", "id of parcels", False)
    assert (changed.events, changed.name, changed.created_at) == (made.events, made.name, made.created_at)
    assert await room.get(made.id) == changed


async def test_none_moves_to_a_queue_that_hears_of_its_source(room: Subscriptions) -> None:
    moving, there = await hear(room), await hear(room, queue="parcels")
    with pytest.raises(ConflictError, match="multiple subscriptions"):
        await room.update(moving.id, name="moved", to=("parcels", "id of parcels"))
    assert await room.list() == sorted([moving, there], key=lambda each: each.id)
    await room.update(moving.id, name="stays", to=("letters", "id of letters"))
    await room.delete(there.id)
    assert (await room.update(moving.id, to=("parcels", "id of parcels"))).queue == "parcels"


@pytest.mark.parametrize("how", ["create", "update"])
async def test_of_two_who_come_to_one_queue_at_once_not_both_stay(
    app: Conveyor, room: Subscriptions, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The other one comes between the look and the write of ours."""
    moving, put = await hear(room), app.store.put_document
    other = Subscriptions(app.store)
    is_first = iter([True])

    async def put_late(*given: Any, **asked: Any) -> Any:
        if next(is_first, False):
            await (hear(other, queue="parcels") if how == "update" else other.update(moving.id, to=("parcels", "id of parcels")))
        return await put(*given, **asked)

    monkeypatch.setattr(app.store, "put_document", put_late)
    with pytest.raises(ConflictError):
        if how == "update":
            await room.update(moving.id, to=("parcels", "id of parcels"))
        else:
            await hear(room, queue="parcels")
    assert [each.queue for each in await room.list()].count("parcels") == 1
    assert (await room.get(moving.id)).queue == ("letters" if how == "update" else "parcels")


async def test_of_two_who_change_it_at_once_one_is_told(
    app: Conveyor, room: Subscriptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await hear(room)
    look: Callable[..., Any] = app.store.get_document
    is_first = iter([True])

    async def look_late(kind: str, name: str) -> Any:
        found = await look(kind, name)
        if next(is_first, False):
            await room.update(made.id, name="theirs")
        return found

    monkeypatch.setattr(app.store, "get_document", look_late)
    with pytest.raises(VersionConflictError):
        await room.update(made.id, name="ours")
    assert (await room.get(made.id)).name == "theirs"


async def test_of_those_who_ask_at_once_one_is_heard(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "store.db")
    await store.open()
    try:
        room = Subscriptions(store)

        async def make(queue: str) -> Subscription | ConflictError:
            try:
                return await room.create(queue, f"id of {queue}", source=KV, events=["namespace.created"])
            except ConflictError as error:
                return error

        answers = await asyncio.gather(*(make("heard") for _ in range(8)))
        [first] = [each for each in answers if isinstance(each, Subscription)]
        assert [each.id for each in await room.list()] == [first.id]
        await room.update(first.id, to=("other", "id of other"))
        second = await make("heard")
        assert isinstance(second, Subscription), "the first has moved on"
        assert isinstance(await make("heard"), ConflictError)
        await room.delete(second.id)
        assert isinstance(await make("heard"), Subscription)
    finally:
        await store.close()
