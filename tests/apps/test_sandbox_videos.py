"""The sandbox's video models, in process: the parts of their wires that no client of ours asks for, and the side door."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conveyor_apps.programs import find_ffmpeg
from conveyor_apps.sandbox import SandboxSettings, create_sandbox
from conveyor_apps.sandbox.entry import read_settings
from conveyor_apps.sandbox.settings import ProviderName

pytestmark = pytest.mark.anyio

KEY = {"x-goog-api-key": "key"}
VEO = "/gemini/v1beta/models/veo-3.1-generate-preview"
FORMAT = {"type": "video", "delivery": "uri", "duration": "2s"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def sandbox(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_sandbox(SandboxSettings(generation_s=5, **settings)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox", headers=KEY) as client:
        yield client


async def order(client: httpx2.AsyncClient, prompt: str = "a cat", **parameters: Any) -> httpx2.Response:
    body = {"instances": [{"prompt": prompt}], "parameters": parameters}
    return await client.post(f"{VEO}:predictLongRunning", json=body, headers={"x-client-request-id": prompt})


async def ended(client: httpx2.AsyncClient, ordered: httpx2.Response) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/gemini/v1beta/{ordered.json()['name']}")).json()
    return found


async def advance(client: httpx2.AsyncClient, seconds: float) -> None:
    (await client.post("/admin/clock", json={"advance_s": seconds})).raise_for_status()


def describe(ffmpeg: str, video: Path) -> str:
    command = [ffmpeg, "-hide_banner", "-i", str(video)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


async def test_a_file_redirects_to_a_real_video_of_the_shape_that_was_asked_for(tmp_path: Path) -> None:
    async with sandbox() as client:
        ordered = await order(client, aspectRatio="9:16", resolution="1080p", durationSeconds=1)
        id = ordered.json()["name"].rpartition("/")[2]
        file = f"/gemini/v1beta/files/{id}:download?alt=media"
        assert (await client.get(f"/gemini/download/{id}.mp4")).status_code == 404, "there is nothing yet"
        await advance(client, 5)
        assert (await client.get(file)).status_code == 302
        video = await client.get(file, follow_redirects=True)
    (tmp_path / "video.mp4").write_bytes(video.content)
    ffmpeg = find_ffmpeg({"PATH": "/usr/bin:/usr/local/bin"})
    assert ffmpeg is not None
    said = describe(ffmpeg, tmp_path / "video.mp4")
    assert "270x480" in said
    assert "Duration: 00:00:01.0" in said
    assert "h264" in said


async def test_every_third_is_filtered_and_every_second_fails_as_it_is_told() -> None:
    async with sandbox() as client:
        await client.put("/admin/faults/gemini", json={"filter_every": 3, "fail_every": 2, "fail_code": 14})
        made = [await order(client) for _ in range(3)]
        await advance(client, 5)
        outcomes = [await ended(client, each) for each in made]
    assert outcomes[0]["response"]["generateVideoResponse"]["generatedSamples"]
    assert outcomes[1]["error"] == {"code": 14, "message": "The service is currently unavailable."}
    assert outcomes[2]["response"]["generateVideoResponse"]["raiMediaFilteredCount"] == 1


async def test_the_limit_slides_and_the_tally_names_who_was_turned_away() -> None:
    async with sandbox() as client:
        await client.put("/admin/faults/gemini", json={"submissions_per_minute": 2})
        statuses = []
        for prompt, pause_s in (("a", 30), ("b", 0), ("c", 29.5), ("d", 0.5), ("e", 0), ("f", 30), ("g", 0)):
            answer = await order(client, prompt)
            statuses.append(answer.status_code)
            await advance(client, pause_s)
            if prompt == "d":
                [detail] = answer.json()["error"]["details"]
                assert detail["retryDelay"] == "1s"
        listed = (await client.get("/admin/submissions")).json()["submissions"]
        assert (await client.delete("/admin/submissions")).status_code == 204
        assert (await client.get("/admin/submissions")).json() == {"submissions": []}
        assert (await order(client, "h")).status_code == 429, "the limit does not forget"
    assert statuses == [200, 200, 429, 429, 200, 429, 200]
    assert [(each["client_id"], each["operation"] != "") for each in listed] == [
        ("a", True), ("b", True), ("c", False), ("d", False), ("e", True), ("f", False), ("g", True),
    ]  # fmt: skip
    moments = [datetime.fromisoformat(each["at"]) for each in listed]
    assert (moments[-1] - moments[0]).total_seconds() == 90


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"{VEO}:predictLongRunning", {"instances": [{"prompt": " "}]}, 400),
        (f"{VEO}:predictLongRunning", {"instances": []}, 400),
        (f"{VEO}:predictLongRunning", {"instances": [{"prompt": "x"}], "parameters": {"resolution": "8k"}}, 400),
        (f"{VEO}:predictLongRunning", {"instances": [{"prompt": "x"}], "parameters": {"durationSeconds": 61}}, 400),
        (f"{VEO}:predictLongRunning", {"instances": [{"prompt": "x"}], "parameters": {"sampleCount": 2}}, 400),
        ("/gemini/v1beta/models/imagen-4:predictLongRunning", {"instances": [{"prompt": "x"}]}, 404),
        ("/omni/v1/interactions", {"model": "gemini-omni-1.1-flash", "input": "x", "response_format": FORMAT}, 400),
        ("/omni/v1/interactions", {"model": "gpt", "background": True, "input": "x", "response_format": FORMAT}, 404),
        ("/omni/v1/interactions", {"model": "gemini-omni-1.1-flash", "background": True, "input": "x"}, 400),
    ],
)
async def test_what_is_not_made_is_refused(path: str, body: dict[str, Any], status: int) -> None:
    async with sandbox() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["status"] == {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}[status]


async def test_omni_takes_texts_among_contents_and_either_version() -> None:
    said = [{"type": "text", "text": "a cat"}, {"type": "text", "text": "#unsafe"}]
    async with sandbox() as client:
        body = {"model": "gemini-omni-1.1-flash", "background": True, "input": said, "response_format": FORMAT}
        made = (await client.post("/omni/v1beta/interactions", json=body)).json()
        await advance(client, 5)
        found = (await client.get(f"/omni/v1/interactions/{made['id']}?stream=false")).json()
    assert (made["status"], found["status"], found["object"]) == ("in_progress", "failed", "interaction")


async def test_time_passes_by_itself_where_it_is_to() -> None:
    async with sandbox(is_clock_running=True) as client:
        first, second = [(await client.get("/admin/state")).json()["now"] for _ in range(2)]
        await client.post("/admin/day", json={"day": 3})
        day = (await client.get("/admin/state")).json()["day"]
    assert first < second
    assert day == 3


def test_flags_say_how_long_a_video_takes_and_whether_time_passes() -> None:
    flags = ["--running-clock", "--generation-s", "3", "--fault", "omni:submissions_per_minute=10"]
    settings = read_settings(flags)
    assert (settings.is_clock_running, settings.generation_s) == (True, 3)
    assert settings.faults[ProviderName.OMNI].submissions_per_minute == 10
