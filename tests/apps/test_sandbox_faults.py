"""What goes wrong, in process: each provider's own envelopes, faults by turn and by movie, delays."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from conveyor_apps.sandbox import SandboxSettings, create_sandbox

pytestmark = pytest.mark.anyio
ROAST = {"model": "claude-x", "max_tokens": 99, "messages": [{"role": "user", "content": "Roast it"}]}

# provider -> method, path, body, name of the key's header, its prefix
CALLS: dict[str, tuple[str, str, dict[str, Any] | None, str, str]] = {
    "tmdb": ("GET", "/tmdb/3/movie/now_playing", None, "authorization", "Bearer "),
    "brave": ("GET", "/brave/res/v1/web/search?q=dune", None, "x-subscription-token", ""),
    "anthropic": ("POST", "/anthropic/v1/messages", ROAST, "x-api-key", ""),
    "xai": ("POST", "/xai/v1/responses", {"model": "grok-4.5", "input": "Roast it"}, "authorization", "Bearer "),
    "perplexity": ("POST", "/perplexity/v1/agent", {"preset": "fast", "input": "x"}, "authorization", "Bearer "),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Naps:
    """Stands in for sleeping, and remembers."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@asynccontextmanager
async def sandbox(naps: Naps | None = None, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_sandbox(SandboxSettings(**settings), sleep=naps or Naps())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sandbox") as client:
        yield client


async def call(client: httpx2.AsyncClient, provider: str, key: str | None = "key", **changes: Any) -> httpx2.Response:
    method, path, body, header, prefix = CALLS[provider]
    headers = {"anthropic-version": "2023-06-01"} | ({header: prefix + key} if key else {})
    request: dict[str, Any] = {"json": body, "headers": headers} | changes
    return await client.request(method, path, **request)


async def switch_on(client: httpx2.AsyncClient, provider: str, **faults: Any) -> None:
    (await client.put(f"/admin/faults/{provider}", json=faults)).raise_for_status()


def kind(provider: str, answer: httpx2.Response) -> Any:
    """Take from an envelope the field that names the error."""
    body = answer.json()
    match provider:
        case "tmdb":
            return body["status_code"]
        case "brave":
            return body["error"]["code"]
        case "xai":
            return body["code"].split(":")[0]
        case _:
            return body["error"]["type"]


@pytest.mark.parametrize(
    ("provider", "key", "status", "name"),
    [
        ("tmdb", None, 401, 7),
        ("tmdb", "wrong-key", 401, 7),
        ("brave", None, 422, "VALIDATION"),
        ("brave", "wrong-key", 401, "SUBSCRIPTION_TOKEN_INVALID"),
        ("anthropic", None, 401, "authentication_error"),
        ("anthropic", "wrong-key", 401, "authentication_error"),
        ("xai", None, 401, "Unauthenticated"),
        ("xai", "wrong-key", 400, "Client specified an invalid argument"),
        ("perplexity", None, 401, "missing_api_key"),
        ("perplexity", "wrong-key", 401, "invalid_api_key"),
    ],
)
async def test_missing_and_wrong_keys(provider: str, key: str | None, status: int, name: Any) -> None:
    async with sandbox() as client:
        answer = await call(client, provider, key)
    assert (answer.status_code, kind(provider, answer)) == (status, name)


@pytest.mark.parametrize(
    ("provider", "status", "name"),
    [
        ("tmdb", 500, 11),
        ("tmdb", 503, 9),
        ("tmdb", 501, 15),
        ("brave", 500, "INTERNAL"),
        ("anthropic", 402, "billing_error"),
        ("anthropic", 500, "api_error"),
        ("anthropic", 504, "timeout_error"),
        ("anthropic", 529, "overloaded_error"),
        ("xai", 403, "The caller does not have permission to execute the specified operation"),
        ("xai", 503, "The service is currently unavailable"),
        ("perplexity", 502, "internal_server_error"),
    ],
)
async def test_error_fault_wears_the_providers_envelope(provider: str, status: int, name: Any) -> None:
    async with sandbox() as client:
        await switch_on(client, provider, error_every=1, error_status=status)
        answer = await call(client, provider)
    assert (answer.status_code, kind(provider, answer)) == (status, name)


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("tmdb", 25),
        ("brave", "RATE_LIMITED"),
        ("anthropic", "rate_limit_error"),
        ("xai", "Some resource has been exhausted"),
        ("perplexity", "request_rate_limit_exceeded"),
    ],
)
async def test_every_third_call_is_rate_limited_with_retry_after(provider: str, name: Any) -> None:
    async with sandbox() as client:
        await switch_on(client, provider, rate_limit_every=3, retry_after_s=12)
        answers = [await call(client, provider) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 200, 429]
    assert answers[2].headers["retry-after"] == "12"
    assert kind(provider, answers[2]) == name


@pytest.mark.parametrize("provider", CALLS)
async def test_unknown_path_gets_the_providers_own_404(provider: str) -> None:
    names = {"tmdb": 34, "brave": "NOT_FOUND", "anthropic": "not_found_error", "perplexity": "not_found"}
    header, prefix = CALLS[provider][3:]
    async with sandbox() as client:
        answer = await client.get(f"/{provider}/nowhere", headers={header: f"{prefix}key"})
    expected = names.get(provider, "Some requested entity was not found")
    assert (answer.status_code, kind(provider, answer)) == (404, expected)


@pytest.mark.parametrize("provider", CALLS)
async def test_malformed_answers_are_cut_and_misshapen_in_turn(provider: str) -> None:
    async with sandbox() as client:
        await switch_on(client, provider, malformed_every=2)
        answers = [await call(client, provider) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    with pytest.raises(ValueError, match=r"."):
        answers[1].json()
    assert list(answers[3].json()) == ["surprise"]
    assert answers[2].json() == answers[0].json()


@pytest.mark.parametrize("provider", CALLS)
async def test_too_large_body_is_refused(provider: str) -> None:
    async with sandbox(body_bytes_max=500) as client:
        answer = await call(client, provider, json={"model": "x" * 600})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("now_playing?page=0", 400, 22),
        ("now_playing?page=x", 400, 22),
        ("now_playing?page=501", 400, 22),
        ("1", 404, 34),
        ("x", 404, 34),
    ],
)
async def test_tmdb_refuses_bad_pages_and_unknown_movies(path: str, status: int, code: int) -> None:
    async with sandbox() as client:
        answer = await client.get(f"/tmdb/3/movie/{path}", headers={"Authorization": "Bearer k"})
    assert (answer.status_code, answer.json()["status_code"], answer.json()["success"]) == (status, code, False)


@pytest.mark.parametrize("query", ["", "q=", "q=x&count=21", "q=x&count=0", "q=x&offset=10", "q=x&freshness=soon"])
async def test_brave_refuses_bad_parameters(query: str) -> None:
    async with sandbox() as client:
        answer = await client.get(f"/brave/res/v1/web/search?{query}", headers={"X-Subscription-Token": "k"})
    assert (answer.status_code, kind("brave", answer)) == (422, "VALIDATION")


async def test_brave_quota_comes_in_the_plural_form_with_the_month_used_up() -> None:
    async with sandbox() as client:
        await switch_on(client, "brave", rate_limit_every=1, rate_limit_kind="quota")
        answer = await call(client, "brave")
    assert answer.json()["errors"][0]["code"] == "QUOTA_LIMITED"
    assert answer.headers["x-ratelimit-remaining"] == "0, 0"


async def test_failing_and_gone_movies_fail_every_time_and_others_do_not() -> None:
    async with sandbox() as client:
        movies = (await client.get("/admin/movies")).json()["movies"]
        bad, good, gone = movies[0], movies[1], movies[2]
        bearer = {"Authorization": "Bearer k"}
        await switch_on(client, "tmdb", gone_movie_ids=[gone["id"]], fail_movie_ids=[bad["id"]])
        found = [await client.get(f"/tmdb/3/movie/{movie['id']}", headers=bearer) for movie in (bad, good, gone)]
        statuses = {}
        for provider in ("brave", "anthropic", "xai", "perplexity"):
            await switch_on(client, provider, fail_movie_ids=[bad["id"]], error_status=503)
            statuses[provider] = [await ask_about(client, provider, movie["title"]) for movie in (bad, good, bad)]
    assert [answer.status_code for answer in found] == [500, 200, 404]
    assert found[2].json()["status_code"] == 34
    assert all(seen == [503, 200, 503] for seen in statuses.values()), statuses


async def ask_about(client: httpx2.AsyncClient, provider: str, title: str) -> int:
    changes: dict[str, Any]
    match provider:
        case "brave":
            changes = {"params": {"q": f"{title} review"}}
        case "anthropic":
            changes = {"json": {**ROAST, "messages": [{"role": "user", "content": [{"type": "text", "text": title}]}]}}
        case _:
            changes = {"json": {**(CALLS[provider][2] or {}), "input": [{"role": "user", "content": title}]}}
    return (await call(client, provider, **changes)).status_code


async def test_latency_waits_with_the_sleep_it_was_given_and_jitter_follows_the_seed() -> None:
    async def naps_of(seed: int) -> list[float]:
        naps = Naps()
        async with sandbox(naps, seed=seed) as client:
            await switch_on(client, "tmdb", latency_ms=200, latency_jitter_ms=100)
            await call(client, "tmdb")
            await call(client, "tmdb")
            await client.delete("/admin/faults/tmdb")
            await call(client, "tmdb")
        return naps.taken

    naps = await naps_of(7)
    assert len(naps) == 2
    assert all(0.2 <= nap <= 0.3 for nap in naps)
    assert naps == await naps_of(7) != await naps_of(8)


async def test_admin_shows_the_faults_in_force() -> None:
    async with sandbox() as client:
        await switch_on(client, "xai", error_every=4)
        state = (await client.get("/admin/state")).json()
    assert state["faults"]["xai"]["error_every"] == 4
    assert state["faults"]["tmdb"]["error_every"] is None
