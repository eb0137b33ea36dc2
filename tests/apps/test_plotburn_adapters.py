"""The five adapters on a mocked wire: what they send, what they read, and what each refusal amounts to."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from email.utils import format_datetime

import httpx2
import pytest

from conveyor_apps.plotburn import clock
from conveyor_apps.plotburn.brave import Brave
from conveyor_apps.plotburn.claude import Claude
from conveyor_apps.plotburn.errors import (
    KeyRefusedError,
    MalformedAnswerError,
    MovieGoneError,
    ProviderError,
    RateLimitedError,
)
from conveyor_apps.plotburn.grok import Grok
from conveyor_apps.plotburn.movie import Details, Finding, Truth
from conveyor_apps.plotburn.perplexity import Perplexity
from conveyor_apps.plotburn.provider import Provider, new_client, retry_after_s
from conveyor_apps.plotburn.settings import Host
from conveyor_apps.plotburn.tmdb import Tmdb
from conveyor_apps.secret import Secret

pytestmark = pytest.mark.anyio

KEY = "key-that-must-not-leak"
DUNE = Details(id=438631, title="Dune", overview="Sand.", release_date="2026-11-01", genres=["Epic"])
TRUTH = Truth(
    movie=DUNE,
    findings=[Finding(title="Review", text="Dry.")],
    provider="brave",
    researched_at="2026-11-21T00:00:00.000Z",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Wire:
    """Answers every call alike, and remembers what was asked."""

    def __init__(self, body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.requests: list[httpx2.Request] = []
        self._body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._status = status
        self._headers = dict(headers or {})

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(self._status, content=self._body, headers=self._headers)

    @property
    def sent(self) -> dict[str, object]:
        body: dict[str, object] = json.loads(self.requests[-1].content)
        return body


def provider(name: str, answer: Callable[[httpx2.Request], httpx2.Response], *, model: str = "m") -> Provider:
    host = Host(base_url="https://api.test", key=Secret(KEY), model=model)
    return Provider(name, new_client(5, httpx2.MockTransport(answer)), host)


def page(*ids: int, total: int = 3) -> dict[str, object]:
    return {"page": 1, "total_pages": total, "results": [{"id": number, "title": f"Movie {number}"} for number in ids]}


# TMDB


async def test_now_playing_walks_three_pages_and_shows_each_movie_once() -> None:
    pages = {"1": page(*range(20)), "2": page(*range(19, 39)), "3": page(*range(39, 59))}
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.params["page"])
        assert request.headers["authorization"] == f"Bearer {KEY}"
        return httpx2.Response(200, json=pages[asked[-1]])

    movies = await Tmdb(provider("tmdb", answer)).now_playing(limit=50)
    assert [movie.id for movie in movies] == list(range(50))
    assert asked == ["1", "2", "3"]


async def test_now_playing_stops_at_the_last_page_there_is() -> None:
    wire = Wire(page(1, 2, total=1))
    assert len(await Tmdb(provider("tmdb", wire)).now_playing(limit=50)) == 2
    assert len(wire.requests) == 1


async def test_now_playing_of_an_empty_cinema_is_empty() -> None:
    assert await Tmdb(provider("tmdb", Wire(page(total=0)))).now_playing(limit=50) == []


async def test_details_read_genres_and_pass_over_nulls() -> None:
    body = {
        "id": 7,
        "title": "Dune",
        "overview": None,
        "tagline": None,
        "genres": [{"id": 1, "name": "Epic"}],
        "new": 1,
    }
    found = await Tmdb(provider("tmdb", Wire(body))).details(7)
    assert (found.title, found.overview, found.genres) == ("Dune", "", ["Epic"])


async def test_a_movie_tmdb_does_not_know_is_gone() -> None:
    wire = Wire({"success": False, "status_code": 34, "status_message": "Not found."}, status=404)
    with pytest.raises(MovieGoneError, match="tmdb answered 404 34: Not found"):
        await Tmdb(provider("tmdb", wire)).details(7)


async def test_a_wrong_tmdb_key_is_a_refused_key() -> None:
    wire = Wire({"success": False, "status_code": 7, "status_message": "Invalid API key"}, status=401)
    with pytest.raises(KeyRefusedError):
        await Tmdb(provider("tmdb", wire)).now_playing(limit=1)


# Brave


async def test_brave_sends_its_token_and_reads_the_results() -> None:
    wire = Wire({"type": "search", "web": {"results": [{"title": "T", "url": "https://x", "description": "D"}]}})
    findings = await Brave(provider("brave", wire)).research(DUNE)
    assert findings == [Finding(title="T", text="D", url="https://x")]
    assert wire.requests[0].headers["x-subscription-token"] == KEY
    assert wire.requests[0].url.params["q"] == "Dune 2026 movie reviews criticism"


async def test_a_movie_nobody_wrote_about_has_no_findings() -> None:
    assert await Brave(provider("brave", Wire({"type": "search"}))).research(DUNE) == []


async def test_a_spent_rate_asks_for_a_second_and_a_spent_quota_for_much_more() -> None:
    rate = {"type": "ErrorResponse", "error": {"code": "RATE_LIMITED", "detail": "slow down"}}
    quota = {"type": "ErrorResponse", "errors": [{"code": "QUOTA_LIMITED", "detail": "no more"}]}
    headers = {"x-ratelimit-reset": "1, 7200", "x-ratelimit-remaining": "0, 1000"}
    with pytest.raises(RateLimitedError) as short:
        await Brave(provider("brave", Wire(rate, status=429, headers=headers))).research(DUNE)
    with pytest.raises(RateLimitedError) as long:
        await Brave(provider("brave", Wire(quota, status=429, headers=headers))).research(DUNE)
    assert (short.value.after_s, long.value.after_s) == (1.0, 7200.0)
    assert (short.value.code, long.value.code) == ("RATE_LIMITED", "QUOTA_LIMITED")


async def test_a_month_with_nothing_remaining_is_a_spent_quota_whatever_the_code() -> None:
    rate = {"type": "ErrorResponse", "error": {"code": "RATE_LIMITED", "detail": "slow down"}}
    headers = {"x-ratelimit-reset": "1, 1419704", "x-ratelimit-remaining": "0, 0", "retry-after": "1"}
    with pytest.raises(RateLimitedError) as limited:
        await Brave(provider("brave", Wire(rate, status=429, headers=headers))).research(DUNE)
    assert limited.value.after_s == timedelta(days=1).total_seconds()


# Perplexity


async def test_perplexity_gives_its_summary_and_its_sources() -> None:
    output = [
        {"type": "search_results", "results": [{"id": 1, "url": "https://x", "title": "T", "snippet": "S"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Too long. [1]"}]},
    ]
    wire = Wire({"status": "completed", "output": output})
    findings = await Perplexity(provider("perplexity", wire)).research(DUNE)
    assert [finding.text for finding in findings] == ["Too long. [1]", "S"]
    assert wire.requests[0].url.path == "/v1/agent"


@pytest.mark.parametrize("body", [{"status": "completed", "output": []}, {"status": "failed", "output": []}])
async def test_a_response_without_text_is_malformed(body: dict[str, object]) -> None:
    with pytest.raises(MalformedAnswerError):
        await Perplexity(provider("perplexity", Wire(body))).research(DUNE)


# Claude and Grok


async def test_claude_caches_its_system_block_for_an_hour() -> None:
    wire = Wire({"content": [{"type": "text", "text": " A roast. "}], "stop_reason": "end_turn"})
    assert await Claude(provider("claude", wire, model="claude-haiku-5-5")).write(TRUTH) == "A roast."
    system = wire.sent["system"]
    assert isinstance(system, list)
    assert system[0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert "Dune" not in system[0]["text"]
    assert "Dune" in str(wire.sent["messages"])
    assert wire.requests[0].headers["anthropic-version"] == "2023-06-01"


async def test_an_overload_that_says_when_to_come_back_is_a_rate_limit() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(RateLimitedError) as limited:
        await Claude(provider("claude", Wire(body, status=529, headers={"retry-after": "4"}))).write(TRUTH)
    assert limited.value.after_s == 4
    with pytest.raises(ProviderError) as failed:
        await Claude(provider("claude", Wire(body, status=529))).write(TRUTH)
    assert not isinstance(failed.value, RateLimitedError)


async def test_a_message_without_text_is_malformed() -> None:
    with pytest.raises(MalformedAnswerError, match="stop_reason refusal"):
        await Claude(provider("claude", Wire({"content": [], "stop_reason": "refusal"}))).write(TRUTH)


async def test_grok_stores_nothing_and_its_wrong_key_is_a_400() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Ha."}]}]
    wire = Wire({"status": "completed", "output": output})
    assert await Grok(provider("grok", wire)).write(TRUTH) == "Ha."
    assert wire.sent["store"] is False
    refused = Wire(
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xx"}, status=400
    )
    with pytest.raises(KeyRefusedError):
        await Grok(provider("grok", refused)).write(TRUTH)
    invalid = Wire({"code": "Client specified an invalid argument", "error": "Model not found"}, status=400)
    with pytest.raises(ProviderError) as error:
        await Grok(provider("grok", invalid)).write(TRUTH)
    assert not isinstance(error.value, KeyRefusedError)


# What all of them share


@pytest.mark.parametrize("body", [b'{"type": "sear', b'{"surprise": []}', b"", b"<html>"])
async def test_an_answer_in_another_shape_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswerError, match="brave answered 200"):
        await Brave(provider("brave", Wire(body))).research(DUNE)


async def test_an_error_page_that_is_no_json_keeps_its_status() -> None:
    with pytest.raises(ProviderError, match="brave answered 502: no readable reason"):
        await Brave(provider("brave", Wire(b"<html>", status=502))).research(DUNE)


async def test_a_redirect_is_not_followed() -> None:
    wire = Wire(b"", status=302, headers={"location": "https://elsewhere.test"})
    with pytest.raises(ProviderError, match="302"):
        await Brave(provider("brave", wire)).research(DUNE)
    assert len(wire.requests) == 1


async def test_a_provider_out_of_reach_and_a_slow_one_are_told_apart() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    def dawdle(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("slow")

    with pytest.raises(ProviderError, match="unreachable"):
        await Brave(provider("brave", refuse)).research(DUNE)
    with pytest.raises(ProviderError, match="timeout"):
        await Brave(provider("brave", dawdle)).research(DUNE)


async def test_an_endless_answer_is_cut_off() -> None:
    with pytest.raises(MalformedAnswerError, match="longer than"):
        await Brave(provider("brave", Wire(b" " * 2_000_001))).research(DUNE)


async def test_a_provider_that_echoes_our_key_does_not_get_it_into_the_error() -> None:
    wire = Wire({"success": False, "status_code": 7, "status_message": f"bad key {KEY}"}, status=401)
    with pytest.raises(KeyRefusedError) as error:
        await Tmdb(provider("tmdb", wire)).now_playing(limit=1)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("text", "wait"), [("3", 3), ("0.5", 0.5), ("-1", 0), ("soon", 9), ("", 9), ("nan", 9), ("1e9", 86400)]
)
def test_retry_after_in_seconds_is_bounded_and_forgiving(text: str, wait: float) -> None:
    assert retry_after_s(httpx2.Headers({"retry-after": text}), default=9) == wait


def test_retry_after_may_be_a_date() -> None:
    text = format_datetime(clock.now() + timedelta(seconds=60), usegmt=True)
    assert 30 < retry_after_s(httpx2.Headers({"retry-after": text}), default=9) <= 60
