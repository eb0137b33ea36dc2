"""How concierge's HTTP reads and answers: bounded JSON in, JSON out, errors that name the field, headers that keep it
safe."""

from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .errors import FieldError, RefusedError
from .jobs import decode

BODY_BYTES_MAX: Final = 256 << 10


async def read_body(request: Request, *, most: int = BODY_BYTES_MAX) -> bytes:
    """The raw body. `RefusedError` with 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise RefusedError(f"The request has more than {most} bytes.", status=413)
    return bytes(body)


async def read_json(request: Request, kind: Any) -> Any:
    """The body as this type. Other content types are refused, so that no form of another site's reaches us.
    `FieldError`, `RefusedError` with 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError("Send JSON, with `Content-Type: application/json`.", status=415)
    return decode(await read_body(request), kind)


def number_in(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    """A whole number of the query. `FieldError`."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 19 and least <= int(text) <= most):
        raise FieldError(name, f"must be a whole number from {least} to {most}")
    return int(text)


def choice_in(request: Request, name: str, kind: Any) -> Any:
    """A word of the query, or None. `FieldError`."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise FieldError(name, f"must be one of {', '.join(kind)}") from None


def answer(body: object, *, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


async def refuse_error(_request: Request, error: Exception) -> Response:
    """What concierge refuses, and what Starlette does."""
    if isinstance(error, HTTPException):
        response = answer({"error": error.detail}, status=error.status_code)
        response.headers.update(error.headers or {})
        return response
    assert isinstance(error, RefusedError)
    body = {"error": str(error)}
    if isinstance(error, FieldError):
        body["field"] = error.field
    response = answer(body, status=error.status)
    if error.after_s is not None:
        response.headers["retry-after"] = str(error.after_s)
    return response
