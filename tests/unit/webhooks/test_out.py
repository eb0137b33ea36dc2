"""Webhooks that an app sends: through its queue, signed, tried for days, and written down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from standardwebhooks import webhooks as reference

from conveyor import Conveyor
from conveyor.model.beside import (
    DeliveryNotFoundError,
    EndpointDisabledError,
    EndpointExistsError,
    EndpointNotFoundError,
    WebhookTargetError,
)
from conveyor.model.errors import BodyTooLargeError, InvalidSettingError
from conveyor.model.events import EndpointDisabled, Event, HandlerRaised
from conveyor.store.records import Delivery
from conveyor.testing.harness import Harness
from conveyor.webhooks.carrier import SCHEDULE_MS
from conveyor.webhooks.courier import Courier
from conveyor.webhooks.log import DeliveryInfo, Parcel, parcel_of
from kit.hooks import Hit, Listener, reply

pytestmark = pytest.mark.anyio


def verified(kit: Harness, secret: str, hit: Hit, monkeypatch: pytest.MonkeyPatch) -> Any:
    """By the reference library, at the kit's time."""
    now = datetime.fromtimestamp(kit.clock.now_ms() / 1000, UTC)

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # the time of the test
            return now

    monkeypatch.setattr(reference, "datetime", Then)
    return reference.Webhook(secret).verify(hit.body, hit.headers)


async def the_log(kit: Harness) -> list[tuple[Delivery, Parcel]]:
    found = await kit.store.list_deliveries(limit=100)
    return [(each, parcel_of(each)) for each in found]


async def test_a_delivery_is_signed_sent_and_written_down(
    app: Conveyor, kit: Harness, hook: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = await app.webhooks.send(hook.url, "order.paid", {"order": 7})
    kit.assert_enqueued("shop-webhooks", body={"delivery": delivery})
    await kit.drain()
    [hit] = hook.hits
    assert hit.headers["webhook-id"] == delivery
    assert verified(kit, await app.webhooks.secret(hook.url), hit, monkeypatch) == {
        "type": "order.paid",
        "timestamp": "2026-01-01T12:00:00.000Z",
        "data": {"order": 7},
    }
    [(row, parcel)] = await the_log(kit)
    [made] = parcel.tries
    assert (row.state, made.status, made.attempt, made.headers["webhook-id"]) == ("delivered", 200, 1, delivery)
    assert msgspec.json.decode(parcel.payload)["type"] == "order.paid"


async def test_failures_are_tried_by_the_schedule_under_one_id(
    app: Conveyor, kit: Harness, hook: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.answer = lambda _number: reply(500, b"<b>oh</b>", x_trace="7")
    delivery = await app.webhooks.send(hook.url, "order.paid", {})
    secret, at = await app.webhooks.secret(hook.url), []
    await kit.drain()
    for step in SCHEDULE_MS:
        begun = kit.clock.now_ms()
        await kit.travel(step / 1000 - 0.001)
        assert await kit.drain() == 0, "never early"
        while not await kit.drain():
            await kit.travel(step / 10_000 / 4)
        at.append((kit.clock.now_ms() - begun) / step)
        verified(kit, secret, hook.hits[-1], monkeypatch)
    assert all(1 <= share <= 1.1 + 0.03 for share in at)
    assert {hit.headers["webhook-id"] for hit in hook.hits} == {delivery}
    assert len({hit.headers["webhook-timestamp"] for hit in hook.hits}) == len(hook.hits) == len(SCHEDULE_MS) + 1
    assert len({hit.body for hit in hook.hits}) == 1
    [(row, parcel)] = await the_log(kit)
    assert (row.state, parcel.error, len(parcel.tries)) == ("failed", "it answered 500", 10)
    assert (parcel.tries[0].answer, parcel.tries[0].answer_headers["x-trace"]) == ("<b>oh</b>", "7")
    kit.assert_enqueued("shop-webhooks", count=0)
    hook.answer = lambda _number: reply(200)
    await app.webhooks.resend(delivery)
    await kit.drain()
    [(row, parcel)] = await the_log(kit)
    assert (row.state, parcel.error, len(parcel.tries)) == ("delivered", None, 11)
    assert hook.hits[-1].headers["webhook-id"] == delivery


async def test_who_asked_is_told_of_every_try(app: Conveyor, kit: Harness, hook: Listener, events: list[Event]) -> None:
    told: list[tuple[str, int, str | None]] = []

    async def hear(delivery: DeliveryInfo) -> None:
        told.append((delivery.state, len(delivery.tries), delivery.error))
        raise RuntimeError("no matter")

    app.webhooks.configure(http=True, ports=None, allow=["127.0.0.0/8"], schedule=["5s", "5s"], on_try=hear)
    hook.answer = lambda number: reply(500 if number < 3 else 200)
    for _ in range(2):
        await app.webhooks.send(hook.url, "x", 1)
        for _ in range(3):
            await kit.drain()
            await kit.travel(6)
        hook.answer = lambda _number: reply(500)
    assert told[2][:2] == ("delivered", 3)
    assert told[3:] == [("pending", 1, None), ("pending", 2, None), ("failed", 3, "it answered 500")]
    await app.webhooks.send(hook.url, "x", 1)
    await app.webhooks.remove(hook.url)
    await kit.drain()
    assert told[-1] == ("failed", 0, "the endpoint was removed")
    assert len([each for each in events if isinstance(each, HandlerRaised)]) == len(told) == 7
    assert len(hook.hits) == 6, "a listener that fails makes no call twice"


@pytest.mark.parametrize("answer", [reply(302, location="http://127.0.0.1/"), reply(404), b"", reply(199)])
async def test_all_but_2xx_is_a_failure(app: Conveyor, kit: Harness, hook: Listener, answer: bytes) -> None:
    hook.answer = lambda _number: answer
    await app.webhooks.send(hook.url, "x", 1)
    await kit.drain()
    [(row, parcel)] = await the_log(kit)
    assert (row.state, row.is_carried, len(parcel.tries)) == ("pending", True, 1)


async def test_one_that_hangs_is_a_failure(app: Conveyor, kit: Harness, hook: Listener) -> None:
    hook.answer = lambda _number: None
    app.webhooks.courier = Courier(app.webhooks.policy, deadline_s=0.05)
    await app.webhooks.send(hook.url, "x", 1)
    await kit.drain()
    [(row, parcel)] = await the_log(kit)
    assert (row.state, parcel.tries[0].status, "within" in (parcel.tries[0].error or "")) == ("pending", None, True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("asked", "waits"), [("120", 120), ("1", 5), ("soon", 5), ("9" * 9, 86_400)])
async def test_a_receiver_may_ask_for_time(
    app: Conveyor, kit: Harness, hook: Listener, status: int, asked: str, waits: int
) -> None:
    hook.answer = lambda _number: reply(status, retry_after=asked)
    await app.webhooks.send(hook.url, "x", 1)
    await kit.drain()
    await kit.travel(waits - 0.001)
    assert await kit.drain() == 0
    await kit.travel(waits * 0.1 + 0.002)
    assert await kit.drain() == 1


async def test_gone_is_gone(app: Conveyor, kit: Harness, hook: Listener, events: list[Event]) -> None:
    hook.answer = lambda _number: reply(410)
    await app.webhooks.send(hook.url, "x", 1)
    await app.webhooks.send(hook.url, "x", 2)
    await kit.drain()
    assert len(hook.hits) == 1, "the second was not even tried"
    assert [row.state for row, _ in await the_log(kit)] == ["failed", "failed"]
    with pytest.raises(EndpointDisabledError):
        await app.webhooks.send(hook.url, "x", 3)
    assert await app.webhooks.publish("x", 4) == []
    [told] = [each for each in events if isinstance(each, EndpointDisabled)]
    assert (told.url, "410" in told.reason) == (hook.url, True)


async def test_one_that_takes_nothing_for_days_is_disabled(app: Conveyor, kit: Harness, hook: Listener) -> None:
    hook.answer = lambda _number: reply(500)
    _, endpoints = await app.webhooks.open()
    for day in range(5):
        await app.webhooks.send(hook.url, "x", day)
        await kit.drain()
        await kit.travel("1d")
    [endpoint] = await endpoints.list_of("shop")
    assert endpoint.disabled is None, "for less than five days it is only failing"
    await app.webhooks.send(hook.url, "x", 5)
    await kit.drain()
    [endpoint] = await endpoints.list_of("shop")
    assert endpoint.disabled == "nothing was taken for 120 h"
    hook.answer = lambda _number: reply(200)
    assert (await endpoints.enable(endpoint.id)).failing_since is None
    await app.webhooks.send(hook.url, "x", 7)
    await kit.drain()
    assert (await the_log(kit))[0][0].state == "delivered"


async def test_a_success_ends_the_failing(app: Conveyor, kit: Harness, hook: Listener) -> None:
    hook.answer = lambda number: reply(500 if number == 1 else 200)
    await app.webhooks.send(hook.url, "x", 1)
    await kit.drain()
    _, endpoints = await app.webhooks.open()
    [failing] = await endpoints.list_of("shop")
    assert failing.failing_since is not None
    await kit.travel("6s")
    await kit.drain()
    [well] = await endpoints.list_of("shop")
    assert well.failing_since is None


async def test_filters_choose_who_is_told(app: Conveyor, kit: Harness, hook: Listener) -> None:
    urls = {name: f"{hook.url}/{name}" for name in ("all", "orders", "paid")}
    await app.webhooks.add(urls["all"])
    await app.webhooks.add(urls["orders"], events=["order.*"])
    await app.webhooks.add(urls["paid"], events=["bill.paid", "order.paid"])
    assert len(await app.webhooks.publish("order.paid", 1)) == 3
    assert len(await app.webhooks.publish("order.made", 1)) == 2
    assert len(await app.webhooks.publish("user.made", 1)) == 1
    await kit.drain()
    assert sorted(hit.line.split("/")[2].split()[0] for hit in hook.hits) == ["all"] * 3 + ["orders"] * 2 + ["paid"]
    with pytest.raises(EndpointExistsError):
        await app.webhooks.add(urls["all"])
    await app.webhooks.remove(urls["all"])
    assert await app.webhooks.publish("user.made", 1) == []
    with pytest.raises(EndpointNotFoundError):
        await app.webhooks.secret(urls["all"])


async def test_during_a_rotation_both_secrets_sign(
    app: Conveyor, kit: Harness, hook: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await app.webhooks.add(hook.url)
    old = await app.webhooks.secret(hook.url)
    new = await app.webhooks.rotate(hook.url, overlap="1h")
    assert new == await app.webhooks.secret(hook.url) != old
    await app.webhooks.send(hook.url, "x", 1)
    await kit.drain()
    for secret in (old, new):
        assert verified(kit, secret, hook.hits[-1], monkeypatch)["data"] == 1
    await kit.travel("1h")
    await app.webhooks.send(hook.url, "x", 2)
    await kit.drain()
    assert verified(kit, new, hook.hits[-1], monkeypatch)["data"] == 2
    with pytest.raises(reference.WebhookVerificationError):
        verified(kit, old, hook.hits[-1], monkeypatch)


async def test_secrets_are_sealed_at_rest(app: Conveyor, kit: Harness, hook: Listener) -> None:
    await app.webhooks.add(hook.url)
    secret = await app.webhooks.secret(hook.url)
    [document] = await kit.store.list_documents("webhook", limit=9)
    assert secret[6:].encode() not in document.body


async def test_without_leave_nothing_of_ours_is_called(kit: Harness, hook: Listener) -> None:
    app = Conveyor("strict", url="memory://")
    with pytest.raises(WebhookTargetError):
        await app.webhooks.send(hook.url, "x", 1)
    app.webhooks.configure(http=True, ports=None)
    async with app.testing() as strict:
        await app.webhooks.send(hook.url, "x", 1)
        await strict.drain()
        [(_, parcel)] = await the_log(strict)
    assert hook.hits == []
    assert "not public" in (parcel.tries[0].error or "")


async def test_what_cannot_be_right_is_refused(app: Conveyor, kit: Harness, hook: Listener) -> None:
    with pytest.raises(BodyTooLargeError):
        await app.webhooks.send(hook.url, "x", "x" * 262_144)
    for event in ("", "a\nb", "x" * 129):
        with pytest.raises(InvalidSettingError):
            await app.webhooks.send(hook.url, event, 1)
    with pytest.raises(InvalidSettingError):
        app.webhooks.configure(schedule=["1d"] * 15)
    with pytest.raises(InvalidSettingError):
        await app.webhooks.add(hook.url + "/other", events=[])
    assert await the_log(kit) == []


@pytest.fixture
def ordered(app: Conveyor) -> Conveyor:
    app.webhooks.configure(http=True, ports=None, allow=["127.0.0.0/8"], schedule=["5s", "1m", "1m"], ordered=True)
    return app


async def test_what_has_one_key_goes_in_its_order(ordered: Conveyor, kit: Harness, hook: Listener) -> None:
    hook.answer = lambda _number: reply(503)
    for number in range(3):
        for key in ("a", "b"):
            await ordered.webhooks.send(hook.url, "moved", {"key": key, "number": number}, key=key)
    await kit.drain()
    assert len(hook.hits) == 2, "the first of each line, which holds up the others"
    hook.answer = lambda _number: reply(200)
    await kit.drain(within="10m")
    came = [msgspec.json.decode(hit.body)["data"] for hit in hook.hits[2:]]
    assert [each["number"] for each in came if each["key"] == "a"] == [0, 1, 2]
    assert [each["number"] for each in came if each["key"] == "b"] == [0, 1, 2]


async def test_what_stands_in_no_line_waits_for_no_other(ordered: Conveyor, kit: Harness, hook: Listener) -> None:
    hook.answer = lambda number: reply(503 if number == 1 else 200)
    late = await ordered.webhooks.send(hook.url, "moved", 1)
    soon = await ordered.webhooks.send(hook.url, "moved", 2)
    await kit.drain()
    assert [hit.headers["webhook-id"] for hit in hook.hits] == [late, soon]


async def test_what_is_given_up_lets_the_next_one_go(ordered: Conveyor, kit: Harness, hook: Listener) -> None:
    refused = await ordered.webhooks.send(hook.url, "moved", 1, key="a")
    hook.answer = lambda number: reply(500 if number <= 4 else 200)
    taken = await ordered.webhooks.send(hook.url, "moved", 2, key="a")
    await kit.drain(within="1h")
    assert [hit.headers["webhook-id"] for hit in hook.hits] == [refused] * 4 + [taken]
    assert {row.id.hex(): row.state for row, _ in await the_log(kit)} == {
        refused.removeprefix("msg_"): "failed",
        taken.removeprefix("msg_"): "delivered",
    }


async def test_what_is_sent_again_stands_in_its_line(ordered: Conveyor, kit: Harness, hook: Listener) -> None:
    again = await ordered.webhooks.send(hook.url, "moved", 1, key="a")
    free = await ordered.webhooks.send(hook.url, "moved", 1)
    await kit.drain()
    hook.answer = lambda _number: reply(503)
    first = await ordered.webhooks.send(hook.url, "moved", 2, key="a")
    await kit.drain()
    for each in (again, free):
        await ordered.webhooks.resend(each)
    await kit.drain()
    assert [hit.headers["webhook-id"] for hit in hook.hits[3:]] == [free], (
        "the other waits behind the one that is tried"
    )
    hook.answer = lambda _number: reply(200)
    await kit.drain(within="10m")
    came = [hit.headers["webhook-id"] for hit in hook.hits[4:]]
    assert came.index(first) < came.index(again)
    assert sorted(came) == sorted([first, again, free])


async def test_an_id_is_delivered_once_however_often_it_is_sent(app: Conveyor, kit: Harness, hook: Listener) -> None:
    given = app.webhooks.new_id()
    assert await app.webhooks.send(hook.url, "order.paid", 1, id=given) == given
    assert await app.webhooks.send(hook.url, "order.paid", 2, id=given) == given
    await kit.drain()
    await kit.travel("2d")
    assert await app.webhooks.send(hook.url, "order.paid", 3, id=given) == given
    await kit.drain()
    [hit] = hook.hits
    assert (hit.headers["webhook-id"], msgspec.json.decode(hit.body)["data"]) == (given, 1)


async def test_two_that_open_one_delivery_at_once_open_it_once(
    app: Conveyor, kit: Harness, hook: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = app.webhooks.new_id()
    await app.webhooks.send(hook.url, "order.paid", 1, id=given)

    async def not_yet(_delivery: object) -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(kit.store, "get_delivery", not_yet)
        await app.webhooks.send(hook.url, "order.paid", 2, id=given)
    await kit.drain()
    assert [msgspec.json.decode(hit.body)["data"] for hit in hook.hits] == [1]


async def test_a_bare_body_is_the_data_itself(
    app: Conveyor, kit: Harness, hook: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await app.webhooks.send(hook.url, "order.paid", {"event": "order.paid", "order": 7}, bare=True)
    await kit.drain()
    secret = await app.webhooks.secret(hook.url)
    assert verified(kit, secret, hook.hits[0], monkeypatch) == {"event": "order.paid", "order": 7}


async def test_a_line_needs_order_and_an_id_must_be_one(app: Conveyor, kit: Harness, hook: Listener) -> None:
    with pytest.raises(InvalidSettingError, match="not ordered"):
        await app.webhooks.send(hook.url, "order.paid", 1, key="a")
    with pytest.raises(DeliveryNotFoundError):
        await app.webhooks.send(hook.url, "order.paid", 1, id="msg_7")
