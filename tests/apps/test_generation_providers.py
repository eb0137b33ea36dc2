"""The three clients against the sandbox' wire: what they order and fetch, and what each refusal amounts to."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from conveyor_apps.generation.clients import open_providers
from conveyor_apps.generation.google import Call, new_client
from conveyor_apps.generation.provider_errors import (
    ProviderError,
    ProviderLimitedError,
    ProviderRefusedError,
    SubmissionInDoubtError,
)
from conveyor_apps.generation.records import Parameters, ProviderName
from conveyor_apps.generation.settings import Host, Settings
from conveyor_apps.generation.video import Done, Failed, Running, VideoOrder, VideoProvider
from conveyor_apps.sandbox import SandboxSettings, create_sandbox
from conveyor_apps.secret import Secret

pytestmark = pytest.mark.anyio

KEY = "key-that-must-not-leak"
ALL = list(ProviderName)
ORDER = VideoOrder(client_id="gen_a1", prompt="a cat at sea")
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def settings_at(base: str, *, storage_uri: str = "", key: str = KEY) -> Settings:
    hosts = {
        name: Host(base_url=f"{base}/{name}", key=Secret(key), model="veo-3.1", project="p", location="us-central1")
        for name in ALL
    }
    return Settings(
        gemini=hosts[ProviderName.GEMINI],
        agent_platform=replace(hosts[ProviderName.AGENT_PLATFORM], storage_uri=storage_uri),
        omni=replace(hosts[ProviderName.OMNI], model="gemini-omni-1.1-flash"),
    )


class Stage:
    """A sandbox in this process, and the clients in front of it."""

    def __init__(self, transport: httpx2.ASGITransport, client: httpx2.AsyncClient, **settings: Any) -> None:
        self.calls: list[Call] = []
        self._admin = httpx2.AsyncClient(transport=transport, base_url="http://sandbox")
        self.providers = open_providers(settings_at("http://sandbox", **settings), client, tell=self.calls.append)

    async def advance(self, seconds: float) -> None:
        (await self._admin.post("/admin/clock", json={"advance_s": seconds})).raise_for_status()

    async def faults(self, name: ProviderName, **faults: Any) -> None:
        (await self._admin.put(f"/admin/faults/{name}", json=faults)).raise_for_status()

    async def submissions(self) -> list[Mapping[str, str]]:
        answer = await self._admin.get("/admin/submissions")
        listed: list[Mapping[str, str]] = answer.json()["submissions"]
        return listed

    async def close(self) -> None:
        await self._admin.aclose()


@asynccontextmanager
async def staged(**settings: Any) -> AsyncIterator[Stage]:
    transport = httpx2.ASGITransport(create_sandbox(SandboxSettings(generation_s=10)))
    async with new_client(5, transport) as client:
        stage = Stage(transport, client, **settings)
        try:
            yield stage
        finally:
            await stage.close()


async def fetch(provider: VideoProvider, operation: str) -> tuple[str, bytes]:
    async with provider.download(operation) as media:
        return media.mime_type, b"".join([chunk async for chunk in media.chunks])


@pytest.mark.parametrize(
    ("name", "storage_uri"), [*((name, "") for name in ALL), (ProviderName.AGENT_PLATFORM, "gs://videos/out")]
)
async def test_a_video_is_ordered_made_and_fetched(name: ProviderName, storage_uri: str) -> None:
    async with staged(storage_uri=storage_uri) as stage:
        provider = stage.providers[name]
        operation = await provider.submit(ORDER)
        assert isinstance(await provider.poll(operation), Running)
        await stage.advance(10)
        assert isinstance(await provider.poll(operation), Done)
        mime_type, video = await fetch(provider, operation)
        assert await fetch(provider, operation) == (mime_type, video), "an operation can be asked for again"
        [submission] = await stage.submissions()
    assert mime_type == "video/mp4"
    assert video[4:8] == b"ftyp"
    assert (submission["provider"], submission["client_id"]) == (name, "gen_a1")
    is_inline = name is ProviderName.AGENT_PLATFORM and not storage_uri
    assert {call.verb for call in stage.calls} == {"submit", "poll"} | (set() if is_inline else {"download"})
    assert {call.outcome for call in stage.calls} == {"ok"}


@pytest.mark.parametrize("name", ALL)
async def test_an_upright_video_of_another_length_is_another_one(name: ProviderName) -> None:
    upright = Parameters(duration=1, aspect_ratio="9:16", negative_prompt="blur")
    async with staged() as stage:
        provider = stage.providers[name]
        usual = await provider.submit(ORDER)
        other = await provider.submit(VideoOrder(client_id="b", prompt=ORDER.prompt, parameters=upright))
        await stage.advance(10)
        assert await fetch(provider, usual) != await fetch(provider, other)


@pytest.mark.parametrize("name", ALL)
async def test_safety_refusals_are_permanent_at_the_submission_and_at_the_end(name: ProviderName) -> None:
    async with staged() as stage:
        provider = stage.providers[name]
        with pytest.raises(ProviderRefusedError) as refused:
            await provider.submit(VideoOrder(client_id="a", prompt="#refused"))
        operation = await provider.submit(VideoOrder(client_id="b", prompt="#unsafe"))
        await stage.advance(10)
        ended = await provider.poll(operation)
        with pytest.raises(ProviderError, match="no video"):
            await fetch(provider, operation)
    assert (refused.value.status, refused.value.code) == (400, "INVALID_ARGUMENT")
    assert isinstance(ended, Failed)
    assert (ended.code, ended.is_permanent) == ("SAFETY", True)
    assert "usage guidelines" in ended.message


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("code", "word", "is_permanent"), [(13, "INTERNAL", False), (3, "INVALID_ARGUMENT", True)])
async def test_an_operation_that_ends_in_an_error(name: ProviderName, code: int, word: str, is_permanent: bool) -> None:
    async with staged() as stage:
        await stage.faults(name, fail_code=code, generation_s=3)
        operation = await stage.providers[name].submit(VideoOrder(client_id="a", prompt="#fails"))
        await stage.advance(3)
        ended = await stage.providers[name].poll(operation)
    assert isinstance(ended, Failed)
    assert (ended.code, ended.is_permanent) == (word, is_permanent)


@pytest.mark.parametrize("name", ALL)
async def test_one_that_stalls_runs_for_ever(name: ProviderName) -> None:
    async with staged() as stage:
        operation = await stage.providers[name].submit(VideoOrder(client_id="a", prompt="#stalls"))
        await stage.advance(86_000)
        assert isinstance(await stage.providers[name].poll(operation), Running)


@pytest.mark.parametrize("name", ALL)
async def test_the_limit_per_minute_tells_how_long_to_wait(name: ProviderName) -> None:
    async with staged() as stage:
        await stage.faults(name, submissions_per_minute=2)
        provider = stage.providers[name]
        for _ in range(2):
            await provider.submit(ORDER)
            await stage.advance(10)
        with pytest.raises(ProviderLimitedError) as limited:
            await provider.submit(ORDER)
        await stage.advance(limited.value.after_s)
        await provider.submit(ORDER)
        taken = [each["operation"] != "" for each in await stage.submissions()]
    assert limited.value.after_s == 40
    assert taken == [True, True, False, True]
    assert [call.outcome for call in stage.calls] == ["ok", "ok", "limited", "ok"]


@pytest.mark.parametrize("name", ALL)
async def test_faults_of_one_endpoint_leave_the_others_alone(name: ProviderName) -> None:
    async with staged() as stage:
        provider = stage.providers[name]
        operation = await provider.submit(ORDER)
        await stage.faults(name, endpoint="poll", error_every=2, error_status=503)
        await provider.submit(ORDER)
        await provider.poll(operation)
        with pytest.raises(ProviderError) as failed:
            await provider.poll(operation)
        await provider.submit(ORDER)
        await provider.poll(operation)
    assert (failed.value.status, failed.value.code) == (503, "UNAVAILABLE")
    assert type(failed.value) is ProviderError


@pytest.mark.parametrize("name", ALL)
async def test_a_wrong_key_is_refused_and_never_shown(name: ProviderName) -> None:
    async with staged(key="wrong-key") as stage:
        with pytest.raises(ProviderRefusedError) as refused:
            await stage.providers[name].submit(ORDER)
    assert refused.value.status in (400, 401)
    assert "wrong-key" not in str(refused.value)


@pytest.mark.parametrize("name", ALL)
async def test_operations_nobody_knows_are_refused(name: ProviderName) -> None:
    known = {
        ProviderName.GEMINI: "models/veo-3.1/operations/none",
        ProviderName.AGENT_PLATFORM: "projects/p/locations/l/publishers/google/models/veo-3.1/operations/none",
        ProviderName.OMNI: "v1_none",
    }
    async with staged() as stage:
        for operation in (known[name], "../../admin/state", "https://elsewhere.test/x", ""):
            with pytest.raises(ProviderRefusedError):
                await stage.providers[name].poll(operation)


# What the sandbox does not play: answers of a wire that is broken or hostile.

NAME = "models/veo-3.1/operations/op1"
FILES = "https://generativelanguage.googleapis.com/v1beta/files"
MP4 = b"\x00\x00\x00\x18ftypisom" + b"\x00" * 500


def gemini(answer: Answer, base: str = "https://api.test") -> VideoProvider:
    client = new_client(5, httpx2.MockTransport(answer))
    return open_providers(settings_at(base), client)[ProviderName.GEMINI]


def done_at(uri: str) -> dict[str, Any]:
    made = {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": uri}}]}}
    return {"name": NAME, "done": True, "response": made}


def answering(uri: str, **files: httpx2.Response) -> tuple[Answer, list[httpx2.Request]]:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if "operations" in request.url.path:
            return httpx2.Response(200, json=done_at(uri))
        asked.append(request)
        return files[request.url.path.rpartition("/")[2]]

    return answer, asked


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}, ProviderRefusedError),
        (403, b"<html>", ProviderRefusedError),
        (404, {}, ProviderRefusedError),
        (429, {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}, ProviderLimitedError),
        (500, b"", ProviderError),
        (503, {"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}}, ProviderError),
        (502, b"bad gateway", SubmissionInDoubtError),
        (504, {"error": {"code": "504", "message": KEY}}, SubmissionInDoubtError),
        (200, b"not JSON", SubmissionInDoubtError),
        (200, {"title": "no name"}, SubmissionInDoubtError),
        (302, b"", ProviderError),
    ],
)
async def test_what_a_submission_s_answer_amounts_to(status: int, body: object, kind: type[ProviderError]) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ProviderError) as caught:
        await gemini(lambda _: httpx2.Response(status, content=content)).submit(ORDER)
    assert type(caught.value) is kind
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError("refused"), ProviderError),
        (httpx2.ConnectTimeout("slow"), ProviderError),
        (httpx2.ReadTimeout("slow"), SubmissionInDoubtError),
        (httpx2.RemoteProtocolError("gone"), SubmissionInDoubtError),
    ],
)
async def test_a_connection_that_fails_leaves_a_doubt_only_once_something_was_sent(
    error: Exception, kind: type[ProviderError]
) -> None:
    def fail(_: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(ProviderError) as submitted:
        await gemini(fail).submit(ORDER)
    with pytest.raises(ProviderError) as polled:
        await gemini(fail).poll(NAME)
    assert type(submitted.value) is kind
    assert type(polled.value) is ProviderError, "a poll may be sent twice"


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        ([{"@type": "RetryInfo", "retryDelay": "7s"}], {}, 7),
        ([{"@type": "ErrorInfo"}, {"retryDelay": "0.5s"}], {"retry-after": "9"}, 0.5),
        ([], {"retry-after": "9"}, 9),
        ([], {}, 30),
        ([{"retryDelay": "infs"}], {"retry-after": "Sat, 21 Nov 2026 20:00:00 GMT"}, 30),
        ([{"retryDelay": "999999999s"}], {}, 86_400),
    ],
)
async def test_how_long_a_limit_asks_to_wait(body: list[object], headers: dict[str, str], wait_s: float) -> None:
    error = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": body}}
    with pytest.raises(ProviderLimitedError) as limited:
        await gemini(lambda _: httpx2.Response(429, json=error, headers=headers)).submit(ORDER)
    assert limited.value.after_s == wait_s


async def test_a_download_is_redirected_to_google_without_our_key() -> None:
    moved = httpx2.Response(302, headers={"location": "https://storage.googleapis.com/signed/there"})
    video = httpx2.Response(200, content=MP4, headers={"content-type": "video/mp4"})
    answer, asked = answering(f"{FILES}/f1:download?alt=media", **{"f1:download": moved, "there": video})
    assert await fetch(gemini(answer), NAME) == ("video/mp4", MP4)
    assert [str(each.url.host) for each in asked] == ["api.test", "storage.googleapis.com"]
    assert [each.headers.get("x-goog-api-key") for each in asked] == [KEY, None]


@pytest.mark.parametrize(
    "uri",
    [
        "https://elsewhere.test/v.mp4",
        "http://storage.googleapis.com/v.mp4",
        "https://storage.googleapis.com.elsewhere.test/v.mp4",
        "https://evilgoogleapis.com/v.mp4",
        "https://storage.googleapis.com@elsewhere.test/v.mp4",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "gs://bucket/v.mp4",
    ],
)
@pytest.mark.parametrize("is_redirected", [False, True])
async def test_a_download_goes_nowhere_else(uri: str, is_redirected: bool) -> None:
    moved = httpx2.Response(302, headers={"location": uri})
    answer, asked = answering(f"{FILES}/f1:download?alt=media" if is_redirected else uri, **{"f1:download": moved})
    with pytest.raises(ProviderRefusedError, match="not Google's"):
        await fetch(gemini(answer), NAME)
    assert len(asked) == is_redirected


async def test_redirects_in_a_circle_end() -> None:
    answer, asked = answering(f"{FILES}/a?alt=media", a=httpx2.Response(302, headers={"location": "a"}))
    with pytest.raises(ProviderError, match="redirects"):
        await fetch(gemini(answer), NAME)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("content", "content_type", "problem"),
    [
        (b"<html>sign in</html>", "text/html", "no video"),
        (b"<html>sign in</html>", "video/mp4", "neither MP4 nor WebM"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 20, "video/mp4", "neither MP4 nor WebM"),
        (b"", "video/mp4", "neither MP4 nor WebM"),
    ],
)
async def test_what_is_no_video_is_not_taken_for_one(content: bytes, content_type: str, problem: str) -> None:
    file = httpx2.Response(200, content=content, headers={"content-type": content_type})
    answer, _ = answering(f"{FILES}/f1?alt=media", f1=file)
    with pytest.raises(ProviderError, match=problem):
        await fetch(gemini(answer), NAME)


async def test_a_video_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield MP4

    monkeypatch.setattr("conveyor_apps.generation.media.MEDIA_BYTES_MAX", 100_000)
    file = httpx2.Response(200, content=endless(), headers={"content-type": "video/mp4"})
    answer, _ = answering(f"{FILES}/f1?alt=media", f1=file)
    with pytest.raises(ProviderRefusedError, match="longer than 100,000 bytes"):
        await fetch(gemini(answer), NAME)


async def test_a_download_that_breaks_off_can_be_tried_again() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield MP4
        raise httpx2.ReadError("gone")

    file = httpx2.Response(200, content=broken(), headers={"content-type": "video/webm"})
    answer, _ = answering(f"{FILES}/f1?alt=media", f1=file)
    with pytest.raises(ProviderError, match="broke off"):
        await fetch(gemini(answer), NAME)


async def test_an_answer_without_end_is_cut_off() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    with pytest.raises(ProviderError, match="longer than"):
        await gemini(lambda _: httpx2.Response(200, content=endless())).poll(NAME)
