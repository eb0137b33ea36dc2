"""The invented world, in process: TMDB's pages, searches, one seed, the next day, the tally, who may come in."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

import conveyor_apps
from conveyor_apps.sandbox import SandboxHostError, SandboxSettingError, SandboxSettings, create_sandbox

pytestmark = pytest.mark.anyio
BEARER = {"Authorization": "Bearer key"}
TOKEN = {"X-Subscription-Token": "key"}
CLAUDE = {"x-api-key": "key", "anthropic-version": "2023-06-01"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def sandbox(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_sandbox(SandboxSettings(**settings)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        yield client


async def movie_ids(client: httpx2.AsyncClient) -> list[int]:
    pages = [await client.get(f"/tmdb/3/movie/now_playing?page={page}", headers=BEARER) for page in (1, 2, 3)]
    return [movie["id"] for page in pages for movie in page.json()["results"]]


async def test_fifty_movies_play_on_three_pages_and_one_comes_twice() -> None:
    async with sandbox() as client:
        first = (await client.get("/tmdb/3/movie/now_playing?language=en-US&page=1&region=US&api_key=k")).json()
        ids = await movie_ids(client)
    assert (first["page"], first["total_pages"], first["total_results"], len(first["results"])) == (1, 3, 51, 20)
    assert (len(ids), len(set(ids))) == (51, 50)
    assert set(first["results"][0]) >= {"id", "title", "overview", "release_date", "genre_ids", "vote_average", "adult"}
    assert first["dates"]["minimum"] < first["dates"]["maximum"]


async def test_page_after_the_last_is_empty_and_details_tell_the_runtime() -> None:
    async with sandbox() as client:
        empty = (await client.get("/tmdb/3/movie/now_playing?page=4", headers=BEARER)).json()
        movie_id = (await movie_ids(client))[0]
        details = (await client.get(f"/tmdb/3/movie/{movie_id}", headers=BEARER)).json()
    assert empty["results"] == []
    assert details["id"] == movie_id
    assert details["runtime"] > 60
    assert details["genres"][0]["name"]


async def test_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    async def look(seed: int) -> list[bytes]:
        async with sandbox(seed=seed) as client:
            agent = {"model": "perplexity/sonar", "input": "The news", "tools": [{"type": "web_search"}]}
            asked = {"model": "claude-x", "max_tokens": 99, "messages": [{"role": "user", "content": "Roast it"}]}
            answers = [
                await client.get("/tmdb/3/movie/now_playing", headers=BEARER),
                await client.get("/brave/res/v1/web/search?q=news", headers=TOKEN),
                await client.post("/perplexity/v1/agent", json=agent, headers=BEARER),
                await client.post("/anthropic/v1/messages", json=asked, headers=CLAUDE),
            ]
        return [answer.content for answer in answers]

    assert await look(7) == await look(7)
    assert all(one != other for one, other in zip(await look(7), await look(8), strict=True))


@pytest.mark.parametrize("seed", range(5))
async def test_next_day_brings_one_to_three_new_releases(seed: int) -> None:
    async with sandbox(seed=seed) as client:
        today = set(await movie_ids(client))
        state = (await client.post("/admin/day", json={"day": 1})).json()
        tomorrow = set(await movie_ids(client))
        left = today - tomorrow
        details = await client.get(f"/tmdb/3/movie/{left.pop()}", headers=BEARER)
        await client.post("/admin/day", json={"day": 0})
        again = set(await movie_ids(client))
    assert (state["day"], state["now"]) == (1, "2026-11-22T00:00:00Z")
    assert 1 <= len(tomorrow - today) <= 3
    assert len(tomorrow) == 50
    assert details.status_code == 200, "a movie that left the cinemas is still known"
    assert again == today


async def test_titles_never_hide_in_one_another() -> None:
    async with sandbox(movies=500) as client:
        movies = (await client.get("/admin/movies")).json()["movies"]
    titles = [movie["title"].casefold() for movie in movies]
    assert len(set(titles)) == 500
    assert not [(one, two) for one in titles for two in titles if one != two and one in two]


async def test_brave_pages_filters_and_tells_its_rates() -> None:
    async with sandbox() as client:
        page = await client.get("/brave/res/v1/web/search?q=dune&count=20&offset=0", headers=TOKEN)
        rest = await client.get("/brave/res/v1/web/search?q=dune&count=20&offset=1", headers=TOKEN)
        fresh = await client.get("/brave/res/v1/web/search?q=dune&count=20&freshness=pw", headers=TOKEN)
    assert (len(page.json()["web"]["results"]), len(rest.json()["web"]["results"])) == (20, 4)
    assert page.json()["query"] == {"original": "dune", "more_results_available": True}
    assert rest.json()["query"]["more_results_available"] is False
    assert 1 <= len(fresh.json()["web"]["results"]) < 20
    assert page.headers["x-ratelimit-remaining"] == "49, 14999"
    assert rest.headers["x-ratelimit-remaining"] == "49, 14998"


async def test_calls_are_counted_by_endpoint_and_outcome_and_can_be_reset() -> None:
    system = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    body = {"model": "claude-x", "max_tokens": 99, "system": system, "messages": [{"role": "user", "content": "y"}]}
    async with sandbox() as client:
        for _ in range(3):
            await client.post("/anthropic/v1/messages", json=body, headers=CLAUDE)
        await client.post("/anthropic/v1/messages", json=body)
        await client.get("/tmdb/3/movie/1", headers=BEARER)
        calls = (await client.get("/admin/calls")).json()
        assert (await client.delete("/admin/calls")).status_code == 204
        reset = (await client.get("/admin/calls")).json()
    assert calls["anthropic"]["total"] == 4
    assert calls["anthropic"]["endpoints"] == {"messages": {"ok": 3, "unauthenticated": 1}}
    assert calls["anthropic"]["tokens"]["cache_creation_input_tokens"] == 100
    assert calls["anthropic"]["tokens"]["cache_read_input_tokens"] == 200
    assert calls["tmdb"]["endpoints"] == {"movie": {"not_found": 1}}
    assert reset == {}


async def test_index_names_every_base_url() -> None:
    async with sandbox() as client:
        index = (await client.get("/")).json()
    assert index["base_urls"]["tmdb"] == "http://sandbox/tmdb"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/admin/faults/nobody", {}),
        ("PUT", "/admin/faults/tmdb", {"slow": 1}),
        ("PUT", "/admin/faults/tmdb", {"error_status": 200}),
        ("PUT", "/admin/faults/tmdb", {"latency_ms": "x"}),
        ("PUT", "/admin/faults/xai", {"gone_movie_ids": [1]}),
        ("POST", "/admin/clock", {"advance_s": -1}),
        ("POST", "/admin/clock", {"advance_s": 1e12}),
        ("POST", "/admin/day", {"day": 366}),
        ("POST", "/admin/day", {}),
    ],
)
async def test_admin_refuses_nonsense_with_a_hint(method: str, path: str, body: dict[str, Any]) -> None:
    async with sandbox() as client:
        answer = await client.request(method, path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["hint"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.com", ""])
async def test_public_host_is_refused_with_a_hint(host: str) -> None:
    with pytest.raises(SandboxHostError) as caught:
        SandboxSettings(host=host)
    assert "127.0.0.1" in caught.value.hint


@pytest.mark.parametrize(
    "settings", [{"movies": 0}, {"movies": 501}, {"port": -1}, {"day": 366}, {"body_bytes_max": 0}]
)
async def test_settings_have_limits(settings: dict[str, int]) -> None:
    with pytest.raises(SandboxSettingError):
        SandboxSettings(**settings)  # type: ignore[arg-type]  # settings by name


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example.com", 421), ("127.0.0.1:80", 200), ("[::1]:80", 200), ("a.test", 200)]
)
async def test_call_by_a_public_name_is_refused(host: str, status: int) -> None:
    async with sandbox() as client:
        answer = await client.get("/admin/state", headers={"Host": host})
    assert answer.status_code == status


def program(*flags: str) -> "subprocess.Popen[str]":
    source = str(Path(next(iter(conveyor_apps.__path__))).parent)
    command = [sys.executable, "-m", "conveyor_apps.sandbox", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={"PYTHONPATH": source})


def test_program_says_where_it_listens_and_takes_faults_by_flag() -> None:
    with program("--port", "0", "--seed", "7", "--gone", "910349", "--fault", "xai:rate_limit_every=1") as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line.startswith("sandbox listening on http://127.0.0.1:")
            url = line.split()[-1]
            gone = httpx2.get(f"{url}/tmdb/3/movie/910349", headers=BEARER, timeout=60)
            limited = httpx2.post(f"{url}/xai/v1/responses", json={}, headers=BEARER, timeout=60)
        finally:
            child.terminate()
    assert (gone.status_code, gone.json()["status_code"]) == (404, 34)
    assert limited.status_code == 429


def test_program_refuses_public_hosts_taken_ports_and_unknown_faults() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        wrong = [
            ("--host", "0.0.0.0"),
            ("--port", port),
            ("--fault", "tmdb:slow=1"),
            ("--fault", "nobody:latency_ms=1"),
        ]
        children = [program(*flags) for flags in wrong]
        ends = [(child.communicate()[1], child.returncode) for child in children]
    assert [code for _, code in ends] == [2, 2, 2, 2]
    assert all(text.startswith("error: ") and "\nhint: " in text for text, _ in ends)
