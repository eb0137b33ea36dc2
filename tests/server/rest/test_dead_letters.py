"""Dead letters over `/api/v1`: listed, edited, sent back, thrown away."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from conveyor import Conveyor
from conveyor.model.settings import ConsumerSettings, ConsumerType
from conveyor.model.verdict import Action, Settlement
from conveyor.store.records import PULL_OWNER, ClaimRequest
from conveyor.testing.clock import ManualClock
from server.rest.steps import bound_to, ok, problem

pytestmark = pytest.mark.anyio
LETTERS = "/dead-letters/dead"


@pytest.fixture
async def queues(app: Conveyor) -> None:
    """`jobs` and `more`, which dead-letter to `dead`."""
    await app.store.create_queue("more", (await app.store.get_queue("jobs")).settings)
    for name in ("jobs", "more"):
        settings = ConsumerSettings(type=ConsumerType.HTTP_PULL, dead_letter_queue="dead")
        await app.store.put_consumer(name, settings)


async def kill(app: Conveyor, body: object, *, queue: str = "jobs", reason: str = "bad") -> str:
    """A dead letter; its id."""
    sent = await app.queue(queue).send(body, headers={"n": 1})
    [lease] = (await app.store.claim(ClaimRequest(queue=queue, owner=PULL_OWNER, limit=1, lease_ms=1_000))).leases
    verdict = Settlement(lease.seq, lease.claim, Action.REJECT, reason=reason, error="it broke")
    await app.store.settle_pulled([verdict])
    return sent.id


async def listed(api: httpx2.AsyncClient, **asked: Any) -> list[Any]:
    return [each["body"] for each in ok(await api.get(LETTERS, params=asked))["items"]]


async def test_letters_say_where_why_and_when_they_died(api: httpx2.AsyncClient, app: Conveyor, queues: None) -> None:
    letter_id = await kill(app, {"n": 1})
    assert ok(await api.get("/dead-letters"))["items"] == [
        {"queue": "dead", "messages": 1, "origins": ["jobs", "more"]}
    ]
    letter = ok(await api.get(f"{LETTERS}/{letter_id}"))
    assert [letter] == ok(await api.get(LETTERS))["items"]
    facts = {name: letter[name] for name in ("id", "body", "origin_queue", "reason", "last_error", "dead_at")}
    assert facts == {
        "id": letter_id, "body": {"n": 1}, "origin_queue": "jobs", "reason": "bad", "last_error": "it broke",
        "dead_at": "2026-01-01T12:00:00Z",
    }  # fmt: skip
    problem(await api.get(f"{LETTERS}/{'0' * 32}"), 404)
    problem(await api.get(f"{LETTERS}/x"), 404)
    problem(await api.get("/dead-letters/nowhere"), 404)


async def test_who_sees_what_letters_hold_is_in_the_trail(
    api: httpx2.AsyncClient, app: Conveyor, queues: None
) -> None:
    letter_id = await kill(app, "canary")
    ok(await api.get("/dead-letters"))
    ok(await api.get(LETTERS))
    ok(await api.get(f"{LETTERS}/{letter_id}"))
    problem(await api.get(f"{LETTERS}/{'0' * 32}"), 404)
    records = ok(await api.get("/audit"))["items"][::-1]
    assert [(each["action"], each["target"], each["result"]) for each in records] == [
        ("dead_letter.peek", "dead", "ok"),
        ("dead_letter.peek", f"dead/{letter_id}", "ok"),
        ("dead_letter.peek", f"dead/{'0' * 32}", "not_found"),
    ]
    assert "canary" not in str(records)


async def test_letters_are_found_by_origin_reason_and_age(
    api: httpx2.AsyncClient, app: Conveyor, clock: ManualClock, queues: None
) -> None:
    await kill(app, 1)
    await clock.advance(60)
    await kill(app, 2, reason="worse")
    await kill(app, 3, queue="more")
    assert await listed(api) == [1, 2, 3]
    assert await listed(api, origin="more") == [3]
    assert await listed(api, reason="bad") == [1, 3]
    assert await listed(api, older_than_ms=30_000) == [1]
    assert await listed(api, newer_than_ms=30_000, origin="jobs") == [2]
    problem(await api.get(LETTERS, params={"reason": ""}), 422)
    page = ok(await api.get(LETTERS, params={"limit": 1, "reason": "bad"}))
    page = ok(await api.get(LETTERS, params={"limit": 1, "reason": "bad", "cursor": page["next_cursor"]}))
    assert ([each["body"] for each in page["items"]], page["next_cursor"]) == ([3], None)


async def test_a_letter_is_edited_from_the_version_that_was_read(
    api: httpx2.AsyncClient, app: Conveyor, queues: None
) -> None:
    path = f"{LETTERS}/{await kill(app, {'n': 1})}"
    tag = (await api.get(path)).headers["etag"]
    answer = await api.patch(path, json={"body": {"n": 2}}, headers={"if-match": tag})
    assert (ok(answer)["body"], ok(answer)["headers"]) == ({"n": 2}, {"n": 1})
    assert answer.headers["etag"] != tag
    problem(await api.patch(path, json={"body": {"n": 3}}, headers={"if-match": tag}), 412)
    problem(await api.patch(path, json={"body": {"n": 3}}), 428)
    edit = {"body": "text", "content_type": "text", "headers": None}
    edited = ok(await api.patch(path, json=edit, headers={"if-match": answer.headers["etag"]}))
    assert (edited["body"], edited["content_type"], edited["headers"]) == ("text", "text", None)
    assert edited["reason"] == "bad"
    assert (await app.store.metrics("dead")).backlog_bytes == len("text")
    ok(await api.post(f"{LETTERS}/redrive", json={"ids": [edited["id"]]}))
    assert (await app.store.peek("jobs", limit=1))[0].body == b"text"


@pytest.mark.parametrize(
    "edit",
    [
        {"content_type": "text"},
        {"body": 1, "content_type": "text"},
        {"headers": {"x": "y" * 5_000}},
        {"headers": {"conveyor-group": "of another"}},
        {"attempts": 0},
    ],
)
async def test_an_edit_that_cannot_be_is_refused(
    api: httpx2.AsyncClient, app: Conveyor, queues: None, edit: dict[str, object]
) -> None:
    path = f"{LETTERS}/{await kill(app, 1)}"
    answer = await api.patch(path, json=edit, headers={"if-match": "*"})
    problem(answer, 413 if "y" * 5_000 in str(edit) else 422)
    assert await listed(api) == [1]


async def test_letters_go_back_by_id_by_filter_or_all(
    api: httpx2.AsyncClient, app: Conveyor, clock: ManualClock, queues: None
) -> None:
    first = await kill(app, 1)
    await kill(app, 2, queue="more")
    await kill(app, 3, reason="worse")
    await clock.advance(60)
    await kill(app, 4)
    assert ok(await api.post(f"{LETTERS}/redrive", json={"ids": [first, first, "f" * 32]})) == {"redriven": 1}
    assert await listed(api) == [2, 3, 4]
    assert ok(await api.post(f"{LETTERS}/redrive", json={"reason": "bad", "older_than_ms": 1_000})) == {"redriven": 1}
    assert await listed(api) == [3, 4]
    assert ok(await api.post(f"{LETTERS}/redrive", json={"origin": "nowhere"})) == {"redriven": 0}
    problem(await api.post(f"{LETTERS}/redrive", json={"ids": [first], "reason": "bad"}), 422)
    problem(await api.post(f"{LETTERS}/redrive", json={"ids": []}), 422)
    assert ok(await api.post(f"{LETTERS}/redrive")) == {"redriven": 2}
    assert await listed(api) == []
    assert [each.attempts for each in await app.store.peek("jobs", limit=9)] == [0, 0, 0]


async def test_a_bound_token_sends_back_to_its_own_queues_alone(
    api: httpx2.AsyncClient, app: Conveyor, queues: None
) -> None:
    theirs = await bound_to(api, ["manage"], ["dead", "jobs"])
    await kill(app, 1)
    other = await kill(app, 2, queue="more")
    for asked in ({"ids": [other]}, {"origin": "more"}):
        assert ok(await api.post(f"{LETTERS}/redrive", json=asked, headers=theirs)) == {"redriven": 0}
    assert ok(await api.post(f"{LETTERS}/redrive", headers=theirs)) == {"redriven": 1}
    assert await listed(api) == [2]


async def test_letters_are_purged(api: httpx2.AsyncClient, app: Conveyor, queues: None) -> None:
    await kill(app, 1)
    assert ok(await api.post(f"{LETTERS}/purge")) == {"purged": 1}
    assert await listed(api) == []


async def test_a_bound_token_sees_no_other_queue_of_the_overview(
    api: httpx2.AsyncClient, app: Conveyor, queues: None
) -> None:
    theirs = await bound_to(api, ["read"], ["dead", "jobs"])
    assert ok(await api.get("/dead-letters", headers=theirs))["items"][0]["origins"] == ["jobs"]
    theirs = await bound_to(api, ["read"], ["jobs"])
    assert ok(await api.get("/dead-letters", headers=theirs))["items"] == []
    problem(await api.get(LETTERS, headers=theirs), 404)
