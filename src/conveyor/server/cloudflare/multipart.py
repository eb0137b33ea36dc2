"""multipart/form-data, read whole: bodies are bounded before they come here."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from conveyor.model.refusals import InvalidRequestError

PARTS_MAX: Final = 64
HEAD_BYTES_MAX: Final = 16_384
_BOUNDARY: Final = re.compile(r'multipart/form-data\s*;.*?boundary="?([^";,]{1,70})"?', re.IGNORECASE)
_NAME: Final = re.compile(r'[;\s]name="([^"]*)"', re.IGNORECASE)


class Part(NamedTuple):
    name: str
    content_type: str | None
    content: bytes


def is_multipart(content_type: str | None) -> bool:
    return content_type is not None and content_type.lower().startswith("multipart/form-data")


def read_parts(content_type: str, body: bytes) -> list[Part]:
    """The parts of a form in their order. `InvalidRequestError`."""
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise InvalidRequestError("the content type names no boundary")
    delimiter = b"\r\n--" + found[1].encode("latin-1")
    pieces = (b"\r\n" + body).split(delimiter, PARTS_MAX + 2)
    if len(pieces) < 2 or len(pieces) > PARTS_MAX + 2 or not pieces[-1].startswith(b"--"):
        raise InvalidRequestError(f"the form is not whole, or has more than {PARTS_MAX} parts")
    return [_read_part(piece) for piece in pieces[1:-1]]


def _read_part(piece: bytes) -> Part:
    head, gap, content = piece.partition(b"\r\n\r\n")
    if not gap or len(head) > HEAD_BYTES_MAX:
        raise InvalidRequestError("a part of the form has no headers, or too many")
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip()
    name = _NAME.search(headers.get("content-disposition", ""))
    if name is None:
        raise InvalidRequestError("a part of the form has no name")
    return Part(name[1], headers.get("content-type"), content)
