"""A video as it arrives: its type by its first bytes, its size by counting."""

import base64
import binascii
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Final

import httpx2

from .provider_errors import ProviderError, ProviderRefusedError
from .video import MEDIA_BYTES_MAX, Media

SNIFF_BYTES: Final = 12
CHUNK_BYTES: Final = 64 * 1024
WEBM: Final = b"\x1a\x45\xdf\xa3"
BRANDS: Final = (b"isom", b"iso", b"mp4", b"avc", b"M4V", b"dash", b"MSNV")
"""How the brand of an MP4 begins; QuickTime, HEIF and the like are other files."""


@asynccontextmanager
async def media_of(provider: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[Media]:
    """The bytes as a video. `ProviderError` if they are none."""
    first = bytearray()
    with _told(provider):
        async for chunk in chunks:
            first += chunk
            if len(first) >= SNIFF_BYTES:
                break
    async with contextlib.aclosing(_counted(provider, bytes(first), chunks)) as counted:
        yield Media(mime_type=mime_type_of(provider, bytes(first)), chunks=counted)


async def in_chunks(content: bytes) -> AsyncGenerator[bytes]:
    """What is in memory already, piece by piece."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def decoded(provider: str, content: str) -> bytes:
    """A video that came as base64. `ProviderError` if it did not."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ProviderError(provider, "the video in the answer cannot be decoded") from error


def mime_type_of(provider: str, first: bytes) -> str:
    """The type of what begins so. `ProviderError` if it is no video for browsers."""
    if first[4:8] == b"ftyp" and first[8:12].startswith(BRANDS):
        return "video/mp4"
    if first.startswith(WEBM):
        return "video/webm"
    raise ProviderError(provider, "what was downloaded is neither MP4 nor WebM")


async def _counted(provider: str, first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    size = len(first)
    yield first
    with _told(provider):
        async for chunk in rest:
            size += len(chunk)
            if size > MEDIA_BYTES_MAX:
                raise ProviderRefusedError(provider, f"the video is longer than {MEDIA_BYTES_MAX:,} bytes")
            yield chunk


@contextlib.contextmanager
def _told(provider: str) -> Generator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        raise ProviderError(provider, f"the download broke off: {type(error).__name__}") from error
