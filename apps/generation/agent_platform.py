"""Veo on Google's Agent Platform (once Vertex AI): operations that are fetched by a call of their own. The video is in
the answer, or in a bucket of Google's where one is named."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import httpx2
import msgspec

from .google import INLINE_BYTES_MAX, Ask, Call, Google, Status, say_nothing
from .media import decoded, in_chunks, media_of
from .provider_errors import ProviderError, ProviderRefusedError
from .records import ProviderName
from .settings import Host
from .video import Done, Failed, Media, Progress, Running, VideoOrder

STORAGE: Final = "https://storage.googleapis.com"
LABEL: Final = "generation"
SAFETY: Final = "SAFETY"
_MODEL: Final = r"projects/[\w.-]{1,100}/locations/[\w-]{1,50}/publishers/google/models/[\w.-]{1,100}"
_OPERATION: Final = re.compile(rf"({_MODEL})/operations/[\w.-]{{1,200}}")
_GS: Final = re.compile(r"gs://([a-z0-9._-]{3,63})/(.{1,1024})")


class _Video(msgspec.Struct, frozen=True):
    gcs_uri: str = msgspec.field(default="", name="gcsUri")
    content: str = msgspec.field(default="", name="bytesBase64Encoded")


class _Response(msgspec.Struct, frozen=True, rename="camel"):
    videos: list[_Video] = []
    rai_media_filtered_count: int = 0
    rai_media_filtered_reasons: list[str] = []


class _Operation(msgspec.Struct, frozen=True):
    name: str
    done: bool = False
    error: Status | None = None
    response: _Response | None = None


class AgentPlatform:
    """Veo by the Agent Platform."""

    name = ProviderName.AGENT_PLATFORM

    def __init__(self, client: httpx2.AsyncClient, host: Host, *, tell: Callable[[Call], None] = say_nothing) -> None:
        auth = {"authorization": f"Bearer {host.key.reveal()}"}
        official = f"https://{host.location}-aiplatform.googleapis.com"
        self._google = Google(self.name, client, host, auth=auth, official=official, storage=STORAGE, tell=tell)

    async def submit(self, order: VideoOrder) -> str:
        """Order a video, and return the operation's name."""
        host, wanted = self._google.host, order.parameters
        parameters = {
            "sampleCount": 1,
            "durationSeconds": wanted.duration,
            "aspectRatio": wanted.aspect_ratio,
            "resolution": wanted.resolution,
            **({"negativePrompt": wanted.negative_prompt} if wanted.negative_prompt else {}),
            **({"storageUri": host.storage_uri} if host.storage_uri else {}),
        }
        place = f"projects/{host.project}/locations/{host.location}"
        model = f"{place}/publishers/google/models/{order.model or host.model}"
        ask = Ask(
            verb="submit", method="POST", path=f"/v1beta1/{model}:predictLongRunning",
            body={
                "instances": [{"prompt": order.prompt}],
                "parameters": parameters,
                "labels": {LABEL: order.client_id},
            },
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
        """The video, from Google's bucket or from within the answer."""
        found = await self._look(operation)
        if not isinstance(self._judge(found), Done) or found.response is None:
            raise ProviderError(self.name, "there is no video to download")
        [video, *_] = found.response.videos
        if video.gcs_uri:
            async with self._google.open(self._address(video.gcs_uri)) as media:
                yield media
            return
        async with media_of(self.name, in_chunks(decoded(self.name, video.content))) as media:
            yield media

    async def _look(self, operation: str) -> _Operation:
        match = _OPERATION.fullmatch(operation)
        if match is None:
            raise ProviderRefusedError(self.name, f"`{operation[:100]}` names no operation")
        ask = Ask(
            verb="poll", method="POST", path=f"/v1beta1/{match[1]}:fetchPredictOperation",
            body={"operationName": operation}, bytes_max=INLINE_BYTES_MAX,
        )  # fmt: skip
        return await self._google.ask(ask, _Operation)

    def _address(self, uri: str) -> str:
        match = _GS.fullmatch(uri)
        if match is None:
            raise ProviderRefusedError(self.name, "names a video that is in no bucket of Google's")
        return f"{STORAGE}/storage/v1/b/{match[1]}/o/{quote(match[2], safe='')}?alt=media"

    @staticmethod
    def _judge(found: _Operation) -> Done | Failed:
        response = found.response or _Response()
        if response.videos:
            return Done()
        if response.rai_media_filtered_count:
            words = "; ".join(response.rai_media_filtered_reasons) or "the video was filtered"
            return Failed(code=SAFETY, message=words, is_permanent=True)
        return Failed(code="EMPTY", message="the operation ended without a video", is_permanent=False)
