"""The whole of plotburn in one process: the real app, the sandbox behind its adapters, its endpoints in front."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from conveyor_apps.plotburn import Plotburn, build_plotburn, clock, read_settings
from conveyor_apps.plotburn.movie import Outcome, Roast
from conveyor_apps.sandbox import Faults, ProviderName, RateLimitKind, SandboxSettings, create_sandbox

pytestmark = pytest.mark.anyio

SECRET = {"x-api-key": "s3cret"}
MOVIES = 6
ENVIRONMENT = {
    "API_SECRET_KEY": "s3cret",
    "MOVIES_LIMIT": "50",
    "CRON_DELAY_MS": "0",
    **{f"{name}_API_KEY": f"{name}-key" for name in ("TMDB", "BRAVE", "PERPLEXITY", "CLAUDE", "XAI")},
    "TMDB_BASE_URL": "http://sandbox.test/tmdb",
    "BRAVE_BASE_URL": "http://sandbox.test/brave",
    "PERPLEXITY_BASE_URL": "http://sandbox.test/perplexity",
    "CLAUDE_BASE_URL": "http://sandbox.test/anthropic",
    "XAI_BASE_URL": "http://sandbox.test/xai",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Theatre:
    """A running plotburn and the two clients that look at it."""

    def __init__(self, plotburn: Plotburn, api: httpx2.AsyncClient, sandbox: httpx2.AsyncClient) -> None:
        self.plotburn = plotburn
        self.api = api
        self.sandbox = sandbox

    async def get(self, path: str) -> Any:
        response = await self.api.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def run(self) -> Any:
        """Trigger a run and watch the status until it ends."""
        response = await self.api.post("/cron/trigger", headers=SECRET)
        assert response.status_code == 202, response.text
        return await self.wait_until_ended(response.json()["correlation_id"])

    async def wait_until_ended(self, run: str) -> Any:
        """Watch the status until the run has ended."""
        with anyio.fail_after(60):
            while True:
                last = (await self.get("/cron/status"))["last_run"]
                if last["correlation_id"] == run and last["status"] != "in_progress":
                    return last
                await anyio.sleep(0.02)

    async def log(self, run: str) -> Any:
        """Everything about an ended run, as it was published after its last line."""
        with anyio.fail_after(60):
            while True:
                log = await self.plotburn.app.kv("LOG_KV").get_json(f"log:v1:{run}")
                if log is not None and log["run"]["status"] != "in_progress":
                    assert await self.get(f"/debug?correlationId={run}") == log
                    return log
                await anyio.sleep(0.02)

    async def calls(self) -> dict[str, int]:
        """Calls per provider since the tally was last reset."""
        tallies = (await self.sandbox.get("/admin/calls")).json()
        await self.sandbox.delete("/admin/calls")
        return {name: tally["total"] for name, tally in tallies.items()}

    async def movie_ids(self) -> list[int]:
        return [movie["id"] for movie in (await self.get("/now-playing"))["movies"]]


@asynccontextmanager
async def theatre(
    tmp_path: Path,
    *,
    environment: dict[str, str] | None = None,
    works: bool = True,
    url: str = "memory://",
    **sandbox: Any,
) -> AsyncIterator[Theatre]:
    world = httpx2.ASGITransport(app=create_sandbox(SandboxSettings(**{"movies": MOVIES, **sandbox})))
    settings = read_settings({**ENVIRONMENT, "PLOTBURN_DB": str(tmp_path / "plotburn.db"), **(environment or {})})
    plotburn = build_plotburn(settings, url=url, transport=world, retry_delay="0s")
    door = httpx2.ASGITransport(app=plotburn.endpoints)
    async with (
        plotburn.app,
        httpx2.AsyncClient(transport=door, base_url="http://plotburn.test") as api,
        httpx2.AsyncClient(transport=world, base_url="http://sandbox.test") as side,
    ):
        worker = asyncio.create_task(plotburn.app.work()) if works else None
        yield Theatre(plotburn, api, side)
        if worker is not None:
            worker.cancel()
            await asyncio.wait([worker])


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_day_roasts_every_movie_and_the_next_day_pays_only_for_new_ones(tmp_path: Path, store: str) -> None:
    url = "memory://" if store == "memory" else f"sqlite:///{tmp_path / 'conveyor.db'}"
    async with theatre(tmp_path, url=url) as stage:
        first = await stage.run()
        assert (first["status"], first["roasts_generated"], first["roasts_cached"]) == ("success", MOVIES, 0)
        assert await stage.calls() == {"tmdb": 1 + MOVIES, "brave": MOVIES, "anthropic": MOVIES}

        await stage.sandbox.post("/admin/day", json={"day": 1})
        await stage.api.delete("/cache/clear/now-playing", headers=SECRET)
        second = await stage.run()
        new = second["roasts_generated"]
        assert second["status"] == "success"
        assert 1 <= new <= 3
        assert second["roasts_cached"] == MOVIES - new
        assert await stage.calls() == {"tmdb": 1 + new, "brave": new, "anthropic": new}


async def test_the_status_is_the_documents_json(tmp_path: Path) -> None:
    async with theatre(tmp_path) as stage:
        assert await stage.get("/cron/status") == {"last_run": None, "history": [], "total_runs": 0}
        ended = await stage.run()
        status = await stage.get("/cron/status")
    assert list(ended) == [
        "timestamp", "trigger", "correlation_id", "movies_fetched", "roasts_processed", "roasts_cached",
        "roasts_generated", "roasts_failed", "failed_movie_ids", "duration_ms", "status",
    ]  # fmt: skip
    assert status == {"last_run": ended, "history": [ended], "total_runs": 1}
    assert (ended["trigger"], ended["movies_fetched"], ended["roasts_processed"]) == ("manual", MOVIES, MOVIES)


async def test_a_triggered_run_is_in_progress_at_once(tmp_path: Path) -> None:
    async with theatre(tmp_path, works=False) as stage:
        response = await stage.api.post("/cron/trigger", headers=SECRET)
        run = response.json()["correlation_id"]
        assert response.status_code == 202
        assert response.json() == {
            "message": "Cron job started in background",
            "correlation_id": run,
            "status": "started",
            "check_status_at": "/cron/status",
        }
        assert run.startswith("manual-trigger-")
        assert run.removeprefix("manual-trigger-").isdigit()
        status = await stage.get("/cron/status")
        timestamp = status["last_run"]["timestamp"]
        assert status == {
            "last_run": {"timestamp": timestamp, "trigger": "manual", "correlation_id": run, "status": "in_progress"},
            "history": [],
            "total_runs": 0,
        }


async def test_a_second_trigger_while_a_run_starts_is_told_of_the_first(tmp_path: Path) -> None:
    async with theatre(tmp_path, works=False) as stage:
        run = (await stage.api.post("/cron/trigger", headers=SECRET)).json()["correlation_id"]
        again = await stage.api.post("/cron/trigger", headers=SECRET)
    assert (again.status_code, again.json()) == (409, {"error": "A run is starting already", "correlation_id": run})


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"x-api-key": "s3cre"}, {"x-api-key": "s3cretx"}])
async def test_without_the_key_nothing_is_started_or_cleared(tmp_path: Path, headers: dict[str, str]) -> None:
    async with theatre(tmp_path, works=False) as stage:
        calls = [("POST", "/cron/trigger"), ("DELETE", "/cache/clear/roast"), ("DELETE", "/cache/clear/now-playing")]
        for method, path in calls:
            response = await stage.api.request(method, path, headers=headers)
            assert (response.status_code, response.json()) == (401, {"error": "Unauthorized"})
        assert (await stage.get("/cron/status"))["last_run"] is None


async def test_a_movie_that_is_gone_is_a_dead_letter_and_the_run_ends_partial(tmp_path: Path) -> None:
    async with theatre(tmp_path) as stage:
        gone = (await stage.movie_ids())[2]
        await stage.sandbox.put("/admin/faults/tmdb", json={"gone_movie_ids": [gone]})
        ended = await stage.run()
        log = await stage.log(ended["correlation_id"])
        missing = await stage.api.get(f"/movie/{gone}")
    assert (ended["status"], ended["roasts_failed"], ended["failed_movie_ids"]) == ("partial", 1, [gone])
    assert ended["roasts_generated"] == MOVIES - 1
    lines = [line["message"] for line in log["logs"]]
    failures = [line for line in lines if "✗" in line and line.startswith("[Queue]")]
    assert len(failures) == 1, "a rejected message is not tried again"
    assert [line for line in lines if line.startswith("[Alert]")]
    assert (missing.status_code, missing.json()) == (404, {"error": "Movie not found"})


async def test_a_movie_that_fails_every_time_is_tried_four_times(tmp_path: Path) -> None:
    async with theatre(tmp_path) as stage:
        broken = (await stage.movie_ids())[0]
        await stage.sandbox.put("/admin/faults/tmdb", json={"fail_movie_ids": [broken]})
        ended = await stage.run()
        log = await stage.log(ended["correlation_id"])
    assert ended["failed_movie_ids"] == [broken]
    assert len([line for line in log["logs"] if "✗" in line["message"] and "[Queue]" in line["message"]]) == 4


async def test_rate_limits_and_stumbles_cost_time_but_no_movie(tmp_path: Path) -> None:
    faults = {
        ProviderName.BRAVE: Faults(rate_limit_every=3, retry_after_s=0, rate_limit_kind=RateLimitKind.RATE),
        ProviderName.ANTHROPIC: Faults(error_every=4, error_status=529),
    }
    async with theatre(tmp_path, faults=faults) as stage:
        ended = await stage.run()
    assert (ended["status"], ended["roasts_generated"]) == ("success", MOVIES)


async def test_the_first_version_cooks_one_movie_after_another_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    async with theatre(tmp_path, environment={"CRON_MODE": "sequential"}) as stage:
        gone = (await stage.movie_ids())[1]
        await stage.sandbox.put("/admin/faults/tmdb", json={"gone_movie_ids": [gone]})
        ended = await stage.run()
        log = await stage.log(ended["correlation_id"])
    assert (ended["status"], ended["failed_movie_ids"], ended["roasts_generated"]) == ("partial", [gone], MOVIES - 1)
    steps = [line["message"].split("] ")[1].split()[0] for line in log["logs"] if "[Cron]" in line["message"]][1:]
    assert steps == ["Processing", "✓", "Processing", "✗", *["Processing", "✓"] * (MOVIES - 2)]


async def test_perplexity_and_grok_can_take_over(tmp_path: Path) -> None:
    environment = {"RESEARCH_PROVIDER": "perplexity", "ROAST_PROVIDER": "grok"}
    async with theatre(tmp_path, environment=environment) as stage:
        assert (await stage.run())["status"] == "success"
        assert await stage.calls() == {"tmdb": 1 + MOVIES, "perplexity": MOVIES, "xai": MOVIES}


async def test_a_list_that_cannot_be_had_fails_the_run(tmp_path: Path) -> None:
    faults = {ProviderName.TMDB: Faults(error_every=1, error_status=500)}
    async with theatre(tmp_path, faults=faults) as stage:
        ended = await stage.run()
        tried = await stage.calls()
    assert (ended["status"], ended["movies_fetched"], ended["roasts_processed"]) == ("failed", 0, 0)
    assert tried == {"tmdb": 3}


async def test_a_paused_consumer_loses_nothing_that_the_cron_still_queues(tmp_path: Path) -> None:
    async with theatre(tmp_path) as stage:
        await stage.plotburn.app.pause("movie-processing-queue")
        run = (await stage.api.post("/cron/trigger", headers=SECRET)).json()["correlation_id"]
        with anyio.fail_after(60):
            while not (await stage.get(f"/debug?correlationId={run}"))["movies"]:
                await anyio.sleep(0.02)
        log = await stage.get(f"/debug?correlationId={run}")
        assert [movie["outcome"] for movie in log["movies"]] == [None] * MOVIES
        assert (await stage.get("/cron/status"))["last_run"]["status"] == "in_progress"
        await stage.plotburn.app.resume("movie-processing-queue")
        assert (await stage.wait_until_ended(run))["roasts_generated"] == MOVIES


async def test_every_key_is_the_documents_key(tmp_path: Path) -> None:
    async with theatre(tmp_path) as stage:
        run = (await stage.run())["correlation_id"]
        movie_id = (await stage.movie_ids())[0]
        kv = stage.plotburn.app.kv
        keys = {
            "NOW_PLAYING_KV": "now-playing:v1",
            "TRUTH_KV": f"truth:v1:movie:{movie_id}",
            "ROAST_KV": f"roast:v1:movie:{movie_id}",
            "LOG_KV": f"log:v1:{run}",
        }
        for namespace, key in keys.items():
            assert await kv(namespace).get(key) is not None, key
        with anyio.fail_after(60):
            while (await stage.get("/cron/status")) != {
                "last_run": await kv("CRON_KV").get_json("cron:last-run:v1"),
                "history": await kv("CRON_KV").get_json("cron:history:v1"),
                "total_runs": 1,
            }:
                await anyio.sleep(0.02)


async def test_a_missing_roast_is_written_while_the_caller_waits(tmp_path: Path) -> None:
    async with theatre(tmp_path, works=False) as stage:
        movie_id = (await stage.movie_ids())[0]
        first, second = await stage.get(f"/movie/{movie_id}"), await stage.get(f"/movie/{movie_id}")
    assert list(first) == ["movie_id", "title", "roast", "cached", "created_at"]
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["roast"] == second["roast"]


async def test_clearing_the_roasts_has_each_written_anew_with_the_research_kept(tmp_path: Path) -> None:
    async with theatre(tmp_path) as stage:
        await stage.run()
        await stage.calls()
        cleared = await stage.api.delete("/cache/clear/roast", headers=SECRET)
        assert cleared.json() == {"message": "Roast cache cleared", "keys_deleted": MOVIES, "roasts_retired": MOVIES}
        assert (await stage.run())["roasts_generated"] == MOVIES
        assert await stage.calls() == {"anthropic": MOVIES}


async def test_a_worker_killed_between_storing_and_acking_pays_nothing_twice(tmp_path: Path) -> None:
    async with theatre(tmp_path, works=False) as stage:
        room = stage.plotburn.doorway.room()
        movie_id = (await stage.movie_ids())[0]
        roast = Roast(movie_id=movie_id, title="Kept", roast="Ha.", created_at_ms=clock.now_ms())
        await room.roasts.keep(roast, run=None, outcome=Outcome.GENERATED)
        await stage.calls()
        served = await room.roaster.serve(movie_id)
        assert (served.outcome, served.roast.roast) == (Outcome.CACHED, "Ha.")
        assert await room.caches.get_roast(movie_id) is not None, "the cache is mended"
        assert await stage.calls() == {}


async def test_the_log_lines_are_the_documents_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="plotburn"):
        async with theatre(tmp_path) as stage:
            run = (await stage.run())["correlation_id"]
            await stage.log(run)
            title = (await stage.get("/now-playing"))["movies"][0]["title"]
            shown = await stage.get("/logs?limit=2")
    assert f"[Queue][{run}] Processing {title}..." in caplog.messages
    assert [line for line in caplog.messages if line.startswith(f"[Queue][{run}] ✓ {title} (") and line.endswith("ms)")]
    assert not any("-key" in line or "s3cret" in line for line in caplog.messages)
    assert shown["count"] == 2
    assert list(shown["logs"][0]) == ["timestamp", "correlation_id", "level", "message"]


async def test_wrong_questions_are_answered_plainly(tmp_path: Path) -> None:
    async with theatre(tmp_path, works=False) as stage:
        wrong = {
            "/logs?limit=0": 400,
            "/logs?limit=x": 400,
            "/debug": 400,
            "/debug?correlationId=x": 404,
            "/movie/0": 404,
        }
        for path, status in wrong.items():
            response = await stage.api.get(path)
            assert (response.status_code, list(response.json())) == (status, ["error"]), path
