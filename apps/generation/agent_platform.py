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
from .provider_errors import ProviderRefusedError
from .records import ProviderName
from .settings import Host
from .veo import Filtered, Operation, Veo, parameters_of
from .video import Media, VideoOrder

STORAGE: Final = "https://storage.googleapis.com"
LABEL: Final = "generation"
_MODEL: Final = r"projects/[\w.-]{1,100}/locations/[\w-]{1,50}/publishers/google/models/[\w.-]{1,100}"
_OPERATION: Final = re.compile(rf"({_MODEL})/operations/[\w.-]{{1,200}}")
_GS: Final = re.compile(r"gs://([a-z0-9._-]{3,63})/(.{1,1024})")


class _Video(msgspec.Struct, frozen=True):
    gcs_uri: str = msgspec.field(default="", name="gcsUri")
    content: str = msgspec.field(default="", name="bytesBase64Encoded")


class _Response(Filtered, frozen=True, rename="camel"):
    videos: tuple[_Video, ...] = ()


class _Operation(msgspec.Struct, frozen=True):
    done: bool = False
    error: Status | None = None
    response: _Response = _Response()


class AgentPlatform(Veo[_Video]):
    """Veo by the Agent Platform."""

    name = ProviderName.AGENT_PLATFORM

    def __init__(self, client: httpx2.AsyncClient, host: Host, *, tell: Callable[[Call], None] = say_nothing) -> None:
        auth = {"authorization": f"Bearer {host.key.reveal()}"}
        official = f"https://{host.location}-aiplatform.googleapis.com"
        super().__init__(Google(self.name, client, host, auth=auth, official=official, storage=STORAGE, tell=tell))

    @asynccontextmanager
    async def download(self, operation: str) -> AsyncGenerator[Media]:
        """The video, from Google's bucket or from within the answer."""
        video = await self._video(operation)
        if video.gcs_uri:
            async with self._google.open(self._address(video.gcs_uri)) as media:
                yield media
            return
        async with media_of(self.name, in_chunks(decoded(self.name, video.content))) as media:
            yield media

    def _ordering(self, order: VideoOrder) -> Ask:
        host = self._google.host
        parameters = parameters_of(order) | ({"storageUri": host.storage_uri} if host.storage_uri else {})
        place = f"projects/{host.project}/locations/{host.location}"
        model = f"{place}/publishers/google/models/{order.model or host.model}"
        return Ask(
            verb="submit", method="POST", path=f"/v1beta1/{model}:predictLongRunning",
            body={
                "instances": [{"prompt": order.prompt}],
                "parameters": parameters,
                "labels": {LABEL: order.client_id},
            },
        )  # fmt: skip

    async def _look(self, operation: str) -> Operation[_Video]:
        match = _OPERATION.fullmatch(operation)
        if match is None:
            raise ProviderRefusedError(self.name, f"`{operation[:100]}` names no operation")
        ask = Ask(
            verb="poll", method="POST", path=f"/v1beta1/{match[1]}:fetchPredictOperation",
            body={"operationName": operation}, bytes_max=INLINE_BYTES_MAX,
        )  # fmt: skip
        found = await self._google.ask(ask, _Operation)
        made = found.response
        return Operation(done=found.done, error=found.error, videos=made.videos, filtered=made)

    def _address(self, uri: str) -> str:
        match = _GS.fullmatch(uri)
        if match is None:
            raise ProviderRefusedError(self.name, "names a video that is in no bucket of Google's")
        return f"{STORAGE}/storage/v1/b/{match[1]}/o/{quote(match[2], safe='')}?alt=media"
