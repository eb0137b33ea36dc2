"""Groups over `/api/v1`."""

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
    """With two groups."""
    app = Conveyor("shop", url=f"sqlite:///{tmp_path}/store.db", clock=clock)

    @app.job(queue="mails")
    async def mail(number: int) -> int:
        return number

    async with app:
        for name in ("first", "second"):
            group = app.group(name, deadline="2h")
            group.add(mail, 2, after=group.add(mail, 1))
            await group.start()
        yield app


async def test_groups_are_listed_page_by_page(api: httpx2.AsyncClient) -> None:
    page = ok(await api.get("/groups", params={"limit": 1}))
    assert [(each["name"], each["state"], each["unfinished"]) for each in page["items"]] == [("second", "running", 2)]
    page = ok(await api.get("/groups", params={"limit": 1, "cursor": page["next_cursor"]}))
    assert [each["name"] for each in page["items"]] == ["first"]
    assert ok(await api.get("/groups", params={"name": "first"}))["items"] == page["items"]
    assert ok(await api.get("/groups", params={"state": "expired"}))["items"] == []
    problem(await api.get("/groups", params={"state": "perhaps"}), 422)


async def test_a_group_is_shown_with_its_members_and_cancelled(api: httpx2.AsyncClient) -> None:
    [group] = ok(await api.get("/groups", params={"name": "first"}))["items"]
    where = f"/groups/{group['id']}"
    assert ok(await api.get(where)) == group
    assert group["deadline_at"] == "2026-01-01T14:00:00Z"
    page = ok(await api.get(f"{where}/members", params={"limit": 1}))
    assert [(each["place"], each["job"], each["state"]) for each in page["items"]] == [(0, "mail", "sent")]
    page = ok(await api.get(f"{where}/members", params={"limit": 1, "cursor": page["next_cursor"]}))
    assert [(each["place"], each["state"], each["result"]) for each in page["items"]] == [(1, "waiting", None)]
    assert [each["place"] for each in ok(await api.get(f"{where}/members?state=waiting"))["items"]] == [1]
    looks = ok(await api.get("/audit"))["items"]
    assert [(each["action"], each["target"]) for each in looks] == [("group.peek", group["id"])] * 3, "members have results"
    cancelled = ok(await api.post(f"{where}/cancel"))
    assert (cancelled["state"], cancelled["cancelled"], cancelled["unfinished"]) == ("cancelled", 2, 0)


async def test_what_is_no_group_is_not_found(api: httpx2.AsyncClient) -> None:
    for id in ("0" * 32, "what"):
        for path in (f"/groups/{id}", f"/groups/{id}/members"):
            assert problem(await api.get(path), 404)["code"] == "group_not_found"
        assert problem(await api.post(f"/groups/{id}/cancel"), 404)["code"] == "group_not_found"
