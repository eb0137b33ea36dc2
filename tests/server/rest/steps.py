"""One line for one act on the API."""

from __future__ import annotations

from typing import Any

import httpx2


def ok(answer: httpx2.Response, status: int = 200) -> Any:
    """What it says."""
    assert answer.status_code == status, answer.text
    return answer.json()


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """What it says is wrong."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert said["status"] == status and said["code"] and said["request_id"] == answer.headers["x-request-id"]
    return said


async def make_token(api: httpx2.AsyncClient, rights: list[str], queues: list[str] | None = None, **more: Any) -> Any:
    return ok(await api.post("/tokens", json={"name": "test", "rights": rights, "queues": queues} | more), 201)


async def bound_to(api: httpx2.AsyncClient, rights: list[str], queues: list[str] | None) -> dict[str, str]:
    """The headers of a new token with these rights on these queues."""
    return {"authorization": f"Bearer {(await make_token(api, rights, queues))['token']}"}
