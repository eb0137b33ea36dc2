"""Jobs over `/api/v1`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from conveyor import Conveyor
from conveyor.testing.clock import ManualClock
from server.rest.steps import ok, problem

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Conveyor]:
    """With a job."""
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db", clock=clock)

    @app.job(queue="mails")
    async def mail(number: int) -> int:
        return number

    async with app:
        await mail.enqueue_many([1, 2])
        await mail.options(delay="1h").enqueue(3)
        yield app


async def test_jobs_are_listed_page_by_page(api: httpx2.AsyncClient) -> None:
    page = ok(await api.get("/jobs", params={"limit": 2}))
    assert [each["state"] for each in page["items"]] == ["scheduled", "queued"]
    page = ok(await api.get("/jobs", params={"limit": 2, "cursor": page["next_cursor"]}))
    assert [each["name"] for each in page["items"]] == ["mail"]
    assert [each["state"] for each in ok(await api.get("/jobs", params={"state": "queued"}))["items"]] == ["queued"] * 2
    assert ok(await api.get("/jobs", params={"queue": "other"}))["items"] == []
    assert ok(await api.get("/jobs/errors"))["items"] == []
    problem(await api.get("/jobs", params={"state": "perhaps"}), 422)


async def test_a_job_is_shown_explained_and_cancelled(api: httpx2.AsyncClient, app: Conveyor) -> None:
    [scheduled, queued, _] = ok(await api.get("/jobs"))["items"]
    where = f"/jobs/{scheduled['id']}"
    shown = ok(await api.get(where))
    assert (shown["state"], shown["next_at"], shown["cancel_requested"]) == ("scheduled", "2026-01-01T13:00:00Z", False)
    assert ok(await api.get(f"{where}/explain"))["reason"] == "scheduled"
    assert ok(await api.post(f"{where}/cancel"))["state"] == "cancelled"
    assert problem(await api.post(f"{where}/retry"), 409)["code"] == "job_not_retriable"
    await app.pause("mails")
    assert ok(await api.get(f"/jobs/{queued['id']}/explain"))["reason"] == "paused"


async def test_a_job_is_told_of_an_event(api: httpx2.AsyncClient) -> None:
    [scheduled, *_] = ok(await api.get("/jobs"))["items"]
    where = f"/jobs/{scheduled['id']}"
    for payload in ({"amount": 9}, None):
        answer = await api.post(f"{where}/events", json={"name": "paid", "payload": payload})
        assert answer.status_code == 204
    shown = ok(await api.get(where))
    [event] = shown["events"]
    assert (event["name"], event["size_bytes"], shown["steps"], shown["state"]) == ("paid", 12, [], "scheduled")
    await api.post(f"{where}/cancel")
    refused = problem(await api.post(f"{where}/events", json={"name": "paid"}), 409)
    assert refused["code"] == "job_event_refused" and "it is cancelled" in refused["detail"]
    problem(await api.post(f"{where}/events", json={"name": "a\0b"}), 422)
    problem(await api.post(f"/jobs/{'0' * 32}/events", json={"name": "paid"}), 404)


async def test_what_is_no_job_is_not_found(api: httpx2.AsyncClient) -> None:
    for id in ("0" * 32, "what"):
        assert problem(await api.get(f"/jobs/{id}"), 404)["code"] == "job_not_found"
    for verb in ("cancel", "retry"):
        assert problem(await api.post(f"/jobs/{'0' * 32}/{verb}"), 404)["code"] == "job_not_found"
