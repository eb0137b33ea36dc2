"""An encrypted queue that lives elsewhere: the other side sees letters, and both ends read."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from conveyor import Conveyor, Message

from .far import Far

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("body", [{"name": "Ada Byron"}, "Ada Byron", b"Ada Byron"])
async def test_both_ends_read_and_the_api_does_not(
    far: Far, body: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVEYOR_SECRETS_KEY", base64.b64encode(b"1" * 32).decode())
    far.make("mail")
    app = Conveyor("clinic", url=far.url, encrypted=["mail"], wrangler=None)
    got: asyncio.Queue[Any] = asyncio.Queue()

    @app.consumer("mail")
    async def take(message: Message[Any]) -> None:
        await got.put(message.body)

    async with app:
        await app.queue("mail").send(body)
        [stored] = far.messages["mail"]
        assert stored.body["sealed_with"]
        assert stored.body["place"] == "message"
        assert all("Ada" not in str(each.body) for each in far.asked)
        worker = asyncio.create_task(app.work())
        assert await asyncio.wait_for(got.get(), 30) == body
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
