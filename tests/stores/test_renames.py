"""Renames beside workers that still say the old name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conveyor import Conveyor, Message
from kit.programs import until, working

pytestmark = pytest.mark.anyio


async def test_a_worker_ends_what_it_has_and_the_next_release_does_the_rest(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    begun, may_end = asyncio.Event(), asyncio.Event()
    old, new = Conveyor("shop", url=url), Conveyor("shop", url=url)
    done: list[tuple[str, int]] = []

    @old.consumer("letters", max_concurrency=1)
    async def before(message: Message[int]) -> None:
        begun.set()
        await may_end.wait()
        done.append(("before", message.body))

    @new.consumer("mail", max_concurrency=1)
    async def after(message: Message[int]) -> None:
        done.append(("after", message.body))

    async with working(old):
        await old.queue("letters").send(1)
        await begun.wait()
        await old.queue("letters").send(2)
        renamed = await old.store.rename_queue("letters", "mail")
        may_end.set()
        await until(lambda: len(done) == 1)
        async with working(new):
            await until(lambda: len(done) == 2)
            assert (await new.info("mail")).created_at == renamed.created_at
            await until(lambda: _is_empty(new))
    assert done == [("before", 1), ("after", 2)]
    async with Conveyor("looker", url=url) as looker:
        assert [each.name for each in await looker.store.list_queues()] == ["letters-dlq", "mail", "mail-dlq"]


async def _is_empty(app: Conveyor) -> bool:
    return (await app.store.metrics("mail")).backlog_messages == 0
