"""The port to whoever makes videos: submit an order, ask how it stands, fetch what came of it.

All three clients raise the errors of `provider_errors`. A submission is named by the text that `submit` returns: keep
it before anything else, for it is all that a later process needs.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import msgspec

from .records import Parameters, ProviderName

MEDIA_BYTES_MAX: Final = 256 * 1024 * 1024


class VideoOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made."""

    client_id: str
    """Our name for the submission, told to the provider as a label: up to 63 of `a-z`, `0-9`, `-` and `_`."""
    prompt: str
    parameters: Parameters = Parameters()
    model: str = ""
    """Empty: the provider's usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """It is being made."""

    progress: float | None = None
    """From 0 to 1, where the provider tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """It is there: `download` fetches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Nothing will come of this submission."""

    code: str
    message: str
    is_permanent: bool
    """Another submission would fail as well: a safety refusal, a wrong argument."""


Progress: TypeAlias = Running | Done | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A video on its way: its checked type, and its bytes."""

    mime_type: str
    chunks: AsyncIterator[bytes]
    """`ProviderError` where they break off, `ProviderRefusedError` where they are more than the limit."""


class VideoProvider(Protocol):
    """One service that makes videos."""

    name: ProviderName

    async def submit(self, order: VideoOrder) -> str:
        """Order a video, and return the operation's name. Called twice, it makes two videos."""
        ...

    async def poll(self, operation: str) -> Progress:
        """How it stands."""
        ...

    def download(self, operation: str) -> AbstractAsyncContextManager[Media]:
        """The video of an operation that is done."""
        ...
