"""The videos: from the bucket, piece by piece, and in the parts that a player asks for."""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from conveyor import BlobInfo, Bucket

from .problems import NotFoundError

TYPES: Final = ("video/mp4", "video/webm", "video/quicktime")
"""What is played; anything else is only handed over."""
_RANGE: Final = re.compile(r"bytes=(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))")


async def serve_film(request: Request, bucket: Bucket, key: str, name: str) -> Response:
    """The object, or the part that `Range` asks for; `?download` makes it a file called `name`. `NotFoundError`."""
    info = await bucket.head(key)
    if info is None:
        raise NotFoundError("video", hint="It is not kept any more.")
    headers = _headers_of(info, name, is_download="download" in request.query_params)
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    span = None
    if request.headers.get("if-range") in (None, headers["etag"]):
        span = read_range(request.headers.get("range"), info.size)
    if span is not None and span.start >= span.stop:
        return Response(status_code=416, headers={"content-range": f"bytes */{info.size}"})
    part = span or range(info.size)
    status = 206 if span is not None else 200
    headers["content-length"] = str(len(part))
    if span is not None:
        headers["content-range"] = f"bytes {span.start}-{span.stop - 1}/{info.size}"
    kind = info.content_type if info.content_type in TYPES else "application/octet-stream"
    if request.method == "HEAD" or not part:
        return Response(status_code=status, headers=headers, media_type=kind)
    chunks = bucket.chunks(key, offset=part.start, length=len(part))
    return StreamingResponse(chunks, status_code=status, headers=headers, media_type=kind)


def read_range(text: str | None, size: int) -> range | None:
    """Which bytes; None for all of them: where none are asked for, or several parts, or what is no range. An empty one
    cannot be had."""
    found = _RANGE.fullmatch(text.strip()) if text is not None else None
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        return range(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


def _headers_of(info: BlobInfo, name: str, *, is_download: bool) -> dict[str, str]:
    kind = "attachment" if is_download or info.content_type not in TYPES else "inline"
    return {
        "content-disposition": f'{kind}; filename="{name}"', "accept-ranges": "bytes", "etag": f'"{info.etag}"',
        "cache-control": "private, max-age=3600",
    }  # fmt: skip
