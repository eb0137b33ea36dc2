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
from .provider_errors import ProviderRefusedError
from .records import ProviderName
from .settings import Host
from .veo import Filtered, Operation, Veo, parameters_of
from .video import Media, VideoOrder

OFFICIAL: Final = "https://generativelanguage.googleapis.com"
CLIENT_ID: Final = "x-client-request-id"
"""This wire has no labels: our name for a submission goes in a header, which Google passes over."""
_OPERATION: Final = re.compile(r"models/[\w.-]{1,100}/operations/[\w.-]{1,200}")


class _Video(msgspec.Struct, frozen=True):
    uri: str


class _Sample(msgspec.Struct, frozen=True):
    video: _Video


class _Samples(Filtered, frozen=True, rename="camel"):
    generated_samples: tuple[_Sample, ...] = ()


class _Response(msgspec.Struct, frozen=True, rename="camel"):
    generate_video_response: _Samples = _Samples()


class _Operation(msgspec.Struct, frozen=True):
    done: bool = False
    error: Status | None = None
    response: _Response = _Response()


class Gemini(Veo[_Sample]):
    """Veo by the Gemini API."""

    name = ProviderName.GEMINI

    def __init__(self, client: httpx2.AsyncClient, host: Host, *, tell: Callable[[Call], None] = say_nothing) -> None:
        auth = {"x-goog-api-key": host.key.reveal()}
        super().__init__(Google(self.name, client, host, auth=auth, official=OFFICIAL, tell=tell))

    @asynccontextmanager
    async def download(self, operation: str) -> AsyncGenerator[Media]:
        """The video, by the address that the operation names."""
        sample = await self._video(operation)
        async with self._google.open(sample.video.uri) as media:
            yield media

    def _ordering(self, order: VideoOrder) -> Ask:
        model = order.model or self._google.host.model
        return Ask(
            verb="submit", method="POST", path=f"/v1beta/models/{model}:predictLongRunning",
            body={"instances": [{"prompt": order.prompt}], "parameters": parameters_of(order)},
            headers={CLIENT_ID: order.client_id},
        )  # fmt: skip

    async def _look(self, operation: str) -> Operation[_Sample]:
        if not _OPERATION.fullmatch(operation):
            raise ProviderRefusedError(self.name, f"`{operation[:100]}` names no operation")
        found = await self._google.ask(Ask(verb="poll", method="GET", path=f"/v1beta/{operation}"), _Operation)
        made = found.response.generate_video_response
        return Operation(done=found.done, error=found.error, videos=made.generated_samples, filtered=made)
