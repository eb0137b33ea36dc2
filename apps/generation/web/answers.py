"""How requests are read and answers are made: bounded JSON in, JSON out, with headers that keep browsers safe."""

from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..errors import RefusedError

T = TypeVar("T")

BODY_BYTES_MAX: Final = 64 << 10
OWN_SITES: Final = ("same-origin", "none")


def check_site(request: Request) -> None:
    """Nobody is served by a page of another site. `RefusedError` with 403. The Host was checked by conveyor."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    is_other = site not in OWN_SITES if site is not None else False
    if site is None and origin is not None:
        is_other = urlsplit(origin).netloc != request.headers.get("host")
    if is_other:
        text = "Pages of other sites are not served."
        raise RefusedError(text, status=403, code="other_site", hint="Open the page itself.")


async def read_json(request: Request, kind: type[T]) -> T:
    """The body as this type. Other content types are refused, so that no form of another site's comes through."""
    check_site(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        hint = "Send JSON, with `Content-Type: application/json`."
        raise RefusedError("The request is no JSON.", status=415, code="no_json", hint=hint)
    try:
        return msgspec.json.decode(await _read_body(request), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        said = str(error)[:300]
        text = f"The request is not what it should be: {said}"
        raise RefusedError(text, status=422, code="invalid", hint="The README has an example.") from error


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            text = f"The request has more than {BODY_BYTES_MAX:,} bytes."
            raise RefusedError(text, status=413, code="too_large")
    return bytes(body)


def answer(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json", headers=headers)
