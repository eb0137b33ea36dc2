"""Reads a request's body within its limits, and looks at JSON before anything parses it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from starlette.types import Receive

from conveyor.model.errors import BodyTooLargeError
from conveyor.model.refusals import InvalidRequestError

DEPTH_MAX: Final = 64
KEYS_MAX: Final = 10_000
DIGITS_MAX: Final = 4_300
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)
_STRING: Final = re.compile(rb'"[^"]*"')
_LONG_NUMBER: Final = re.compile(rb"\d{%d}" % (DIGITS_MAX + 1))
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def check_head(headers: Mapping[bytes, bytes], body_max: int) -> None:
    """Before a byte of the body is read: `InvalidRequestError` for a compressed one, `BodyTooLargeError`."""
    encoding, coding = headers.get(b"content-encoding"), headers.get(b"transfer-encoding")
    is_plain = encoding is None or encoding.strip().lower() == b"identity"
    if not is_plain or (coding is not None and coding.strip().lower() != b"chunked"):
        raise InvalidRequestError("compressed bodies are not taken", hint="send it as it is", status=415)
    length = headers.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 18:
            raise InvalidRequestError("the content-length is no number")
        if int(length) > body_max:
            raise BodyTooLargeError("the request's body", int(length), body_max)


async def read_body(receive: Receive, body_max: int) -> bytes:
    """All of it. `BodyTooLargeError` as soon as it is; `InvalidRequestError` if the client went away."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        if len(body) > body_max:
            raise BodyTooLargeError("the request's body", len(body), body_max)
        return body
    parts, size = [body], len(body)
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > body_max:
            raise BodyTooLargeError("the request's body", size, body_max)
        parts.append(part)
    if message["type"] != "http.request":
        raise InvalidRequestError("the client went away before the end of the body")
    return b"".join(parts)


async def read_pieces(receive: Receive, body_max: int, *, patience_s: float) -> AsyncIterator[bytes]:
    """The same, piece by piece, for whoever does not want it all at once; each comes within so many seconds."""
    size, goes_on = 0, True
    while goes_on:
        try:
            async with asyncio.timeout(patience_s):
                message = await receive()
        except TimeoutError:
            hint = f"pieces of it come within {patience_s:g} s of each other"
            raise InvalidRequestError("the body does not go on", hint=hint, status=408) from None
        if message["type"] != "http.request":
            raise InvalidRequestError("the client went away before the end of the body")
        piece, goes_on = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size > body_max:
            raise BodyTooLargeError("the request's body", size, body_max)
        yield piece


def check_json(body: bytes) -> None:
    """`InvalidRequestError` for what is too deep, has too many keys, or a number that is too long. What is no JSON at
    all is left to the parser."""
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        brackets = _without_strings(body).translate(_BRACKETS, _NOT_BRACKETS)
        for _ in range(DEPTH_MAX):
            flatter = brackets.replace(b"[]", b"")
            if flatter == brackets:
                break
            brackets = flatter
        if brackets:
            raise InvalidRequestError(f"the body nests more than {DEPTH_MAX} levels, or is not JSON")
    if len(body) > DIGITS_MAX:
        if body.count(b":") > KEYS_MAX and _without_strings(body).count(b":") > KEYS_MAX:
            raise InvalidRequestError(f"the body has more than {KEYS_MAX:,} keys")
        if _LONG_NUMBER.search(body) and _LONG_NUMBER.search(_without_strings(body)):
            raise InvalidRequestError(f"a number has more than {DIGITS_MAX:,} digits")


def _without_strings(body: bytes) -> bytes:
    return _STRING.sub(b"", _ESCAPED.sub(b"", body) if b"\\" in body else body)
