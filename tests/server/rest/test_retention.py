"""Over HTTP: what is kept for how long, who changed it, alarms set by hand, endpoints made by hand."""

from __future__ import annotations

import pytest

from conveyor import Conveyor
from conveyor.model.settings import ConsumerSettings
from conveyor.server.rights import Right
from kit.served import Client, a_token, serving

pytestmark = pytest.mark.anyio


async def items(client: Client, path: str) -> list[dict[str, object]]:
    answer = await client.ask("GET", f"/api/v1{path}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["items"]
    return found


async def test_retention_is_said_shown_and_taken_back(app: Conveyor) -> None:
    manager = await a_token(app, Right.MANAGE)
    async with serving(app) as client:
        put = await client.ask("PUT", "/api/v1/retention/jobs?scope=mails", manager, json={"keep_ms": 3_600_000})
        assert put.json() == {"kind": "jobs", "scope": "mails", "keep_ms": 3_600_000, "said_by": "operator"}
        assert (await client.ask("PUT", "/api/v1/retention/audit", manager, json={"keep_ms": None})).status_code == 403
        assert (await client.ask("PUT", "/api/v1/retention/audit", json={"keep_ms": 86_400_000})).status_code == 200
        assert (await client.ask("PUT", "/api/v1/retention/photos", json={"keep_ms": 1})).status_code in {400, 404, 422}
        assert {"kind": "jobs", "scope": "mails", "keep_ms": 3_600_000, "said_by": "operator"} in await items(client, "/retention")
        assert await items(client, "/retention/preview") == []
        assert (await client.ask("DELETE", "/api/v1/retention/jobs?scope=mails", manager)).status_code == 204
        assert (await client.ask("DELETE", "/api/v1/retention/jobs?scope=mails", manager)).status_code == 404
        acts = await items(client, "/audit?action=retention.*&target=jobs/mails")
    told = [(each["action"], each["result"], each["before"], each["after"]) for each in acts]
    assert told == [
        ("retention.clear", "not_found", None, None),
        ("retention.clear", "ok", {"keep_ms": 3_600_000, "version": 1}, None),
        ("retention.set", "ok", None, {"keep_ms": 3_600_000, "version": 1}),
    ]


async def test_an_alarm_is_set_by_hand(app: Conveyor) -> None:
    await app.store.declare_consumer("shop-alarms", ConsumerSettings(script="shop"))
    async with serving(app) as client:
        assert (await client.ask("PUT", "/api/v1/alarms/tea", json={"after_ms": 5_000})).status_code == 404
        assert (await client.ask("PUT", "/api/v1/alarms/tea", json={})).status_code == 422
        made = await client.ask("PUT", "/api/v1/alarms/tea", json={"after_ms": 5_000, "app": "shop"})
        assert (made.status_code, made.json()["state"]) == (200, "scheduled")
        again = await client.ask("PUT", "/api/v1/alarms/tea", json={"at": "2099-01-01T00:00:00Z"})
        assert again.json()["due"].startswith("2099-01-01T00:00:00")
        assert (await client.ask("PUT", "/api/v1/alarms/tea", json={"after_ms": 1, "app": "other"})).status_code == 409
        found = await items(client, "/audit?action=alarm.set")
        [second, first] = [each for each in found if each["result"] == "ok"]
    assert first["before"] is None and isinstance(second["after"], dict) and "due_at" in second["after"]


async def test_an_endpoint_is_made_by_hand_and_its_secret_is_told_once(app: Conveyor) -> None:
    manager = await a_token(app, Right.MANAGE)
    asked = {"app": "other", "url": "https://example.com/hooks", "events": ["order.*"]}
    async with serving(app) as client:
        assert (await client.ask("POST", "/api/v1/webhooks/endpoints", manager, json=asked)).status_code == 403
        made = await client.ask("POST", "/api/v1/webhooks/endpoints", json=asked)
        assert made.status_code == 201 and made.json()["secret"].startswith("whsec_")
        assert (await client.ask("POST", "/api/v1/webhooks/endpoints", json=asked)).status_code == 409
        inside = asked | {"url": "http://127.0.0.1/hooks"}
        assert 400 <= (await client.ask("POST", "/api/v1/webhooks/endpoints", json=inside)).status_code < 500
        [shown] = await items(client, "/webhooks/endpoints")
        assert shown == made.json()["endpoint"] and shown["events"] == ["order.*"]
        [record] = [each for each in await items(client, "/audit?action=webhook.add") if each["result"] == "ok"]
        text = (await client.ask("GET", "/api/v1/audit")).text
    assert record["target"] == shown["id"] and made.json()["secret"] not in text and "sealed" not in text


async def test_the_trail_is_filtered_and_paged(app: Conveyor) -> None:
    async with serving(app) as client:
        for number in range(3):
            await client.ask("POST", "/api/v1/queues", json={"name": f"q{number}"})
        await client.ask("POST", "/api/v1/queues/q1/pause")
        assert [each["target"] for each in await items(client, "/audit?action=queue.create")] == ["q2", "q1", "q0"]
        [paused] = await items(client, "/audit?target=q1&action=*.pause&who=environment")
        assert (paused["before"], paused["after"], paused["via"]) == ({"paused": False}, {"paused": True}, "http")
        assert await items(client, "/audit?since=2999-01-01T00:00:00Z") == []
        assert (await client.ask("GET", "/api/v1/audit?since=2026-01-01T00:00:00")).status_code == 400
        first = (await client.ask("GET", "/api/v1/audit?action=queue.create&limit=2")).json()
        rest = (await client.ask("GET", f"/api/v1/audit?action=queue.create&limit=2&cursor={first['next_cursor']}")).json()
        assert [each["target"] for each in first["items"] + rest["items"]] == ["q2", "q1", "q0"]
        assert (await client.ask("GET", "/api/v1/audit/verify")).json()["is_intact"] is True
