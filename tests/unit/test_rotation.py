"""A new key, while others change what it is about to seal: whoever was first stays, and a rehearsal changes nothing."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.queue.sealing import Sealer
from conveyor.rotation import Rotated, rotate
from conveyor.secrets import SECRETS, Keys, put_secret, read_secrets
from conveyor.webhooks.endpoints import KIND, Endpoints

pytestmark = pytest.mark.anyio

URL = "https://example.com/hook"
OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
VARIABLE = "CONVEYOR_SECRETS_KEY"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Conveyor]:
    """With a secret, an endpoint and a message under an old key, and a new one before it."""
    monkeypatch.setenv(VARIABLE, OLD)
    app = Conveyor("shop", url="memory://", encrypted=["mail"], wrangler=None)
    app.declare_queue("mail")
    async with app.testing():
        await app.queue("mail").send({"name": "Ada"})
        await put_secret(app.store, Keys(app.bindings.folder), "shop", "TOKEN", "t")
        await app.webhooks.add(URL)
        monkeypatch.setenv(VARIABLE, f"{NEW},{OLD}")
        yield app


async def turn(app: Conveyor, *, is_rehearsal: bool = False) -> Rotated:
    keys = Keys(app.bindings.folder)
    return await rotate(app.store, keys, Sealer((), keys.for_payloads), is_rehearsal=is_rehearsal)


async def everything(app: Conveyor) -> list[bytes]:
    documents = [each.body for kind in (SECRETS, KIND) for each in await app.store.list_documents(kind, limit=10)]
    return documents + [each.body for each in await app.store.peek("mail", limit=10)]


async def test_a_rehearsal_changes_nothing_and_the_rotation_all(app: Conveyor) -> None:
    before = await everything(app)
    wanted = Rotated(messages=1, secrets=1, webhooks=1)
    assert await turn(app, is_rehearsal=True) == wanted
    assert await everything(app) == before
    assert await turn(app) == wanted
    assert not set(before) & set(await everything(app))
    assert await turn(app) == Rotated()


def while_it_looks(
    app: Conveyor, monkeypatch: pytest.MonkeyPatch, kind: str, act: Callable[[], Awaitable[Any]]
) -> None:
    """Somebody else comes between the look at documents and what follows from it."""
    look = app.store.list_documents

    async def look_late(asked: str, **rest: Any) -> Any:
        found = await look(asked, **rest)
        if asked == kind and found:
            await act()
        return found

    monkeypatch.setattr(app.store, "list_documents", look_late)


async def test_an_endpoint_is_sealed_anew_as_it_is_by_then(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = Endpoints(app.store, Keys(app.bindings.folder))
    [present] = await endpoints.list_of("shop")
    while_it_looks(app, monkeypatch, KIND, lambda: endpoints.disable(present.id, "too slow"))
    assert await turn(app) == Rotated(messages=1, secrets=1, webhooks=1)
    assert (await endpoints.get(present.id)).disabled == "too slow"


async def test_an_endpoint_that_was_removed_meanwhile_stops_nothing(
    app: Conveyor, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = Endpoints(app.store, Keys(app.bindings.folder))
    [present] = await endpoints.list_of("shop")
    while_it_looks(app, monkeypatch, KIND, lambda: endpoints.remove(present.id))
    assert await turn(app) == Rotated(messages=1, secrets=1)


async def test_a_secret_that_was_written_meanwhile_stays(app: Conveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(app.bindings.folder)
    while_it_looks(app, monkeypatch, SECRETS, lambda: put_secret(app.store, keys, "shop", "TOKEN", "new"))
    assert await turn(app) == Rotated(messages=1, webhooks=1, busy=1)
    monkeypatch.undo()
    monkeypatch.setenv(VARIABLE, NEW)
    sealed = (await read_secrets(app.store, "shop"))["TOKEN"]
    assert Keys(app.bindings.folder).open("shop/TOKEN", sealed) == "new"
