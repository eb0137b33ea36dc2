"""What ends: a former secret, a message whose delivery was sent again, and the memory of many tries."""

from __future__ import annotations

import msgspec
import pytest

from conveyor import Conveyor
from conveyor.model.errors import InvalidSettingError
from conveyor.testing.harness import Harness
from conveyor.webhooks.log import TRIES_KEPT, parcel_of
from kit.hooks import Listener, reply

pytestmark = pytest.mark.anyio


async def test_another_rotation_leaves_a_former_secret_no_longer(app: Conveyor, kit: Harness, hook: Listener) -> None:
    await app.webhooks.add(hook.url)
    await app.webhooks.rotate(hook.url, overlap="1h")
    await kit.travel("30m")
    await app.webhooks.rotate(hook.url, overlap="1h")
    for minutes, signatures in ((29, 3), (1, 2), (30, 1)):
        await kit.travel(f"{minutes}m")
        await app.webhooks.send(hook.url, "x", 1)
        await kit.drain()
        assert len(hook.hits[-1].headers["webhook-signature"].split()) == signatures


async def test_a_message_that_carries_a_delivery_no_more_calls_nobody(
    app: Conveyor, kit: Harness, hook: Listener
) -> None:
    """As one that a worker had in its hands when somebody sent its delivery again."""
    delivery = await app.webhooks.send(hook.url, "order.paid", 1)
    await app.queue("shop-webhooks").send({"delivery": delivery})
    assert await kit.drain() == 2
    assert len(hook.hits) == 1


async def test_of_many_tries_the_last_are_kept(app: Conveyor, kit: Harness, hook: Listener) -> None:
    app.webhooks.configure(http=True, ports=None, allow=["127.0.0.0/8"], schedule=["1s"] * (TRIES_KEPT + 5))
    hook.answer = lambda _number: reply(500)
    await app.webhooks.send(hook.url, "x", 1)
    await kit.drain(within="5m")
    [row] = await kit.store.list_deliveries(limit=9)
    parcel = parcel_of(row)
    assert (row.state, len(hook.hits), len(parcel.tries)) == ("failed", TRIES_KEPT + 6, TRIES_KEPT)
    assert [each.attempt for each in parcel.tries] == list(range(7, TRIES_KEPT + 7))


async def test_a_secret_that_somebody_put_to_another_endpoint_does_not_open(app: Conveyor, kit: Harness) -> None:
    urls = [f"https://example.com/{name}" for name in ("a", "b")]
    for url in urls:
        await app.webhooks.add(url)
    one, other = (msgspec.json.decode(each.body) for each in await kit.store.list_documents("webhook", limit=9))
    one["secrets"] = other["secrets"]
    await kit.store.put_document("webhook", one["id"], msgspec.json.encode(one))
    assert await app.webhooks.secret(other["url"])
    with pytest.raises(InvalidSettingError, match="another's"):
        await app.webhooks.secret(one["url"])
