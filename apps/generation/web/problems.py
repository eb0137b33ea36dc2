"""How a refusal is said: application/problem+json (RFC 9457), with a code for programs and a hint for people."""

import math
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from conveyor import ConveyorError, QueueFullError

from ..errors import RefusedError

PROBLEM = "application/problem+json"


class NotFoundError(RefusedError):
    """Nothing of that name is here."""

    def __init__(self, what: str, *, hint: str = "`GET /api/generations` lists those that are here") -> None:
        super().__init__(f"There is no such {what}.", status=404, code="not_found", hint=hint)


class TooManyError(RefusedError):
    """Not now, but in a while."""

    def __init__(self, text: str, *, wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        super().__init__(text, status=429, code="too_many_requests", hint=f"Try again in {self.wait_s} s.")


def render(status: int, code: str, detail: str, *, hint: str = "", headers: dict[str, str] | None = None) -> Response:
    """One problem."""
    body: dict[str, Any] = {
        "type": f"urn:generation:{code}", "title": HTTPStatus(status).phrase, "status": status, "detail": detail,
        "code": code, "hint": hint or None,
    }  # fmt: skip
    return Response(msgspec.json.encode(body), status_code=status, media_type=PROBLEM, headers=headers)


async def refuse(_request: Request, error: Exception) -> Response:
    """What this app refuses, what Starlette does, and what the queue cannot do now. Of the queue's own troubles no
    more is told than that it has some."""
    match error:
        case TooManyError():
            headers = {"retry-after": str(error.wait_s)}
            return render(error.status, error.code, str(error), hint=error.hint, headers=headers)
        case RefusedError():
            return render(error.status, error.code, str(error), hint=error.hint)
        case QueueFullError():
            return render(429, error.code, "The queue is full.", hint="Try again later.", headers={"retry-after": "30"})
        case ConveyorError():
            text, hint = "The queue cannot be reached.", "Try again in a moment; the same Idempotency-Key makes one."
            return render(503, error.code, text, hint=hint, headers={"retry-after": "5"})
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    return render(error.status_code, code, error.detail, headers=dict(error.headers or {}))
