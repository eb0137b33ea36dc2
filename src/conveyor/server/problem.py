"""Errors as `/api/v1` says them: application/problem+json (RFC 9457), with a code and a hint."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from conveyor.model.errors import (
    BodyTooLargeError,
    ConflictError,
    ConveyorError,
    InvalidError,
    LeaseLostError,
    NotFoundError,
    OutcomeUnknownError,
    QueueFullError,
    QueueNotFoundError,
    StoreAwayError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    VersionConflictError,
)
from conveyor.model.refusals import (
    ForbiddenError,
    InvalidRequestError,
    LinkRefusedError,
    MisdirectedError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from conveyor.server.endpoint import Answer

# The first that fits; what is not listed is a fault of ours.
_STATUSES: Final[tuple[tuple[type[ConveyorError], int], ...]] = (
    (BodyTooLargeError, 413),
    (InvalidError, 422),
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (LinkRefusedError, 403),
    (NotFoundError, 404),
    (VersionConflictError, 412),
    (ConflictError, 409),
    (LeaseLostError, 409),
    (TooManyRequestsError, 429),
    (QueueFullError, 429),
    (StoreFullError, 507),
    (StoreBusyError, 503),
    (StoreAwayError, 503),
    (OutcomeUnknownError, 503),
    (StoreError, 503),
)
UNKNOWN: Final = "something went wrong here; the log has more under this request id"


def status_of(error: Exception) -> int:
    """HTTP's for an error, whatever the wire."""
    if isinstance(error, (InvalidRequestError, MisdirectedError)):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def told_of(error: Exception) -> tuple[str, str, str]:
    """What may be said of it: code, message, hint. Of the store's troubles no path, of an unknown error nothing."""
    match error:
        case StoreError():
            return error.code, "the store cannot do this now", ""
        case QueueNotFoundError():
            return error.code, error.message, QueueNotFoundError(str(error.facts["name"])).hint  # nor another's name
        case ConveyorError():
            return error.code, error.message, error.hint
    return "internal", UNKNOWN, ""


def headers_of(error: Exception) -> tuple[tuple[bytes, bytes], ...]:
    """Those that HTTP wants with some errors."""
    match error:
        case UnauthenticatedError():
            return ((b"www-authenticate", b"Bearer"),)
        case TooManyRequestsError():
            return ((b"retry-after", b"%d" % max(1, round(error.retry_after_s + 0.499))),)
        case StoreError():
            return ((b"retry-after", b"1"),)
    return ()


class Problem:
    """`Dialect` of our own wire."""

    def render(self, error: Exception, request_id: str) -> Answer:
        status = status_of(error)
        code, detail, hint = told_of(error)
        answer = Answer.json(
            {
                "type": f"urn:conveyor:{code}",
                "title": HTTPStatus(status).phrase,
                "status": status,
                "detail": detail,
                "code": code,
                "hint": hint or None,
                "request_id": request_id,
            },
            status,
            headers=headers_of(error),
        )
        answer.content_type = b"application/problem+json"
        return answer

    def refuse_stranger(
        self, error: UnauthenticatedError, request_id: str, headers: Mapping[bytes, bytes], path: str
    ) -> Answer:
        """The same words whatever is wrong."""
        return self.render(error, request_id)
