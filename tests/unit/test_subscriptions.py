"""Event subscriptions: one of a source for each queue, however many ask for it at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conveyor.model.errors import ConflictError
from conveyor.store.sqlite import SQLiteStore
from conveyor.subscriptions import Subscription, Subscriptions

pytestmark = pytest.mark.anyio
KV = {"type": "kv"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
