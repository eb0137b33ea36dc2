"""Anthropic's prompt cache and its rules, in process: what is written, read and renewed, and what is refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from conveyor_apps.sandbox import SandboxSettings, create_sandbox

pytestmark = pytest.mark.anyio
PATH = "/anthropic/v1/messages"
ROAST = {"model": "claude-x", "max_tokens": 99, "messages": [{"role": "user", "content": "Roast it"}]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def sandbox(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_sandbox(SandboxSettings(**settings)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        yield client


async def send(client: httpx2.AsyncClient, body: dict[str, Any]) -> httpx2.Response:
    return await client.post(PATH, json=body, headers={"x-api-key": "k", "anthropic-version": "2023-06-01"})


def cached(text: str, ttl: str | None = None) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})}


async def spend(client: httpx2.AsyncClient, system: list[dict[str, Any]], **changes: Any) -> tuple[int, int, int, int]:
    answer = await send(client, {**ROAST, "system": system, **changes})
    usage = answer.raise_for_status().json()["usage"]
    written = usage["cache_creation"]
    return (
        usage["input_tokens"],
        usage["cache_read_input_tokens"],
        written["ephemeral_1h_input_tokens"],
        written["ephemeral_5m_input_tokens"],
    )


async def test_cache_ages_by_the_admins_clock_and_a_read_renews_it() -> None:
    short, long = [cached("s" * 400)], [cached("l" * 800, "1h")]
    async with sandbox() as client:
        assert await spend(client, short) == (2, 0, 0, 100)
        assert await spend(client, long) == (2, 0, 200, 0)
        await client.post("/admin/clock", json={"advance_s": 299})
        assert await spend(client, short) == (2, 100, 0, 0)
        await client.post("/admin/clock", json={"advance_s": 299})
        assert await spend(client, short) == (2, 100, 0, 0), "the read at 299 s renewed it"
        await client.post("/admin/clock", json={"advance_s": 300})
        assert await spend(client, short) == (2, 0, 0, 100)
        assert await spend(client, long) == (2, 200, 0, 0)
        await client.post("/admin/clock", json={"advance_s": 3600})
        assert await spend(client, long) == (2, 0, 200, 0)


async def test_cache_bills_the_longest_known_beginning_and_writes_the_rest() -> None:
    base, more = cached("a" * 400, "1h"), cached("b" * 40)
    async with sandbox() as client:
        assert await spend(client, [base, more]) == (2, 0, 100, 10)
        assert await spend(client, [base, cached("c" * 80)]) == (2, 100, 0, 20)
        assert await spend(client, [cached("z" * 400, "1h"), more]) == (2, 0, 100, 10)
        assert await spend(client, [base, more], model="claude-other") == (2, 0, 100, 10), "models share nothing"


async def test_cache_ignores_prompts_below_its_smallest_size() -> None:
    async with sandbox(cache_tokens_min=101) as client:
        assert await spend(client, [cached("a" * 400)]) == (102, 0, 0, 0)
        assert await spend(client, [cached("a" * 404)]) == (2, 0, 0, 101)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": [cached(str(number)) for number in range(5)]}, "maximum of 4 blocks"),
        ({"system": [cached("a"), cached("b", "1h")]}, "must not come after"),
        ({"system": [cached("a", "2h")]}, "cache_control.ttl"),
        ({"system": [cached("")]}, "empty text blocks"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "king", "content": "x"}]}, "role"),
        ({"messages": 3}, "messages"),
    ],
)
async def test_anthropic_refuses_broken_requests(changes: dict[str, Any], words: str) -> None:
    async with sandbox() as client:
        answer = await send(client, {**ROAST, **changes})
    body = answer.json()
    assert (answer.status_code, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
    assert words in body["error"]["message"]
    assert body["request_id"] == answer.headers["request-id"]


async def test_anthropic_needs_a_version_and_takes_either_kind_of_key() -> None:
    async with sandbox() as client:
        without = await client.post(PATH, json=ROAST, headers={"x-api-key": "k"})
        bearer = {"authorization": "Bearer k", "anthropic-version": "2026-10-21"}
        with_bearer = await client.post(PATH, json=ROAST, headers=bearer)
    assert (without.status_code, with_bearer.status_code) == (400, 200)
    assert "anthropic-version" in without.json()["error"]["message"]


async def test_cache_is_not_shared_between_keys() -> None:
    body = {**ROAST, "system": [cached("a" * 400)]}
    async with sandbox() as client:
        first = await send(client, body)
        other = await client.post(PATH, json=body, headers={"x-api-key": "other", "anthropic-version": "2023-06-01"})
    for answer in (first, other):
        assert answer.json()["usage"]["cache_creation_input_tokens"] == 100


async def test_top_level_cache_control_marks_the_last_block() -> None:
    async with sandbox() as client:
        assert await spend(client, [], cache_control={"type": "ephemeral", "ttl": "1h"}) == (0, 0, 2, 0)
        assert await spend(client, [], cache_control={"type": "ephemeral", "ttl": "1h"}) == (0, 2, 0, 0)
