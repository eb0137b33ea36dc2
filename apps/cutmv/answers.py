"""How cutmv's HTTP reads and answers: bounded JSON in, JSON and attachments out, with headers that keep it safe."""

from collections.abc import AsyncIterator
from typing import Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from .errors import RefusedError

T = TypeVar("T")

BODY_BYTES_MAX: Final = 64 << 10


async def read_body(request: Request, *, most: int = BODY_BYTES_MAX) -> bytes:
    """The raw body. `RefusedError` with 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise RefusedError(f"The request has more than {most} bytes.", status=413)
    return bytes(body)


async def read_json(request: Request, kind: type[T]) -> T:
    """The body as this type. Other content types are refused, so that no form of another site's reaches us."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError("Send JSON, with `Content-Type: application/json`.", status=415)
    try:
        return msgspec.json.decode(await read_body(request), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(f"The request is not what it should be: {str(error)[:200]}") from error


def answer(body: object, *, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


def refuse(status: int, error: str) -> Response:
    """A JSON refusal; the text is for people."""
    return answer({"error": error}, status=status)


def attachment(chunks: AsyncIterator[bytes], name: str, content_type: str, size: int | None = None) -> Response:
    """A download: never shown by the browser as a page, whatever it holds. `name` is ours, in ASCII."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    if size is not None:
        headers["content-length"] = str(size)
    return StreamingResponse(chunks, media_type=content_type, headers=headers)


async def refuse_error(_request: Request, error: Exception) -> Response:
    """What cutmv refuses, and what Starlette does."""
    if isinstance(error, RefusedError):
        return refuse(error.status, str(error))
    assert isinstance(error, HTTPException)
    response = refuse(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response
