"""What both homes of Veo have in common: what is ordered, and how a long-running operation stands."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from .google import Ask, Google, Status
from .provider_errors import ProviderError
from .video import Done, Failed, Progress, Running, VideoOrder

V = TypeVar("V")

SAFETY: Final = "SAFETY"


class Ordered(msgspec.Struct, frozen=True):
    """What an order is answered with."""

    name: str


class Filtered(msgspec.Struct, frozen=True, rename="camel"):
    """What was made and is not shown."""

    rai_media_filtered_count: int = 0
    rai_media_filtered_reasons: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[V]):
    """An operation as one of the two tells of it."""

    done: bool
    error: Status | None
    videos: Sequence[V]
    filtered: Filtered


class Veo(ABC, Generic[V]):
    """Orders, and asks how they stand; `V` is what names a video that is done."""

    def __init__(self, google: Google) -> None:
        self._google = google

    async def submit(self, order: VideoOrder) -> str:
        """Order a video, and return the operation's name."""
        return (await self._google.ask(self._ordering(order), Ordered)).name

    async def poll(self, operation: str) -> Progress:
        """How it stands."""
        found = await self._look(operation)
        if not found.done:
            return Running()
        if found.error is not None:
            code, is_permanent = self._google.failed(found.error)
            return Failed(code=code, message=found.error.message, is_permanent=is_permanent)
        if found.videos:
            return Done()
        if found.filtered.rai_media_filtered_count:
            words = "; ".join(found.filtered.rai_media_filtered_reasons) or "the video was filtered"
            return Failed(code=SAFETY, message=words, is_permanent=True)
        return Failed(code="EMPTY", message="the operation ended without a video", is_permanent=False)

    async def _video(self, operation: str) -> V:
        """The first video of an operation that is done; asked for anew, since its address may expire."""
        found = await self._look(operation)
        if not found.videos:
            raise ProviderError(self._google.name, "there is no video to download")
        return found.videos[0]

    @abstractmethod
    def _ordering(self, order: VideoOrder) -> Ask: ...

    @abstractmethod
    async def _look(self, operation: str) -> Operation[V]: ...


def parameters_of(order: VideoOrder) -> dict[str, Any]:
    """As both want them."""
    wanted = order.parameters
    return {
        "sampleCount": 1,
        "durationSeconds": wanted.duration,
        "aspectRatio": wanted.aspect_ratio,
        "resolution": wanted.resolution,
        **({"negativePrompt": wanted.negative_prompt} if wanted.negative_prompt else {}),
    }
