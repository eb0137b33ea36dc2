"""Veo on the Gemini API: a long-running operation, whose video is a file to download with the same key.

Google itself no longer serves Veo here since autumn 2026; proxies and the sandbox do.
"""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import msgspec

from .google import Ask, Call, Google, Status, say_nothing
from .provider_errors import ProviderError, ProviderRefusedError
from .records import ProviderName
from .settings import Host
from .video import Done, Failed, Media, Progress, Running, VideoOrder

OFFICIAL: Final = "https://generativelanguage.googleapis.com"
CLIENT_ID: Final = "x-client-request-id"
"""This wire has no labels: our name for a submission goes in a header, which Google passes over."""
SAFETY: Final = "SAFETY"
_OPERATION: Final = re.compile(r"models/[\w.-]{1,100}/operations/[\w.-]{1,200}")


class _Video(msgspec.Struct, frozen=True):
    uri: str


class _Sample(msgspec.Struct, frozen=True):
    video: _Video


class _Samples(msgspec.Struct, frozen=True, rename="camel"):
    generated_samples: list[_Sample] = []
    rai_media_filtered_count: int = 0
    rai_media_filtered_reasons: list[str] = []


class _Response(msgspec.Struct, frozen=True, rename="camel"):
    generate_video_response: _Samples = _Samples()


class _Operation(msgspec.Struct, frozen=True):
    name: str
    done: bool = False
    error: Status | None = None
    response: _Response | None = None


class Gemini:
    """Veo by the Gemini API."""

    name = ProviderName.GEMINI

    def __init__(self, client: httpx2.AsyncClient, host: Host, *, tell: Callable[[Call], None] = say_nothing) -> None:
        auth = {"x-goog-api-key": host.key.reveal()}
        self._google = Google(self.name, client, host, auth=auth, official=OFFICIAL, tell=tell)

    async def submit(self, order: VideoOrder) -> str:
        """Order a video, and return the operation's name."""
        model = order.model or self._google.host.model
        wanted = order.parameters
        parameters = {
            "sampleCount": 1,
            "durationSeconds": wanted.duration,
            "aspectRatio": wanted.aspect_ratio,
            "resolution": wanted.resolution,
            **({"negativePrompt": wanted.negative_prompt} if wanted.negative_prompt else {}),
        }
        ask = Ask(
            verb="submit", method="POST", path=f"/v1beta/models/{model}:predictLongRunning",
            body={"instances": [{"prompt": order.prompt}], "parameters": parameters},
            headers={CLIENT_ID: order.client_id},
        )  # fmt: skip
        return (await self._google.ask(ask, _Operation)).name

    async def poll(self, operation: str) -> Progress:
        """How it stands."""
        found = await self._look(operation)
        if not found.done:
            return Running()
        if found.error is not None:
            code, is_permanent = self._google.failed(found.error)
            return Failed(code=code, message=found.error.message, is_permanent=is_permanent)
        return self._judge(found)

    @asynccontextmanager
    async def download(self, operation: str) -> AsyncGenerator[Media]:
        """The video; its address is asked for anew, since it may expire."""
        found = await self._look(operation)
        if not isinstance(self._judge(found), Done) or found.response is None:
            raise ProviderError(self.name, "there is no video to download")
        [sample, *_] = found.response.generate_video_response.generated_samples
        async with self._google.open(sample.video.uri) as media:
            yield media

    async def _look(self, operation: str) -> _Operation:
        if not _OPERATION.fullmatch(operation):
            raise ProviderRefusedError(self.name, f"`{operation[:100]}` names no operation")
        return await self._google.ask(Ask(verb="poll", method="GET", path=f"/v1beta/{operation}"), _Operation)

    @staticmethod
    def _judge(found: _Operation) -> Done | Failed:
        samples = found.response.generate_video_response if found.response else _Samples()
        if samples.generated_samples:
            return Done()
        if samples.rai_media_filtered_count:
            words = "; ".join(samples.rai_media_filtered_reasons) or "the video was filtered"
            return Failed(code=SAFETY, message=words, is_permanent=True)
        return Failed(code="EMPTY", message="the operation ended without a video", is_permanent=False)
