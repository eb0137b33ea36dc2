"""Messages over `/api/v1`: sent, looked at, pulled, settled."""

from __future__ import annotations

import base64
from typing import Any

import httpx2
import pytest

from conveyor import Conveyor
from conveyor.testing.clock import ManualClock
from server.rest.steps import bound_to, ok, problem

pytestmark = pytest.mark.anyio
MESSAGES = "/queues/jobs/messages"


@pytest.fixture
async def pulled(api: httpx2.AsyncClient) -> None:
    """The queue `jobs` is pulled over HTTP, with dead letters in `jobs-dlq`."""
    consumer = {"type": "http_pull", "max_retries": 1, "dead_letter_queue": "jobs-dlq"}
    ok(await api.put("/queues/jobs/consumer", json=consumer, headers={"if-match": "*"}))


async def send(api: httpx2.AsyncClient, body: object = 1, **more: Any) -> str:
    return str(ok(await api.post(MESSAGES, json={"body": body} | more), 201)["id"])


async def pull(api: httpx2.AsyncClient, **asked: Any) -> list[Any]:
    return list(ok(await api.post(f"{MESSAGES}/pull", json=asked))["messages"])


async def settle(api: httpx2.AsyncClient, **verdicts: Any) -> Any:
    return ok(await api.post(f"{MESSAGES}/settle", json=verdicts))


async def bodies(api: httpx2.AsyncClient) -> list[Any]:
    return [each["body"] for each in ok(await api.get(MESSAGES))["items"]]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"a": [1, None, "ü"]}, "json"),
        (None, "json"),
        ("plain", "text"),
        (base64.b64encode(b"\0\xff").decode(), "bytes"),
    ],
)
async def test_what_is_sent_is_seen_and_pulled(
    api: httpx2.AsyncClient, pulled: None, body: object, content_type: str
) -> None:
    sent = ok(await api.post(MESSAGES, json={"body": body, "content_type": content_type, "headers": {"h": 1}}), 201)
    assert sent["deduped"] is False
    [seen] = ok(await api.get(MESSAGES))["items"]
    assert (seen["id"], seen["body"], seen["content_type"]) == (sent["id"], body, content_type)
    assert (seen["state"], seen["attempts"], seen["headers"]) == ("ready", 0, {"h": 1})
    [got] = await pull(api)
    assert (got["id"], got["body"], got["content_type"], got["attempts"]) == (sent["id"], body, content_type, 1)
    assert ok(await api.get(MESSAGES))["items"][0]["state"] == "leased"


async def test_options_travel(api: httpx2.AsyncClient) -> None:
    await send(api, delay_ms=60_000, priority=9, key="k", cost=2, expires_in_ms=1_000)
    [seen] = ok(await api.get(MESSAGES))["items"]
    assert (seen["state"], seen["priority"], seen["key"]) == ("delayed", 9, "k")
    assert seen["ready_at"] == "2026-01-01T12:01:00Z"


NO_MESSAGES: list[dict[str, Any]] = [
    {},
    {"body": 1, "attempts": 0, "state": "DONE"},
    {"body": 1, "content_type": "text"},
    {"body": "%%", "content_type": "bytes"},
    {"body": "x", "content_type": "xml"},
    {"body": 1, "delay_ms": -1},
    {"body": 1, "delay_ms": 86_400_001},
    {"body": 1, "priority": 10},
    {"body": 1, "key": ""},
    {"body": 1, "key": "\0"},
    {"body": 1, "headers": []},
    {"body": 1, "headers": {"Conveyor-Group": "of another"}},
    {"body": 1, "cost": 10**20},
]


async def test_a_message_that_cannot_be_is_refused(api: httpx2.AsyncClient) -> None:
    for message in NO_MESSAGES:
        problem(await api.post(MESSAGES, json=message), 422)
        problem(await api.post(f"{MESSAGES}/batch", json={"messages": [message]}), 422)
    assert await bodies(api) == []


async def test_a_body_that_is_too_large_is_refused(api: httpx2.AsyncClient) -> None:
    assert problem(await api.post(MESSAGES, json={"body": "x" * 128_001}), 413)["code"] == "body_too_large"
    ok(await api.post(MESSAGES, json={"body": "x" * 127_998}), 201)


async def test_a_batch_is_sent_whole_or_not_at_all(api: httpx2.AsyncClient) -> None:
    sent = ok(await api.post(f"{MESSAGES}/batch", json={"messages": [{"body": n} for n in range(3)]}), 201)
    assert [each["deduped"] for each in sent["messages"]] == [False] * 3
    problem(await api.post(f"{MESSAGES}/batch", json={"messages": [{"body": 4}, {"body": 5, "priority": 99}]}), 422)
    problem(await api.post(f"{MESSAGES}/batch", json={"messages": [{"body": 4}] * 101}), 422)
    problem(await api.post(f"{MESSAGES}/batch", json={"messages": []}), 422)
    assert await bodies(api) == [0, 1, 2]


async def test_an_idempotency_key_sends_once(api: httpx2.AsyncClient) -> None:
    header = {"idempotency-key": "order-7"}
    first = ok(await api.post(MESSAGES, json={"body": 1}, headers=header), 201)
    again = ok(await api.post(MESSAGES, json={"body": 1}, headers=header), 201)
    assert (again["id"], first["deduped"], again["deduped"]) == (first["id"], False, True)
    batch = {"messages": [{"body": 2}, {"body": 3}, {"body": 4, "dedupe": "own"}]}
    first = ok(await api.post(f"{MESSAGES}/batch", json=batch, headers=header), 201)
    again = ok(await api.post(f"{MESSAGES}/batch", json=batch, headers=header), 201)
    assert [each["id"] for each in again["messages"]] == [each["id"] for each in first["messages"]]
    assert all(each["deduped"] for each in again["messages"])
    assert await bodies(api) == [1, 2, 3, 4]


async def test_messages_are_paged(api: httpx2.AsyncClient) -> None:
    ok(await api.post(f"{MESSAGES}/batch", json={"messages": [{"body": n} for n in range(5)]}), 201)
    seen, cursor = [], None
    while True:
        page = ok(await api.get(MESSAGES, params={"limit": 2} | ({"cursor": cursor} if cursor else {})))
        seen.append([each["body"] for each in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [[0, 1], [2, 3], [4]]


async def test_acks_retries_and_rejects(api: httpx2.AsyncClient, pulled: None) -> None:
    ok(await api.post(f"{MESSAGES}/batch", json={"messages": [{"body": n} for n in range(3)]}), 201)
    done, again, never = await pull(api)
    settled = await settle(
        api,
        acks=[done["lease_id"]],
        retries=[{"lease_id": again["lease_id"], "delay_ms": 0, "error": "not yet"}],
        rejects=[{"lease_id": never["lease_id"], "reason": "nonsense"}],
    )
    assert settled == {"acked": 1, "retried": 1, "rejected": 1, "lost": [], "unknown": []}
    assert await bodies(api) == [1]
    [letter] = ok(await api.get("/dead-letters/jobs-dlq"))["items"]
    assert (letter["body"], letter["reason"], letter["origin_queue"]) == (2, "nonsense", "jobs")
    [got] = await pull(api)
    assert got["attempts"] == 2


async def test_leases_end_are_extended_and_cannot_be_made_up(
    api: httpx2.AsyncClient, pulled: None, clock: ManualClock, app: Conveyor
) -> None:
    await send(api)
    [got] = await pull(api, lease_ms=10_000)
    assert await pull(api) == []
    assert (
        await api.post(f"{MESSAGES}/extend", json={"lease_id": got["lease_id"], "lease_ms": 60_000})
    ).status_code == 204
    await clock.advance(30)
    await app.store.sweep()
    assert await pull(api) == []
    await clock.advance(31)
    await app.store.sweep()
    [anew] = await pull(api)
    settled = await settle(api, retries=[{"lease_id": got["lease_id"]}])
    assert settled["lost"] == [got["lease_id"]]
    problem(await api.post(f"{MESSAGES}/extend", json={"lease_id": got["lease_id"], "lease_ms": 1}), 409)
    forged = ("0" if anew["lease_id"][0] != "0" else "1") + anew["lease_id"][1:]
    assert (await settle(api, acks=[forged, "x"]))["unknown"] == [forged, "x"]
    problem(await api.post(f"{MESSAGES}/extend", json={"lease_id": forged, "lease_ms": 1}), 409)
    assert (await settle(api, acks=[got["lease_id"]]))["acked"] == 1, "a late ack counts"
    assert await bodies(api) == []


async def test_a_lease_is_bound_to_its_token_and_queue(api: httpx2.AsyncClient, pulled: None) -> None:
    ok(await api.post("/queues", json={"name": "other"}), 201)
    ok(await api.put("/queues/other/consumer", json={"type": "http_pull"}, headers={"if-match": "*"}))
    await send(api)
    [got] = await pull(api)
    theirs = await bound_to(api, ["consume"], None)
    answer = await api.post(f"{MESSAGES}/settle", json={"acks": [got["lease_id"]]}, headers=theirs)
    assert ok(answer)["unknown"] == [got["lease_id"]]
    answer = await api.post("/queues/other/messages/settle", json={"acks": [got["lease_id"]]})
    assert ok(answer)["unknown"] == [got["lease_id"]]


async def test_a_queue_that_an_app_consumes_is_not_pulled(api: httpx2.AsyncClient) -> None:
    said = problem(await api.post(f"{MESSAGES}/pull"), 409)
    assert "http_pull" in said["hint"]


async def test_rights_are_one_by_one(api: httpx2.AsyncClient, pulled: None) -> None:
    sends, reads = await bound_to(api, ["send"], ["jobs"]), await bound_to(api, ["read"], ["jobs"])
    ok(await api.post(MESSAGES, json={"body": 1}, headers=sends), 201)
    ok(await api.get(MESSAGES, headers=reads))
    assert problem(await api.get(MESSAGES, headers=sends), 403)["code"] == "forbidden"
    problem(await api.post(MESSAGES, json={"body": 1}, headers=reads), 403)
    problem(await api.post(f"{MESSAGES}/pull", headers=reads), 403)
    problem(await api.post("/queues/other/messages", json={"body": 1}, headers=sends), 404)
