"""Cloudflare's envelope, and its codes: wrangler looks at `success` and the code, the SDKs look at the status, so both
must be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from conveyor.model.errors import (
    BodyTooLargeError,
    ConflictError,
    ConveyorError,
    InvalidDurationError,
    InvalidError,
    InvalidKeyError,
    InvalidMessageError,
    NotFoundError,
    QueueExistsError,
    QueueFullError,
    QueueNotFoundError,
)
from conveyor.model.refusals import (
    ForbiddenError,
    InvalidRequestError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from conveyor.server.endpoint import Answer
from conveyor.server.problem import headers_of, status_of, told_of

GENERAL: Final = 10_001
AUTHENTICATION: Final = 10_000
INVALID_TOKEN: Final = 1_000
NO_AUTHORIZATION: Final = 9_106
BAD_AUTHORIZATION: Final = 6_003
BAD_AUTHORIZATION_FORM: Final = 6_111
UNROUTABLE: Final = 7_003
UNROUTABLE_WORDS: Final = "Could not route to path, perhaps your object identifier is invalid?"
UNPARSED: Final = 10_026
UNPARSED_WORDS: Final = "Could not parse request body. Please ensure the request is valid and try again."
QUEUE_NOT_FOUND: Final = 11_000
QUEUE_NAME_TAKEN: Final = 11_009
MESSAGE_TOO_LARGE: Final = 10_204
STORAGE_FULL: Final = 10_251
BAD_KEY: Final = 10_033
OVERLOADED: Final = 10_250
MESSAGE_METADATA_INVALID: Final = 10_203
UNKNOWN_INTERNAL: Final = 15_000
Jurisdiction: TypeAlias = Literal["eu", "us", "fedramp"]
"""Kept and shown as it was said; what is kept lies where the store does."""
DONT_RETRY: Final = ((b"x-should-retry", b"false"),)
"""The SDKs send a 409 three times unless they are told not to."""

# The first that fits: code and status.
_CODES: Final[tuple[tuple[type[ConveyorError], int, int], ...]] = (
    (QueueFullError, STORAGE_FULL, 429),
    (TooManyRequestsError, OVERLOADED, 429),
    (BodyTooLargeError, MESSAGE_TOO_LARGE, 413),
    (InvalidMessageError, MESSAGE_METADATA_INVALID, 400),
    (InvalidDurationError, MESSAGE_METADATA_INVALID, 400),
    (InvalidKeyError, BAD_KEY, 400),
    (InvalidError, GENERAL, 400),
    (NotFoundError, GENERAL, 404),
    (ConflictError, GENERAL, 409),
)


class Refusal(ConveyorError):
    """An error with a code of Cloudflare's."""

    code = "refused"

    def __init__(self, number: int, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.number = number
        self.status = status


class Envelope:
    """`Dialect` of Cloudflare's wire."""

    def render(self, error: Exception, request_id: str) -> Answer:
        number, message, status = _say(error)
        headers = (*headers_of(error), (b"cf-ray", request_id.encode()))
        if status == 409:
            headers += DONT_RETRY
        return _failed(number, message, status, headers)

    def refuse_stranger(
        self, error: UnauthenticatedError, request_id: str, headers: Mapping[bytes, bytes], path: str
    ) -> Answer:
        """Cloudflare says what is wrong with the headers; of a token only that it is none."""
        given = headers.get(b"authorization")
        if given is None and b"x-auth-key" not in headers:
            return _failed(NO_AUTHORIZATION, "Missing X-Auth-Key, X-Auth-Email or Authorization headers", 400)
        if given is not None and given[:7].lower() != b"bearer ":
            chain = [{"code": BAD_AUTHORIZATION_FORM, "message": "Invalid format for Authorization header"}]
            return _failed(BAD_AUTHORIZATION, "Invalid request headers", 400, chain=chain)
        if path.endswith("/user/tokens/verify"):
            return _failed(INVALID_TOKEN, "Invalid API Token", 401)
        return self.render(error, request_id)


def succeed(result: Any, *, info: dict[str, Any] | None = None, messages: Sequence[Any] = ()) -> Answer:
    """The envelope around a result."""
    body = {"success": True, "errors": [], "messages": messages, "result": result}
    if info is not None:
        body["result_info"] = info
    return Answer.json(body)


def moment(value_ms: int) -> str:
    """RFC 3339 in UTC, with microseconds."""
    return datetime.fromtimestamp(value_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _failed(
    number: int,
    message: str,
    status: int,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    chain: list[dict[str, Any]] | None = None,
) -> Answer:
    said: dict[str, Any] = {"code": number, "message": message}
    if chain is not None:
        said["error_chain"] = chain
    body = {"success": False, "errors": [said], "messages": [], "result": None}
    return Answer.json(body, status, headers=headers)


def _say(error: Exception) -> tuple[int, str, int]:
    """Code, message and status."""
    _, message, hint = told_of(error)
    match error:
        case Refusal():
            return error.number, error.message, error.status
        case UnauthenticatedError() | ForbiddenError():
            return AUTHENTICATION, "Authentication error", 403
        case QueueNotFoundError():
            name = error.facts["name"]
            return QUEUE_NOT_FOUND, f"Queue '{name}' not found. Please verify it exists and try again.", 404
        case QueueExistsError():
            name = error.facts["name"]
            words = f"Queue name '{name}' is already taken. Please use a different name and try again."
            return QUEUE_NAME_TAKEN, words, 409
        case InvalidRequestError(status=404 | 405):
            return UNROUTABLE, f"{UNROUTABLE_WORDS} ({message})", error.status
        case NotFoundError() if type(error) is NotFoundError:
            return UNROUTABLE, UNROUTABLE_WORDS, 404
        case InvalidRequestError(status=413):
            return MESSAGE_TOO_LARGE, message, 413
        case InvalidRequestError():
            return UNPARSED, f"{UNPARSED_WORDS} ({message})", 400 if error.status == 422 else error.status
    told = f"{message} ({hint})" if hint else message
    for kind, number, status in _CODES:
        if isinstance(error, kind):
            return number, told, status
    status = status_of(error)
    return UNKNOWN_INTERNAL if status >= 500 else GENERAL, told, status
