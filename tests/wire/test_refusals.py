"""What the wire refuses, and how: the status that the SDKs look at, and the code and words that wrangler prints."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from conveyor import Conveyor
from conveyor.model.errors import InvalidSettingError
from conveyor.model.settings import ConsumerSettings, ConsumerType, QueueSettings
from conveyor.queue import admin
from conveyor.server.cloudflare import PULLED_JSON, endpoints
from conveyor.server.cloudflare.queues import JURISDICTIONS
from conveyor.server.rights import Right
from kit.served import Client, a_token, serving
from kit.wrangler import ACCOUNT

pytestmark = pytest.mark.anyio

HERE: Final = f"/client/v4/accounts/{ACCOUNT}"


class Wire:
    """A queue `jobs` that is pulled from, on a server in this process."""

    def __init__(self, app: Conveyor, client: Client) -> None:
        self.app = app
        self.client = client

    async def ask(self, method: str, path: str, **given: Any) -> Any:
        return await self.client.ask(method, HERE + path, **given)

    async def result(self, method: str, path: str, **given: Any) -> Any:
        answer = await self.ask(method, path, **given)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["success"] is True
        assert body["errors"] == []
        return body["result"]

    async def push(self, body: Any, **more: Any) -> Any:
        return await self.ask("POST", "/queues/jobs/messages", json={"body": body, **more})

    async def pull(self, **options: Any) -> list[dict[str, Any]]:
        found = await self.result("POST", "/queues/jobs/messages/pull", json={"batch_size": 100, **options})
        messages: list[dict[str, Any]] = found["messages"]
        return messages

    async def settle(self, **said: Any) -> Any:
        return await self.result("POST", "/queues/jobs/messages/ack", json=said)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    app = Conveyor("shop", url="memory://")
    async with serving(app) as client:
        wire = Wire(app, client)
        await wire.result("POST", "/queues", json={"queue_name": "jobs"})
        await wire.result("POST", "/queues/jobs/consumers", json={"type": "http_pull"})
        yield wire


def told(answer: Any) -> tuple[int, int]:
    """Status and code; the envelope must be whole."""
    body = answer.json()
    assert body["success"] is False
    assert body["result"] is None
    [error] = body["errors"]
    assert error["message"]
    return answer.status_code, error["code"]


async def test_strangers_hear_what_cloudflare_says(wire: Wire) -> None:
    verify = "/client/v4/user/tokens/verify"
    ask = wire.client.ask
    assert told(await ask("GET", f"{HERE}/queues", None)) == (400, 9106)
    assert told(await ask("GET", f"{HERE}/queues", None, headers={"authorization": "Basic x"})) == (400, 6003)
    assert told(await ask("GET", f"{HERE}/queues", "cvy_unknown")) == (403, 10000)
    assert told(await ask("GET", verify, "cvy_unknown")) == (401, 1000)
    sender = await a_token(wire.app, Right.SEND)
    assert (await ask("GET", verify, sender)).json()["result"]["status"] == "active"
    assert told(await ask("GET", f"{HERE}/queues", sender)) == (403, 10000)


async def test_any_account_is_ours_if_its_id_is_one(wire: Wire) -> None:
    other = await wire.client.ask("GET", f"/client/v4/accounts/{'f' * 32}/queues")
    assert [each["queue_name"] for each in other.json()["result"]] == ["jobs"]
    assert told(await wire.client.ask("GET", "/client/v4/accounts/none/queues")) == (404, 7003)
    [account] = (await wire.client.ask("GET", "/client/v4/accounts")).json()["result"]
    [member] = (await wire.client.ask("GET", "/client/v4/memberships?page=1")).json()["result"]
    assert member["account"]["id"] == account["id"]
    assert (await wire.client.ask("GET", "/client/v4/memberships?page=2")).json()["result"] == []


async def test_what_is_refused_is_no_fault_of_ours(wire: Wire) -> None:
    elsewhere = {"origin": "https://elsewhere.example"}
    assert told(await wire.ask("POST", "/queues", json={"queue_name": "x"}, headers=elsewhere)) == (403, 10001)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/queues/missing", None, (404, 11000)),
        ("GET", f"/queues/{'a' * 32}", None, (404, 11000)),
        ("POST", "/queues", {"queue_name": "jobs"}, (409, 11009)),
        ("POST", "/queues", {"queue_name": "No_Name"}, (400, 11003)),
        ("POST", "/queues", {"queue_name": "x" * 64}, (400, 11003)),
        ("POST", "/queues", {}, (400, 11003)),
        ("POST", "/queues", {"queue_name": "x", "jurisdiction": "moon"}, (400, 10026)),
        ("POST", "/queues", {"queue_name": "x", "settings": {"delivery_delay": 86_401}}, (400, 100128)),
        ("PATCH", "/queues/jobs", {"settings": {"message_retention_period": 59}}, (400, 100128)),
        ("PATCH", "/queues/jobs", {"settings": {"unknown": 1}}, (400, 10026)),
        ("PATCH", "/queues/jobs", {"queue_name": "No_Name"}, (400, 11003)),
        ("POST", "/queues/jobs/purge", {"delete_messages_permanently": False}, (400, 10026)),
        ("POST", "/queues/jobs/consumers", {"type": "worker", "script_name": "x"}, (409, 11004)),
        ("POST", "/queues/jobs/consumers", {"type": "email"}, (400, 100127)),
        ("POST", "/queues/jobs/consumers", {"type": "worker", "script_name": "no name"}, (400, 100127)),
        ("POST", "/queues/jobs/consumers", {"type": "http_pull", "dead_letter_queue": "-"}, (400, 100127)),
        ("GET", "/queues/jobs/consumers/none", None, (404, 11006)),
        ("POST", "/queues/missing/messages", {"body": 1}, (404, 10104)),
        ("POST", "/queues/a%20b/messages", {"body": 1}, (400, 10107)),
        ("POST", f"/queues/{'x' * 64}/messages/pull", {}, (400, 10107)),
        ("POST", "/queues/jobs/messages", {}, (400, 10207)),
        ("POST", "/queues/jobs/messages", {"body": 1, "attempts": 0, "state": "DONE"}, (400, 10207)),
        ("POST", "/queues/jobs/messages", {"body": 1, "content_type": "v8"}, (400, 10203)),
        ("POST", "/queues/jobs/messages", {"body": 1, "content_type": "text"}, (400, 10207)),
        ("POST", "/queues/jobs/messages", {"body": "%", "content_type": "bytes"}, (400, 10207)),
        ("POST", "/queues/jobs/messages", {"body": 1, "delay_seconds": 86_401}, (400, 10203)),
        ("POST", "/queues/jobs/messages", {"body": "x" * 128_000}, (413, 10204)),
        ("POST", "/queues/jobs/messages/batch", {"messages": []}, (400, 10206)),
        ("POST", "/queues/jobs/messages/batch", {"messages": [{"body": 1}] * 101}, (400, 10206)),
        ("POST", "/queues/jobs/messages/batch", {"messages": [{"body": 1}], "delay_seconds": -1}, (400, 10202)),
        ("POST", "/queues/jobs/messages/batch", {"messages": [{"body": "x" * 90_000}] * 3}, (413, 10205)),
        ("POST", "/queues/jobs/messages/pull", {"batch_size": 101}, (400, 10206)),
        ("POST", "/queues/jobs/messages/pull", {"visibility_timeout_ms": 43_200_001}, (400, 10207)),
        ("GET", "/event_subscriptions/subscriptions/none", None, (404, 0)),
        ("POST", "/storage/kv/namespaces", {"title": " "}, (400, 10019)),
        ("GET", f"/storage/kv/namespaces/{'a' * 32}/values/k", None, (404, 10013)),
        ("GET", "/no/such/path", None, (404, 7003)),
    ],
)
async def test_each_refusal_has_its_status_and_code(
    wire: Wire, method: str, path: str, body: Any, expected: tuple[int, int]
) -> None:
    given = {} if body is None else {"json": body}
    answer = await wire.ask(method, path, **given)
    assert told(answer) == expected
    assert ("x-should-retry" in answer.headers) == (answer.status_code == 409)
    assert (await wire.app.store.metrics("jobs")).backlog_messages == 0


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"body":NaN}', b'{"body":1e400}', b'{"body":"\xff"}', b'{"body":' + b"[" * 5000 + b"}"]
)
async def test_what_is_no_json_is_refused(wire: Wire, content: bytes) -> None:
    assert told(await wire.ask("POST", "/queues/jobs/messages", content=content)) == (400, 10208)
    batch = b'{"messages":[{"body":1},' + (content or b"{") + b"]}"
    assert told(await wire.ask("POST", "/queues/jobs/messages/batch", content=batch)) == (400, 10208)
    assert (await wire.app.store.metrics("jobs")).backlog_messages == 0, "a batch is all or nothing"


async def test_a_body_that_nests_too_deep_is_refused(wire: Wire) -> None:
    deep = b'{"body":' + b"[" * 65 + b"]" * 65 + b"}"
    assert told(await wire.ask("POST", "/queues/jobs/messages", content=deep)) == (400, 10207)
    assert (await wire.push([[[["fine"]]]])).status_code == 200


async def test_bodies_come_back_as_they_went(wire: Wire) -> None:
    content = b'{"body": {"b" : [1.50, 12345678901234567890]}, "content_type": "json"}'
    kinds = {"content-type": "application/x-www-form-urlencoded"}
    assert (await wire.ask("POST", "/queues/jobs/messages", content=content, headers=kinds)).status_code == 200
    await wire.push("zwölf", content_type="text")
    await wire.push(base64.b64encode(b"\x00\xff").decode(), content_type="bytes")
    found = await wire.pull()
    assert [each["body"] for each in found] == ['{"b" : [1.50, 12345678901234567890]}', "zwölf", "AP8="]
    assert [each["metadata"]["CF-Content-Type"] for each in found] == ["json", "text", "bytes"]


async def test_json_comes_as_base64_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PULLED_JSON, "base64")
    app = Conveyor("shop", url="memory://")
    async with serving(app) as client:
        wire = Wire(app, client)
        await wire.result("POST", "/queues", json={"queue_name": "jobs"})
        await wire.result("POST", "/queues/jobs/consumers", json={"type": "http_pull"})
        await wire.push({"n": 1})
        [message] = await wire.pull()
    assert base64.b64decode(message["body"]) == b'{"n":1}'
    monkeypatch.setenv(PULLED_JSON, "xml")
    with pytest.raises(InvalidSettingError, match="xml"):
        endpoints()


async def test_the_backlog_is_told_with_each_push(wire: Wire) -> None:
    counts = [(await wire.push("12", content_type="text")).json()["result"]["metadata"]["metrics"] for _ in range(3)]
    assert [each["backlog_count"] for each in counts] == [1, 2, 3]
    assert [each["backlog_bytes"] for each in counts] == [2, 4, 6]
    found = await wire.pull()
    await wire.settle(acks=[{"lease_id": each["lease_id"]} for each in found])
    metrics = await wire.result("GET", "/queues/jobs/metrics")
    assert metrics == {"backlog_count": 0, "backlog_bytes": 0, "oldest_message_timestamp_ms": 0}


async def test_a_lease_is_good_for_its_queue_and_its_token_only(wire: Wire) -> None:
    await wire.result("POST", "/queues", json={"queue_name": "other"})
    await wire.push(1)
    [message] = await wire.pull()
    lease = message["lease_id"]
    forged = [lease[:-1] + ("0" if lease[-1] != "0" else "1"), "0" * len(lease), "", "x" * 10_000, lease[:-2]]
    settled = await wire.settle(acks=[{"lease_id": each} for each in forged])
    assert (settled["ackCount"], len(settled["warnings"])) == (0, len(forged))
    swapped = await wire.result("POST", "/queues/other/messages/ack", json={"acks": [{"lease_id": lease}]})
    assert (swapped["ackCount"], list(swapped["warnings"])) == (0, [lease])
    another = await a_token(wire.app, Right.CONSUME)
    answer = await wire.client.ask(
        "POST", f"{HERE}/queues/jobs/messages/ack", another, json={"acks": [{"lease_id": lease}]}
    )
    assert answer.json()["result"]["ackCount"] == 0
    assert (await wire.app.store.metrics("jobs")).backlog_messages == 1
    assert (await wire.settle(acks=[{"lease_id": lease}]))["ackCount"] == 1


async def test_a_retry_of_a_lease_that_is_over_is_a_warning(wire: Wire) -> None:
    await wire.push(1)
    [first] = await wire.pull(visibility_timeout_ms=0)
    [second] = await wire.pull()
    assert (first["attempts"], second["attempts"]) == (1, 2)
    stale = await wire.settle(retries=[{"lease_id": first["lease_id"]}])
    assert (stale["retryCount"], list(stale["warnings"])) == (0, [first["lease_id"]])
    late = await wire.settle(acks=[{"lease_id": first["lease_id"]}])
    assert (late["ackCount"], late["warnings"]) == (1, {})


async def test_a_lease_from_before_a_death_is_a_warning(wire: Wire) -> None:
    pulled = ConsumerSettings(type=ConsumerType.HTTP_PULL, max_retries=0, dead_letter_queue="jobs-dlq")
    await wire.app.store.put_consumer("jobs", pulled)
    await wire.push(1)
    [old] = [each["lease_id"] for each in await wire.pull()]
    assert (await wire.settle(retries=[{"lease_id": old}]))["retryCount"] == 1
    assert await wire.app.store.redrive("jobs-dlq") == 1
    [anew] = await wire.pull()
    assert (anew["attempts"], anew["lease_id"] == old) == (1, False)
    for said in ({"acks": [{"lease_id": old}]}, {"retries": [{"lease_id": old}]}):
        settled = await wire.settle(**said)
        assert (settled["ackCount"], settled["retryCount"], list(settled["warnings"])) == (0, 0, [old])
    assert (await wire.settle(acks=[{"lease_id": anew["lease_id"]}]))["ackCount"] == 1


async def test_only_those_who_said_so_may_pull(wire: Wire) -> None:
    await wire.result("POST", "/queues", json={"queue_name": "worked"})
    answer = await wire.ask("POST", "/queues/worked/messages/pull", json={})
    assert told(answer) == (400, 0)
    assert answer.json()["errors"][0]["message"] == "messages cannot be pulled unless http_pull mode is enabled"
    await wire.result("PATCH", "/queues/jobs", json={"settings": {"delivery_paused": True}})
    paused = await wire.ask("POST", "/queues/jobs/messages/pull", json={})
    assert told(paused) == (409, 0)
    assert paused.json()["errors"][0]["message"] == "queue_delivery_paused"


async def test_a_full_queue_says_so(wire: Wire) -> None:
    await wire.app.store.update_queue("jobs", QueueSettings(max_backlog_messages=1))
    assert (await wire.push(1)).status_code == 200
    assert told(await wire.push(2)) == (429, 10251)


async def test_a_push_that_comes_twice_is_one_message(wire: Wire) -> None:
    key = {"idempotency-key": "order-7"}
    for _ in range(2):
        body = {"messages": [{"body": 1}, {"body": 2}]}
        await wire.result("POST", "/queues/jobs/messages/batch", json=body, headers=key)
    assert len(await wire.pull()) == 2


async def test_lists_end(wire: Wire) -> None:
    for number in range(5):
        await wire.result("POST", "/queues", json={"queue_name": f"q{number}"})
    answer = (await wire.ask("GET", "/queues?page=2&per_page=4")).json()
    assert [each["queue_name"] for each in answer["result"]] == ["q3", "q4"]
    assert answer["result_info"] == {"page": 2, "per_page": 4, "count": 2, "total_count": 6, "total_pages": 2}
    assert await wire.result("GET", "/queues?page=3&per_page=4") == []
    named = await wire.result("GET", "/queues?page=1&name=q1&name=q3&name=q")
    assert [each["queue_name"] for each in named] == ["q1", "q3"]


async def test_a_jurisdiction_is_shown_where_one_was_named(wire: Wire) -> None:
    made = await wire.result("POST", "/queues", json={"queue_name": "there", "jurisdiction": "eu"})
    assert made["jurisdiction"] == "eu"
    assert (await wire.result("PATCH", "/queues/there", json={"settings": {"delivery_delay": 1}}))[
        "jurisdiction"
    ] == "eu"
    listed = await wire.result("GET", "/queues")
    assert {each["queue_name"]: each.get("jurisdiction") for each in listed} == {"jobs": None, "there": "eu"}
    assert "jurisdiction" not in next(each for each in listed if each["queue_name"] == "jobs")
    await wire.result("DELETE", "/queues/there")
    assert await wire.app.store.list_documents(JURISDICTIONS, limit=9) == []

    spaces = "/storage/kv/namespaces"
    made = await wire.result("POST", spaces, json={"title": "A", "jurisdiction": "us"})
    await wire.result("POST", spaces, json={"title": "B", "mode": "instant"})
    await wire.result("PUT", f"{spaces}/{made['id']}", json={"title": "C"})
    listed = await wire.result("GET", spaces)
    assert {each["title"]: each.get("jurisdiction") for each in listed} == {"B": None, "C": "us"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "bca"),
        ("?order=created_at&direction=desc", "acb"),
        ("?order=name&direction=asc", "abc"),
        ("?order=name&direction=desc", "cba"),
        ("?order=source", "bca"),
        ("?order=enabled", "bca"),
        ("?order=nothing", "bca"),
    ],
)
async def test_subscriptions_come_in_the_order_that_was_asked_for(wire: Wire, query: str, expected: str) -> None:
    queue = (await wire.result("GET", "/queues/jobs"))["queue_id"]
    for name, source, event in (
        ("b", "kv", "namespace.created"), ("c", "r2", "bucket.created"), ("a", "vectorize", "index.created")
    ):  # fmt: skip
        there = {"type": "queues.queue", "queue_id": queue}
        body = {"name": name, "enabled": True, "source": {"type": source}, "destination": there, "events": [event]}
        await wire.result("POST", "/event_subscriptions/subscriptions", json=body)
        made = wire.app.store.clock.now_ms()
        while wire.app.store.clock.now_ms() == made:  # a millisecond tells their times apart
            pass
    listed = await wire.result("GET", f"/event_subscriptions/subscriptions{query}")
    assert "".join(each["name"] for each in listed) == expected


async def test_a_token_sees_its_own_queues_only(wire: Wire) -> None:
    await wire.result("POST", "/queues", json={"queue_name": "mine"})
    token = await a_token(wire.app, *set(Right) - {Right.ADMIN}, queues=("mine", "my-*"))
    ask = wire.client.ask
    listed = (await ask("GET", f"{HERE}/queues", token)).json()["result"]
    assert [each["queue_name"] for each in listed] == ["mine"]
    [jobs] = await wire.result("GET", "/queues?name=jobs")
    for queue in ("jobs", jobs["queue_id"]):
        seen = await ask("GET", f"{HERE}/queues/{queue}", token)
        absent = await ask("GET", f"{HERE}/queues/absent", token)
        assert told(seen) == told(absent) == (404, 11000)
        assert told(await ask("POST", f"{HERE}/queues/{queue}/messages", token, json={"body": 1})) == (404, 10104)
    assert told(await ask("POST", f"{HERE}/queues", token, json={"queue_name": "theirs"})) == (404, 11000)
    assert (await ask("POST", f"{HERE}/queues", token, json={"queue_name": "my-own"})).status_code == 200
    assert told(await ask("GET", f"{HERE}/storage/kv/namespaces", token)) == (403, 10000)


async def test_a_bound_token_lets_nothing_die_into_another_s_queue(wire: Wire) -> None:
    for name in ("mine", "others-dlq"):
        await wire.result("POST", "/queues", json={"queue_name": name})
    token = await a_token(wire.app, *set(Right) - {Right.ADMIN}, queues=("mine", "my-*"))
    there, body = f"{HERE}/queues/mine/consumers", {"type": "http_pull", "settings": {}}
    for name in ("others-dlq", "not-there"):
        refused = await wire.client.ask("POST", there, token, json=body | {"dead_letter_queue": name})
        assert told(refused)[0] == 404
    made = await wire.client.ask("POST", there, token, json=body | {"dead_letter_queue": "my-dlq"})
    assert made.status_code == 200
    one = f"{there}/{made.json()['result']['consumer_id']}"
    for method in ("PUT", "PATCH"):
        assert (
            told(await wire.client.ask(method, one, token, json=body | {"dead_letter_queue": "others-dlq"}))[0] == 404
        )
    info = await wire.app.store.get_queue("mine")
    assert info.consumer is not None and info.consumer.dead_letter_queue == "my-dlq"
    names = [each.name for each in await wire.app.store.list_queues()]
    assert "not-there" not in names


async def test_there_is_an_end_to_queues(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "QUEUES_MAX", len(await wire.app.store.list_queues()) + 1)
    await wire.result("POST", "/queues", json={"queue_name": "last"})
    refused = await wire.ask("POST", "/queues", json={"queue_name": "one-too-many"})
    assert told(refused)[0] == 409 and "queues already" in refused.text


async def test_an_id_is_that_of_one_life(wire: Wire) -> None:
    [before] = await wire.result("GET", "/queues?name=jobs")
    await wire.result("PATCH", f"/queues/{before['queue_id']}", json={"settings": {"delivery_delay": 1}})
    [after] = await wire.result("GET", "/queues?name=jobs")
    assert after["queue_id"] == before["queue_id"]
    assert after["consumers"][0]["consumer_id"] == before["consumers"][0]["consumer_id"]
    await wire.result("DELETE", f"/queues/{before['queue_id']}")
    assert told(await wire.ask("GET", f"/queues/{before['queue_id']}")) == (404, 11000)


async def test_kv_limits(wire: Wire) -> None:
    namespace = (await wire.result("POST", "/storage/kv/namespaces", json={"title": "T"}))["id"]
    there = f"/storage/kv/namespaces/{namespace}"
    assert told(await wire.ask("PUT", f"{there}/values/k?expiration_ttl=59", content=b"v")) == (400, 10034)
    assert told(await wire.ask("PUT", f"{there}/values/k?expiration=1", content=b"v")) == (400, 10034)
    assert told(await wire.ask("PUT", f"{there}/values/{'k' * 513}", content=b"v")) == (400, 10033)
    assert told(await wire.ask("PUT", f"{there}/values/..", content=b"v"))[0] in {400, 404}
    assert told(await wire.ask("GET", f"{there}/values/k")) == (404, 10009)
    assert told(await wire.ask("GET", f"{there}/values/%00")) == (400, 10033)
    await wire.result("PUT", f"{there}/bulk", content=b'[{"key":"odd","value":"v","more":1}]')
    await wire.result("DELETE", f"{there}/values/odd")
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert told(await wire.ask("PUT", f"{there}/values/k", content=b"--x\r\nno form", headers=broken)) == (400, 10026)
    assert told(await wire.ask("PUT", f"{there}/bulk", content=b'[{"key":"k"}]')) == (400, 10026)
    await wire.result("PUT", f"{there}/values/a%2Fb%20%3F", content=b"v")
    [key] = await wire.result("GET", f"{there}/keys")
    assert key == {"name": "a/b ?"}
