"""Queues and consumers over `/api/v1`."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from conveyor import Conveyor
from conveyor.model.message import SEALED_MARK
from conveyor.testing.factories import a_draft
from server.rest.steps import bound_to, ok, problem

pytestmark = pytest.mark.anyio


async def test_a_queue_is_made_read_changed_and_deleted(api: httpx2.AsyncClient) -> None:
    made = ok(await api.post("/queues", json={"name": "letters", "settings": {"delivery_delay_ms": 5_000}}), 201)
    assert (made["name"], made["settings"]["delivery_delay_ms"], made["consumer"]) == ("letters", 5_000, None)
    answer = await api.get("/queues/letters")
    assert ok(answer) == made
    assert answer.headers["etag"] == f'"{made["version"]}"'
    answer = await api.patch(
        "/queues/letters", json={"retention_ms": 60_000}, headers={"if-match": answer.headers["etag"]}
    )
    changed = ok(answer)
    assert changed["settings"] == made["settings"] | {"retention_ms": 60_000}
    assert answer.headers["etag"] == f'"{changed["version"]}"' != f'"{made["version"]}"'
    assert (await api.delete("/queues/letters")).status_code == 204
    assert problem(await api.get("/queues/letters"), 404)["code"] == "queue_not_found"


async def test_a_name_is_taken_once(api: httpx2.AsyncClient) -> None:
    said = problem(await api.post("/queues", json={"name": "jobs"}), 409)
    assert said["code"] == "queue_exists" and said["hint"]


async def test_a_queue_is_renamed(api: httpx2.AsyncClient) -> None:
    ok(await api.post("/queues/jobs/messages", json={"body": 1}), 201)
    was = ok(await api.get("/queues/jobs"))
    ok(await api.post("/queues", json={"name": "taken"}), 201)
    path, any_version = "/queues/jobs/rename", {"if-match": "*"}
    assert problem(await api.post(path, json={"name": "tasks"}), 428)
    assert problem(await api.post(path, json={"name": "tasks"}, headers={"if-match": '"999"'}), 412)
    assert problem(await api.post(path, json={"name": "taken"}, headers=any_version), 409)["code"] == "queue_exists"
    assert problem(await api.post(path, json={"name": "no name"}, headers=any_version), 422)
    token = await bound_to(api, ["manage"], ["jobs", "mine"])
    assert problem(await api.post(path, json={"name": "tasks"}, headers=any_version | token), 404)
    answer = await api.post(path, json={"name": "tasks"}, headers={"if-match": f'"{was["version"]}"'})
    assert ok(answer) == was | {"name": "tasks", "version": ok(answer)["version"], "modified_at": ok(answer)["modified_at"]}
    assert answer.headers["etag"] == f'"{ok(answer)["version"]}"' != f'"{was["version"]}"'
    assert ok(await api.get("/queues/tasks/metrics"))["backlog_messages"] == 1
    said = problem(await api.get("/queues/jobs", headers=token), 404)
    assert (said["code"], "tasks" in said["hint"]) == ("queue_not_found", False)


async def test_what_is_bound_to_its_name_is_not_renamed(api: httpx2.AsyncClient, app: Conveyor) -> None:
    await app.store.append([a_draft(queue="jobs", body=SEALED_MARK + b'..."}')])
    answer = await api.post("/queues/jobs/rename", json={"name": "tasks"}, headers={"if-match": "*"})
    said = problem(answer, 409)
    assert said["code"] == "queue_not_renamable" and "make a new queue" in said["hint"]


async def test_an_edit_of_another_version_is_refused_and_changes_nothing(api: httpx2.AsyncClient) -> None:
    old = (await api.get("/queues/jobs")).headers["etag"]
    ok(await api.patch("/queues/jobs", json={"delivery_delay_ms": 1}, headers={"if-match": old}))
    said = problem(await api.patch("/queues/jobs", json={"delivery_delay_ms": 2}, headers={"if-match": old}), 412)
    assert said["code"] == "version_conflict" and "read it again" in said["hint"]
    for header in ('"x"', "7", '"-1"', 'W/"1"'):
        answer = await api.put("/queues/jobs/consumer", json={}, headers={"if-match": header})
        assert problem(answer, 412)["code"] == "version_conflict"
    assert ok(await api.get("/queues/jobs"))["settings"]["delivery_delay_ms"] == 1


async def test_an_edit_must_say_its_version_or_that_it_does_not_care(api: httpx2.AsyncClient) -> None:
    said = problem(await api.patch("/queues/jobs", json={"delivery_delay_ms": 2}), 428)
    assert said["code"] == "version_required" and "If-Match" in said["hint"]
    assert problem(await api.delete("/queues/jobs/consumer"), 428)
    ok(await api.patch("/queues/jobs", json={"delivery_delay_ms": 2}, headers={"if-match": "*"}))


async def test_a_consumer_is_set_whole_and_removed(api: httpx2.AsyncClient) -> None:
    settings = {
        "type": "http_pull",
        "max_retries": 1,
        "rate": "50/m",
        "retry_delay": {"base_ms": 100, "factor": 2.0},
        "dead_letter_queue": "jobs-dlq",
    }
    shown = ok(await api.put("/queues/jobs/consumer", json=settings, headers={"if-match": "*"}))["consumer"]
    assert shown | settings | {"retry_delay": shown["retry_delay"]} == shown
    assert shown["retry_delay"] == {"base_ms": 100, "factor": 2.0, "most_ms": 86_400_000, "jitter": False}
    ok(await api.get("/queues/jobs-dlq"))
    shown = ok(await api.put("/queues/jobs/consumer", json={"type": "http_pull"}, headers={"if-match": "*"}))[
        "consumer"
    ]
    assert (shown["rate"], shown["dead_letter_queue"], shown["max_retries"]) == (None, None, 3)
    assert ok(await api.delete("/queues/jobs/consumer", headers={"if-match": "*"}))["consumer"] is None


async def test_a_mode_of_dispatch_is_set_and_shown(api: httpx2.AsyncClient) -> None:
    asked = {"script": "shop", "dispatch": "cron", "dispatch_cron": "*/5 * * * *", "dispatch_messages": 7}
    shown = ok(await api.put("/queues/jobs/consumer", json=asked, headers={"if-match": "*"}))["consumer"]
    assert shown | asked == shown
    shown = ok(await api.put("/queues/jobs/consumer", json={"script": "shop"}, headers={"if-match": "*"}))["consumer"]
    assert (shown["dispatch"], shown["dispatch_messages"]) == ("queue", 1)
    ok(await api.delete("/queues/jobs/consumer", headers={"if-match": "*"}))


NO_CONSUMERS: list[dict[str, Any]] = [
    {"rate": "many"},
    {"max_batch_size": 0},
    {"retry_delay": {"base_ms": -1}},
    {"retry_delay": {"base_ms": 1, "factor": 0}},
    {"type": "carrier pigeon"},
    {"dead_letter_queue": "no name"},
    {"script": 7},
    {"version": 1},
    {"dispatch": "soon"},
    {"dispatch": "cron", "dispatch_cron": "61 * * * *"},
    {"dispatch": "cron", "dispatch_messages": 0},
    {"type": "http_pull", "dispatch": "alarm"},
]


async def test_a_consumer_that_cannot_be_is_refused(api: httpx2.AsyncClient) -> None:
    for body in NO_CONSUMERS:
        said = problem(await api.put("/queues/jobs/consumer", json=body, headers={"if-match": "*"}), 422)
        assert said["detail"] and said["request_id"]
        assert ok(await api.get("/queues/jobs"))["consumer"] is None


NO_QUEUES: list[Any] = [
    {"name": "no name"},
    {"name": "a", "settings": {"retention_ms": 1}},
    {"name": "a", "settings": {"retention_ms": 10**30}},
    {"name": "a", "version": 1},
    {},
    [],
    "null",
]


async def test_a_queue_that_cannot_be_is_refused(api: httpx2.AsyncClient) -> None:
    for body in NO_QUEUES:
        problem(await api.post("/queues", json=body), 422)


async def test_what_is_no_json_is_said_to_be_none(api: httpx2.AsyncClient) -> None:
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        answer = await api.post("/queues", content=content, headers={"content-type": "application/json"})
        assert problem(answer, 400)["code"] == "invalid_request"


async def test_pause_resume_and_purge(api: httpx2.AsyncClient, app: Conveyor) -> None:
    assert ok(await api.post("/queues/jobs/pause"))["paused"] is True
    assert ok(await api.post("/queues/jobs/resume"))["paused"] is False
    await app.queue("jobs").send_batch([1, 2, 3])
    metrics = ok(await api.get("/queues/jobs/metrics"))
    assert (metrics["backlog_messages"], metrics["leased"]) == (3, 0)
    assert metrics["oldest_ready_at"] == "2026-01-01T12:00:00Z"
    assert ok(await api.post("/queues/jobs/purge")) == {"purged": 3}
    assert ok(await api.get("/queues/jobs/metrics"))["backlog_messages"] == 0


async def test_a_list_is_paged_and_stands_while_it_changes(api: httpx2.AsyncClient) -> None:
    for name in ("c", "a", "e"):
        ok(await api.post("/queues", json={"name": name}), 201)
    page = ok(await api.get("/queues", params={"limit": 2}))
    assert [each["name"] for each in page["items"]] == ["a", "c"]
    ok(await api.post("/queues", json={"name": "b"}), 201)
    await api.delete("/queues/c")
    page = ok(await api.get("/queues", params={"limit": 2, "cursor": page["next_cursor"]}))
    assert ([each["name"] for each in page["items"]], page["next_cursor"]) == (["e", "jobs"], None)


NO_PAGES = ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=", "cursr=x", "limit=1&limit=2"]


async def test_a_page_that_cannot_be_is_refused(api: httpx2.AsyncClient) -> None:
    for query in NO_PAGES:
        problem(await api.get(f"/queues?{query}"), 422)


async def test_another_list_s_cursor_is_refused(api: httpx2.AsyncClient, app: Conveyor) -> None:
    await app.queue("jobs").send_batch([1, 2])
    cursor = ok(await api.get("/queues/jobs/messages", params={"limit": 1}))["next_cursor"]
    assert "cursor" in problem(await api.get("/queues", params={"cursor": cursor}), 422)["detail"]


async def test_a_bound_token_lets_nothing_die_into_another_s_queue(api: httpx2.AsyncClient) -> None:
    ok(await api.post("/queues", json={"name": "secret"}), 201)
    theirs = await bound_to(api, ["manage"], ["jobs*"]) | {"if-match": "*"}
    for field in ("dead_letter_queue", "alert_queue"):
        problem(await api.put("/queues/jobs/consumer", json={field: "secret"}, headers=theirs), 404)
        ok(await api.put("/queues/jobs/consumer", json={field: "jobs-dlq"}, headers=theirs))


async def test_a_bound_token_sees_its_queues_and_no_others(api: httpx2.AsyncClient) -> None:
    ok(await api.post("/queues", json={"name": "secret"}), 201)
    theirs = await bound_to(api, ["manage"], ["jobs*"])
    assert [each["name"] for each in ok(await api.get("/queues", headers=theirs))["items"]] == ["jobs"]
    absent, hidden = await api.get("/queues/nowhere", headers=theirs), await api.get("/queues/secret", headers=theirs)
    said, other = problem(absent, 404), problem(hidden, 404)
    assert {**said, "request_id": 0, "detail": "", "hint": ""} == {**other, "request_id": 0, "detail": "", "hint": ""}
    problem(await api.post("/queues", json={"name": "elsewhere"}, headers=theirs), 404)
    ok(await api.post("/queues", json={"name": "jobs-2"}, headers=theirs), 201)
