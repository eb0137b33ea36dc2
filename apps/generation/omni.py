"""Gemini Omni: an interaction in the background, whose last step holds the video."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import msgspec

from .google import INLINE_BYTES_MAX, Ask, Call, Google, Status, say_nothing
from .media import decoded, in_chunks, media_of
from .provider_errors import ProviderError, ProviderRefusedError
from .records import ProviderName
from .settings import Host
from .video import Done, Failed, Media, Progress, Running, VideoOrder

OFFICIAL: Final = "https://generativelanguage.googleapis.com"
LABEL: Final = "generation"
SAFETY: Final = "SAFETY"
RUNNING: Final = ("in_progress", "queued")
PERMANENT: Final = ("requires_action", "cancelled", "budget_exceeded")
"""Another interaction would end as this one."""
_ID: Final = re.compile(r"[\w.-]{1,200}")


class _Content(msgspec.Struct, frozen=True):
    type: str = ""
    uri: str = ""
    data: str = ""


class _Step(msgspec.Struct, frozen=True):
    type: str = ""
    content: list[_Content] = []
    error: Status | None = None


class _Interaction(msgspec.Struct, frozen=True):
    id: str
    status: str
    steps: list[_Step] = []
    errors: list[Status] = []

    @property
    def video(self) -> _Content | None:
        """The first one among what the model made."""
        made = [part for step in self.steps if step.type == "model_output" for part in step.content]
        return next((part for part in made if part.type == "video" and (part.uri or part.data)), None)

    @property
    def error(self) -> Status:
        """The first one."""
        told = [*self.errors, *(step.error for step in self.steps if step.error is not None)]
        return next(iter(told), Status(status=self.status.upper()))


class Omni:
    """Gemini Omni by the Interactions API."""

    name = ProviderName.OMNI

    def __init__(self, client: httpx2.AsyncClient, host: Host, *, tell: Callable[[Call], None] = say_nothing) -> None:
        auth = {"x-goog-api-key": host.key.reveal()}
        self._google = Google(self.name, client, host, auth=auth, official=OFFICIAL, tell=tell)

    async def submit(self, order: VideoOrder) -> str:
        """Order a video, and return the interaction's id."""
        wanted = order.parameters
        avoided = f"\nAvoid: {wanted.negative_prompt}" if wanted.negative_prompt else ""
        body = {
            "model": order.model or self._google.host.model,
            "background": True,
            "input": order.prompt + avoided,
            "labels": {LABEL: order.client_id},
            "response_format": {
                "type": "video",
                "aspect_ratio": wanted.aspect_ratio,
                "resolution": wanted.resolution,
                "duration": f"{wanted.duration}s",
                "delivery": "uri",
            },
        }
        ask = Ask(verb="submit", method="POST", path="/v1beta/interactions", body=body)
        return (await self._google.ask(ask, _Interaction)).id

    async def poll(self, operation: str) -> Progress:
        """How it stands."""
        return self._judge(await self._look(operation))

    @asynccontextmanager
    async def download(self, operation: str) -> AsyncGenerator[Media]:
        """The video, from its address or from within the answer."""
        found = await self._look(operation)
        video = found.video
        if not isinstance(self._judge(found), Done) or video is None:
            raise ProviderError(self.name, "there is no video to download")
        if video.uri:
            async with self._google.open(video.uri) as media:
                yield media
            return
        async with media_of(self.name, in_chunks(decoded(self.name, video.data))) as media:
            yield media

    async def _look(self, operation: str) -> _Interaction:
        if not _ID.fullmatch(operation):
            raise ProviderRefusedError(self.name, f"`{operation[:100]}` names no interaction")
        ask = Ask(verb="poll", method="GET", path=f"/v1beta/interactions/{operation}", bytes_max=INLINE_BYTES_MAX)
        return await self._google.ask(ask, _Interaction)

    def _judge(self, found: _Interaction) -> Progress:
        if found.status in RUNNING:
            return Running()
        if found.status == "completed" and found.video is not None:
            return Done()
        code, is_permanent = self._google.failed(found.error)
        if SAFETY in code.upper():
            code, is_permanent = SAFETY, True
        message = found.error.message or f"the interaction is {found.status}, without a video"
        return Failed(code=code, message=message, is_permanent=is_permanent or found.status in PERMANENT)
