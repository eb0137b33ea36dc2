"""Dead letters in plotburn, what a provider's failure means to a message, and how a run gets its name."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor import ConveyorError, CronRun, DeadLetterAlert, RateLimited, Reject, Retry
from conveyor_apps.plotburn import Plotburn, build_plotburn, read_settings
from conveyor_apps.plotburn.alerts import WebhookError
from conveyor_apps.plotburn.errors import MalformedAnswerError, MovieGoneError, ProviderError, RateLimitedError
from conveyor_apps.plotburn.movie import Movie, MovieJob
from conveyor_apps.plotburn.runs import Begin, Cause, RunResult
from conveyor_apps.plotburn.wiring import begin_of, outgoing, verdict_on

pytestmark = pytest.mark.anyio

RUN = "cron-1795262400000"
KEYS = {"API_SECRET_KEY": "s", "TMDB_API_KEY": "t", "BRAVE_API_KEY": "b", "CLAUDE_API_KEY": "c"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Hook:
    """A webhook, and what it heard."""

    def __init__(self) -> None:
        self.status = 200
        self.heard: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.heard.append(request)
        return httpx2.Response(self.status, headers={"location": "https://elsewhere.test"})


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
async def plotburn(tmp_path: Path, hook: Hook) -> AsyncIterator[Plotburn]:
    environment = {**KEYS, "PLOTBURN_DB": str(tmp_path / "p.db"), "PLOTBURN_ALERT_WEBHOOK": "https://hook.test/x"}
    plotburn = build_plotburn(read_settings(environment), url="memory://", transport=httpx2.MockTransport(hook))
    async with plotburn.app:
        yield plotburn


def alert(**changes: Any) -> DeadLetterAlert:
    job = MovieJob(movie_id=7, title="Dune", correlation_id=RUN)
    facts: dict[str, Any] = {
        "event": "message.dead_lettered",
        "queue": "movie-processing-queue",
        "dead_letter_queue": "movie-processing-dlq",
        "message_id": "ab" * 16,
        "reason": "retries",
        "error": "claude answered 500 api_error: no",
        "attempts": 4,
        "dead_at": 1_795_262_400_000,
        "headers": outgoing(job).headers,
    }
    return DeadLetterAlert(**{**facts, **changes})


async def test_a_dead_letter_ends_its_movie_and_tells_the_webhook(plotburn: Plotburn, hook: Hook) -> None:
    room = plotburn.doorway.room()
    await room.runs.begin(Begin(run=RUN, cause=Cause.SCHEDULED, tick_ms=1_795_262_400_000))
    await room.runs.plan(RUN, [Movie(id=7, title="Dune")])
    await room.alerts.hear(alert())
    ended = await room.runs.view(RUN)
    assert isinstance(ended, RunResult)
    assert ended.failed_movie_ids == [7]
    [request] = hook.heard
    assert request.headers["idempotency-key"] == "ab" * 16
    told = json.loads(request.content)
    assert (told["app"], told["event"], told["headers"]["title"]) == ("plotburn", "message.dead_lettered", "Dune")


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_webhook_that_says_no_is_told_again_and_holds_up_no_run(
    plotburn: Plotburn, hook: Hook, status: int
) -> None:
    hook.status = status
    room = plotburn.doorway.room()
    await room.runs.begin(Begin(run=RUN, cause=Cause.SCHEDULED, tick_ms=1))
    await room.runs.plan(RUN, [Movie(id=7, title="Dune")])
    with pytest.raises(WebhookError, match=str(status)):
        await room.alerts.hear(alert())
    assert isinstance(await room.runs.view(RUN), RunResult)
    assert len(hook.heard) == 1, "redirects are not followed"


@pytest.mark.parametrize("headers", [None, {}, {"run": 5}, {"run": RUN, "movie_id": "seven"}, {"movie_id": "7"}])
async def test_a_dead_letter_from_elsewhere_is_told_too(
    plotburn: Plotburn, hook: Hook, headers: dict[str, object] | None
) -> None:
    await plotburn.doorway.room().alerts.hear(alert(headers=headers))
    assert len(hook.heard) == 1


def test_a_failure_becomes_the_verdict_that_the_documents_ask_for() -> None:
    limited = verdict_on(RateLimitedError("brave", "slow down", after_s=1.5))
    assert isinstance(limited, RateLimited)
    assert limited.after_ms == 1_500
    assert isinstance(verdict_on(MovieGoneError("tmdb", "gone", status=404)), Reject)
    for error in (ProviderError("claude", "no", status=529), MalformedAnswerError("brave", "no JSON")):
        assert isinstance(verdict_on(error), Retry)


def test_a_tick_names_its_run_the_same_in_every_delivery() -> None:
    tick = datetime(2026, 11, 21, 16, 30, tzinfo=UTC)
    for attempt in (1, 2):
        run = CronRun(name="daily", tick=tick, trigger="schedule", correlation_id="x", attempt=attempt)
        assert begin_of(run) == Begin(run="cron-1795278600000", cause=Cause.SCHEDULED, tick_ms=1_795_278_600_000)
    manual = CronRun(name="daily", tick=tick, trigger="manual", correlation_id="manual-trigger-5")
    assert begin_of(manual).run == "manual-trigger-5"
    assert begin_of(manual).cause is Cause.MANUAL


async def test_an_app_without_keys_does_not_open_and_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    plotburn = build_plotburn(url="memory://")
    with pytest.raises(ConveyorError, match="`API_SECRET_KEY`, `BRAVE_API_KEY`"):
        await plotburn.app.ensure_open()
