"""The words every provider's room shares: what is asked, replied and refused, and the protocol of a provider."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NoReturn, Protocol, TypeVar

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .catalogue import Catalogue, Movie
from .clock import SandboxClock
from .faults import Faults
from .prose import Prose
from .settings import ProviderName

T = TypeVar("T")

BEARER: Final = "bearer "


class Trouble(StrEnum):
    """Why a call is refused; each provider has its own status and words for it."""

    MISSING_KEY = "missing_key"
    WRONG_KEY = "wrong_key"
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    QUOTA_LIMITED = "quota_limited"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One refusal, before a provider dresses it; `status` matters only to FAILED, `code` where it has finer ones."""

    trouble: Trouble
    message: str = ""
    code: str = ""
    status: int = 500
    retry_after_s: int = 1


class ProblemError(Exception):
    """Carries a problem from deep inside a provider's room to the gate."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def refuse(trouble: Trouble, message: str = "") -> NoReturn:
    """Turn the call away."""
    raise ProblemError(Problem(trouble=trouble, message=message))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all providers know: the same movies, the same writers, the same time."""

    seed: int
    catalogue: Catalogue
    prose: Prose
    clock: SandboxClock

    def movie_named_in(self, text: str) -> Movie | None:
        """Find the movie a text is about."""
        return self.catalogue.named_in(text, day=self.clock.day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call that has passed the gate."""

    key: str
    headers: Headers
    query: QueryParams
    path: Mapping[str, str]
    body: bytes
    faults: Faults

    def refuse_if_failing(self, movie: Movie | None) -> None:
        """Break down over a movie that is set to fail, every time it is asked about."""
        if movie is not None and movie.id in self.faults.fail_movie_ids:
            message = f"sandbox fault: movie {movie.id} is set to fail"
            raise ProblemError(Problem(trouble=Trouble.FAILED, message=message, status=self.faults.error_status))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A success: the bytes and what they were said to cost."""

    content: bytes
    media_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    wait_s: float = 0
    """What was asked is done at once, and answered so much later."""
    is_cut: bool = False
    """What was asked is done, and the connection cut instead of answering."""

    def but(self, **changes: Any) -> "Reply":
        """Say it with some things changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address of a provider; `name` is what the tally calls it."""

    name: str
    method: str
    path: str
    answer: Callable[[Ask], Reply]
    is_slow: bool = False
    """It answers in a thread, for it waits for a program."""


class Provider(Protocol):
    """One outside service. The gate does keys, faults and counting; the provider does its own wire."""

    name: ProviderName

    def key_of(self, headers: Headers, query: QueryParams) -> str | None:
        """Find the key where this provider looks for it."""

    def endpoints(self) -> Sequence[Endpoint]:
        """List the addresses."""

    def refusal(self, problem: Problem, *, ordinal: int) -> Response:
        """Say no in the provider's own envelope."""


def read_body(body: bytes, shape: type[T]) -> T:
    """Read a request as leniently as the real services do: what they do not know, they pass over."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        refuse(Trouble.INVALID, str(error))


def bearer_key(headers: Headers) -> str | None:
    """Read the key from `Authorization: Bearer`."""
    value = headers.get("authorization", "")
    return value[len(BEARER) :].strip() or None if value.lower().startswith(BEARER) else None


def json_reply(
    body: object, *, headers: Mapping[str, str] | None = None, tokens: Mapping[str, int] | None = None
) -> Reply:
    """Write a success as JSON."""
    return Reply(content=msgspec.json.encode(body), headers=headers or {}, tokens=tokens or {})


def json_refusal(body: object, *, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Write a refusal as JSON."""
    return Response(
        msgspec.json.encode(body), status_code=status, media_type="application/json", headers=dict(headers or {})
    )
