"""Schedules, named values, tokens, the audit trail and the sums over `/api/v1`."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor import Conveyor
from conveyor.alarms import make_ring
from conveyor.cron.schedule import CronRun
from conveyor.model.events import Event
from conveyor.model.ids import IdSource
from conveyor.model.settings import QueueSettings
from conveyor.testing.clock import ManualClock
from server.rest.steps import bound_to, make_token, ok, problem

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(tmp_path: Path, clock: ManualClock, events: list[Event]) -> AsyncIterator[Conveyor]:
    """With a schedule."""
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db", clock=clock, emit=events.append)
    app.declare_queue("jobs")

    @app.cron("30 16 * * *", name="daily")
    async def daily(run: CronRun) -> None: ...

    async with app:
        yield app


# Schedules


async def test_a_schedule_is_shown_paused_and_resumed(api: httpx2.AsyncClient) -> None:
    [daily] = ok(await api.get("/schedules"))["items"]
    assert (daily["name"], daily["expression"], daily["app"]) == ("daily", "30 16 * * *", "shop")
    assert (daily["next_tick"], daily["paused"]) == ("2026-01-01T16:30:00Z", False)
    assert ok(await api.get("/schedules/daily")) == daily
    paused = ok(await api.post("/schedules/daily/pause"))
    assert (paused["paused"], paused["next_tick"]) == (True, None)
    assert ok(await api.post("/schedules/daily/resume")) == daily
    problem(await api.get("/schedules/nightly"), 404)
    problem(await api.post("/schedules/nightly/pause"), 404)
    problem(await api.get("/schedules/nightly/runs"), 404)


async def test_a_schedule_is_triggered_and_its_runs_are_paged(api: httpx2.AsyncClient, app: Conveyor) -> None:
    run = ok(await api.post("/schedules/daily/trigger", json={"correlation_id": "by-hand"}), 202)
    assert run == {"schedule": "daily", "correlation_id": "by-hand"}
    assert problem(await api.post("/schedules/daily/trigger"), 409)["code"] == "schedule_busy"
    page = ok(await api.get("/schedules/daily/runs", params={"limit": 1}))
    assert [each["status"] for each in page["items"]] == ["skipped"]
    page = ok(await api.get("/schedules/daily/runs", params={"limit": 1, "cursor": page["next_cursor"]}))
    [run] = page["items"]
    assert (run["correlation_id"], run["trigger"], run["status"]) == ("by-hand", "manual", "queued")
    assert page["next_cursor"] is None
    problem(await api.post("/schedules/nightly/trigger"), 404)
    problem(await api.post("/schedules/daily/trigger", json={"correlation_id": "a\nb"}), 422)


async def test_another_app_s_schedule_is_not_triggered_here(
    api: httpx2.AsyncClient, app: Conveyor, tmp_path: Path, clock: ManualClock
) -> None:
    other = Conveyor("bakery", url=f"sqlite:///{tmp_path}/store.db", clock=clock)

    @other.cron("0 4 * * *", name="bread")
    async def bread(run: CronRun) -> None: ...

    async with other:
        assert "bakery" in problem(await api.post("/schedules/bread/trigger"), 409)["detail"]


# Alarms


async def test_alarms_are_shown_armed_again_and_cancelled(api: httpx2.AsyncClient, app: Conveyor) -> None:
    now = app.store.clock.now_ms()
    await app.store.create_queue("shop-alarms", QueueSettings())
    for name in ("egg", "tea/ä"):
        await app.store.set_alarm(name, now + 60_000, make_ring(IdSource(app.store.clock), "shop-alarms", name))
    page = ok(await api.get("/alarms", params={"limit": 1}))
    [egg] = page["items"]
    assert (egg["name"], egg["state"], egg["due"], egg["next"]) == ("egg", "scheduled", egg["next"], egg["due"])
    [tea] = ok(await api.get("/alarms", params={"limit": 1, "cursor": page["next_cursor"]}))["items"]
    assert ok(await api.get("/alarms/tea%2F%C3%A4")) == tea
    assert ok(await api.get("/alarms", params={"parked": "true"}))["items"] == []
    problem(await api.post("/alarms/egg/rearm"), 409)
    await app.store.purge("shop-alarms")
    parked = ok(await api.get("/alarms", params={"parked": "true"}))["items"]
    assert [(each["name"], each["state"], each["next"]) for each in parked] == [("egg", "parked", None), ("tea/ä", "parked", None)]
    armed = ok(await api.post("/alarms/egg/rearm", json={"after_ms": 60_000}))
    assert armed | {"message_id": "", "set_at": ""} == egg | {"message_id": "", "set_at": ""}
    assert (await api.delete("/alarms/egg")).status_code == 204
    for refused in (api.get("/alarms/egg"), api.delete("/alarms/egg"), api.post("/alarms/egg/rearm")):
        assert problem(await refused, 404)["code"] == "alarm_not_found"
    problem(await api.post("/alarms/tea%2F%C3%A4/rearm", json={"after_ms": -1}), 422)


# Webhooks


async def test_endpoints_and_deliveries_are_looked_after(api: httpx2.AsyncClient, app: Conveyor) -> None:
    url = "https://hooks.example/in"
    delivery = await app.webhooks.send(url, "order.paid", {"n": 1})
    [endpoint] = ok(await api.get("/webhooks/endpoints"))["items"]
    at = f"/webhooks/endpoints/{endpoint['id']}"
    assert (endpoint["url"], endpoint["events"], endpoint["disabled"]) == (url, ["*"], None)
    assert ok(await api.get(at)) == endpoint
    secret = ok(await api.get(f"{at}/secret"))["secret"]
    assert secret == await app.webhooks.secret(url)
    assert ok(await api.post(f"{at}/rotate", json={"overlap_ms": 0}))["secret"] == await app.webhooks.secret(url) != secret
    assert ok(await api.post(f"{at}/disable"))["disabled"] == "by hand"
    assert ok(await api.post(f"{at}/enable")) == endpoint
    [row] = ok(await api.get("/webhooks/deliveries", params={"endpoint": endpoint["id"], "state": "pending"}))["items"]
    assert (row["id"], row["event"], row["tries"], row["state"]) == (delivery, "order.paid", 0, "pending")
    detail = ok(await api.get(f"/webhooks/deliveries/{delivery}"))
    assert (detail["delivery"], detail["payload"]["data"], detail["tries"]) == (row, {"n": 1}, [])
    assert ok(await api.post(f"/webhooks/deliveries/{delivery}/resend"), 202)["id"] == delivery
    assert len(await app.store.peek("shop-webhooks", limit=9)) == 2, "the former is a stranger now"
    assert (await api.delete(at)).status_code == 204
    for refused in (api.get(at), api.delete(at), api.get(f"{at}/secret"), api.post(f"{at}/enable")):
        assert problem(await refused, 404)["code"] == "endpoint_not_found"
    for name in ("msg_" + "0" * 32, "nonsense"):
        assert problem(await api.get(f"/webhooks/deliveries/{name}"), 404)["code"] == "delivery_not_found"


# Named values


async def test_values_are_kept_listed_and_deleted(api: httpx2.AsyncClient, clock: ManualClock) -> None:
    assert (await api.put("/kv/cache/values/a%2Fb%20c", json={"value": "ü", "metadata": {"m": 1}})).status_code == 204
    entry = ok(await api.get("/kv/cache/values/a%2Fb%20c"))
    assert entry == {"key": "a/b c", "value": "ü", "encoding": "text", "expires_at": None, "metadata": {"m": 1}}
    raw = base64.b64encode(b"\xff\0").decode()
    await api.put("/kv/cache/values/raw", json={"value": raw, "encoding": "base64", "ttl_ms": 60_000})
    entry = ok(await api.get("/kv/cache/values/raw"))
    assert (entry["value"], entry["encoding"], entry["expires_at"]) == (raw, "base64", "2026-01-01T12:01:00Z")
    page = ok(await api.get("/kv/cache/keys", params={"limit": 1}))
    assert [each["key"] for each in page["items"]] == ["a/b c"]
    page = ok(await api.get("/kv/cache/keys", params={"limit": 1, "cursor": page["next_cursor"]}))
    assert ([each["key"] for each in page["items"]], page["next_cursor"]) == (["raw"], None)
    assert [each["key"] for each in ok(await api.get("/kv/cache/keys?prefix=r"))["items"]] == ["raw"]
    assert ok(await api.get("/kv/elsewhere/keys"))["items"] == []
    await clock.advance(61)
    problem(await api.get("/kv/cache/values/raw"), 404)
    assert (await api.delete("/kv/cache/values/a%2Fb%20c")).status_code == 204
    problem(await api.get("/kv/cache/values/a%2Fb%20c"), 404)


NO_ENTRIES: list[tuple[str, dict[str, Any]]] = [
    ("no%20name/values/k", {"value": ""}),
    ("cache/values/" + "k" * 513, {"value": ""}),
    ("cache/values/%00", {"value": ""}),
    ("cache/values/k", {"value": 1}),
    ("cache/values/k", {"value": "%", "encoding": "base64"}),
    ("cache/values/k", {"value": "", "ttl_ms": 0}),
    ("cache/values/k", {"value": "", "metadata": "m" * 1_025}),
]


async def test_a_value_that_cannot_be_is_refused(api: httpx2.AsyncClient) -> None:
    for path, entry in NO_ENTRIES:
        problem(await api.put(f"/kv/{path}", json=entry), 422)


# Tokens


async def test_a_token_is_made_shown_once_and_revoked(api: httpx2.AsyncClient, clock: ManualClock) -> None:
    made = await make_token(api, ["send", "read"], ["jobs*"], expires_in_ms=60_000)
    assert made["token"].startswith("cvy_") and made["expires_at"] == "2026-01-01T12:01:00Z"
    theirs = {"authorization": f"Bearer {made['token']}"}
    ok(await api.get("/queues/jobs", headers=theirs))
    shown = ok(await api.get(f"/tokens/{made['id']}"))
    assert made["token"][20:] not in str(shown) and "token" not in shown
    assert (shown["rights"], shown["queues"], shown["created_by"]) == (["read", "send"], ["jobs*"], "environment")
    assert ok(await api.get("/tokens"))["items"] == [shown]
    assert (await api.delete(f"/tokens/{made['id']}")).status_code == 204
    problem(await api.get(f"/tokens/{made['id']}"), 404)
    await clock.advance(5)
    assert problem(await api.get("/queues/jobs", headers=theirs), 401)["code"] == "unauthenticated"


async def test_a_token_is_rotated_with_an_overlap(api: httpx2.AsyncClient, clock: ManualClock) -> None:
    old = await make_token(api, ["read"])
    new = ok(await api.post(f"/tokens/{old['id']}/rotate", json={"overlap_ms": 10_000}), 201)
    assert new["rights"] == ["read"] and new["id"] != old["id"]
    for token in (old, new):
        ok(await api.get("/queues", headers={"authorization": f"Bearer {token['token']}"}))
    await clock.advance(15)
    problem(await api.get("/queues", headers={"authorization": f"Bearer {old['token']}"}), 401)
    ok(await api.get("/queues", headers={"authorization": f"Bearer {new['token']}"}))


NO_TOKENS: list[dict[str, Any]] = [
    {"name": "x", "rights": []},
    {"name": "x", "rights": ["everything"]},
    {"name": "", "rights": ["read"]},
    {"name": "x", "rights": ["admin"], "queues": ["a"]},
    {"name": "x", "rights": ["read"], "queues": ["a b"]},
    {"name": "x", "rights": ["read"], "expires_in_ms": 0},
    {"name": "x", "rights": ["read"], "secret": "mine"},
]


async def test_a_token_that_cannot_be_is_refused(api: httpx2.AsyncClient) -> None:
    for asked in NO_TOKENS:
        problem(await api.post("/tokens", json=asked), 422)


async def test_only_admins_see_tokens_and_the_trail(api: httpx2.AsyncClient) -> None:
    theirs = await bound_to(api, ["send", "consume", "read", "manage"], None)
    for path in ("/tokens", "/audit", "/audit/verify", "/doctor"):
        assert problem(await api.get(path, headers=theirs), 403)["code"] == "forbidden"


# The audit trail


async def test_changes_are_in_the_trail_the_newest_first(api: httpx2.AsyncClient) -> None:
    await api.post("/queues", json={"name": "letters"})
    await api.post("/queues", json={"name": "letters"})
    await api.get("/queues/letters")
    page = ok(await api.get("/audit", params={"limit": 1}))
    [newest] = page["items"]
    assert (newest["action"], newest["result"], newest["actor"]) == ("queue.create", "queue_exists", "environment")
    page = ok(await api.get("/audit", params={"limit": 1, "cursor": page["next_cursor"]}))
    assert ([each["result"] for each in page["items"]], page["next_cursor"]) == (["ok"], None)
    assert page["items"][0]["target"] == "letters"


async def test_the_trail_is_verified(api: httpx2.AsyncClient, app: Conveyor) -> None:
    for name in ("a", "b"):
        await api.post("/queues", json={"name": name})
    found = ok(await api.get("/audit/verify"))
    assert (found["is_intact"], found["records"], found["faults"]) == (True, 2, [])
    assert ok(await api.get("/audit/verify", params={"head": found["head"]}))["is_intact"]
    [first, _] = await app.store.list_documents("audit", limit=9)
    await app.store.put_document("audit", first.name, first.body.replace(b'"a"', b'"c"'))
    found = ok(await api.get("/audit/verify"))
    assert not found["is_intact"] and found["faults"][0]["number"] == 1


# Sums


async def test_sums_are_over_what_the_token_may_read(api: httpx2.AsyncClient, app: Conveyor) -> None:
    await app.queue("jobs").send_batch([1, 2])
    stats = ok(await api.get("/stats"))
    assert (stats["backlog_messages"], stats["workers"], stats["leased"]) == (2, 0, 0)
    theirs = await bound_to(api, ["read"], ["nothing"])
    stats = ok(await api.get("/stats", headers=theirs))
    assert (stats["queues"], stats["backlog_messages"], stats["workers"]) == (0, 0, None)


async def test_workers_are_listed(api: httpx2.AsyncClient, app: Conveyor) -> None:
    from conveyor.store.records import OwnerInfo

    owner = await app.store.register_owner(OwnerInfo(app="shop", host="here", pid=7, supervisor_pid=6))
    [worker] = ok(await api.get("/workers"))["items"]
    assert worker == {
        "owner": owner, "app": "shop", "host": "here", "pid": 7, "lease_until": "2026-01-01T12:00:15Z"
    }  # fmt: skip
    problem(await api.get("/workers", headers=await bound_to(api, ["read"], ["jobs"])), 403)


async def test_the_doctor_examines_the_store(api: httpx2.AsyncClient) -> None:
    report = ok(await api.get("/doctor"))
    [store] = report["stores"]
    assert {"schema", "journal"} <= {each["check"] for each in store["findings"]}
    assert report["verdict"] in ("ok", "warning")
