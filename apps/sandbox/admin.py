"""The admin's side door: look at the sandbox, set faults, move time, read and reset the tally."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from .calls import CallLog
from .clock import DAY_S
from .errors import SandboxError, SandboxSettingError
from .faults import FaultBook, RateLimitKind, read_faults
from .provider import World
from .settings import DAYS_MAX, ProviderName, SandboxSettings, check_limits
from .submissions import Submissions

T = TypeVar("T")

ADMIN_BODY_BYTES_MAX: Final = 65_536


class ClockBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far to move time; only ahead."""

    advance_s: Annotated[float, msgspec.Meta(ge=0)]


class DayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which day to go to."""

    day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Serves `/admin`; it has no key because only this machine can reach it."""

    settings: SandboxSettings
    world: World
    faults: FaultBook
    calls: CallLog
    submissions: Submissions

    def routes(self) -> list[BaseRoute]:
        """List the admin's addresses, and the index page at `/`."""
        admin = [
            Route("/state", self._show_state, methods=["GET"]),
            Route("/movies", self._list_movies, methods=["GET"]),
            Route("/faults/{provider}", self._put_faults, methods=["PUT"]),
            Route("/faults/{provider}", self._clear_faults, methods=["DELETE"]),
            Route("/calls", self._show_calls, methods=["GET"]),
            Route("/calls", self._reset_calls, methods=["DELETE"]),
            Route("/submissions", self._list_submissions, methods=["GET"]),
            Route("/submissions", self._reset_submissions, methods=["DELETE"]),
            Route("/clock", self._advance_clock, methods=["POST"]),
            Route("/day", self._start_day, methods=["POST"]),
        ]
        return [Route("/", self._show_index, methods=["GET"]), Mount("/admin", routes=admin)]

    async def _show_index(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        bases = {name.value: f"{base}/{name.value}" for name in ProviderName}
        return answer_json(
            {"sandbox": "stands in for the outside world", "base_urls": bases, "admin": f"{base}/admin/state"}
        )

    async def _show_state(self, request: Request) -> Response:
        return answer_json(self._state())

    async def _list_movies(self, request: Request) -> Response:
        movies = self.world.catalogue.now_playing(self.world.clock.day)
        rows = [{"id": movie.id, "title": movie.title, "release_date": movie.release_date} for movie in movies]
        return answer_json({"day": self.world.clock.day, "movies": rows})

    async def _put_faults(self, request: Request) -> Response:
        provider = _provider(request)
        faults = read_faults(await read_body(request))
        if faults.gone_movie_ids and provider is not ProviderName.TMDB:
            raise SandboxSettingError(
                "gone_movie_ids", problem=f"means nothing to `{provider}`", hint="set it on `tmdb`"
            )
        if faults.rate_limit_kind is RateLimitKind.QUOTA and provider is ProviderName.TMDB:
            raise SandboxSettingError("rate_limit_kind", problem="cannot be `quota`: TMDB has no quota")
        self.faults.put(provider, faults)
        return answer_json(asdict(faults))

    async def _clear_faults(self, request: Request) -> Response:
        self.faults.clear(_provider(request))
        return Response(status_code=204)

    async def _show_calls(self, request: Request) -> Response:
        return answer_json({name: tally.as_plain() for name, tally in self.calls.report().items()})

    async def _reset_calls(self, request: Request) -> Response:
        self.calls.reset()
        return Response(status_code=204)

    async def _list_submissions(self, request: Request) -> Response:
        return answer_json({"submissions": self.submissions.report()})

    async def _reset_submissions(self, request: Request) -> Response:
        self.submissions.reset()
        return Response(status_code=204)

    async def _advance_clock(self, request: Request) -> Response:
        advance_s = body_as(await read_body(request), ClockBody).advance_s
        if advance_s > DAYS_MAX * DAY_S:
            raise SandboxSettingError("advance_s", problem="is too far ahead", hint=f"a sandbox lives {DAYS_MAX} days")
        check_limits("day", self.world.clock.day + int(advance_s // DAY_S), lowest=0, highest=DAYS_MAX)
        self.world.clock.advance(advance_s)
        return answer_json(self._state())

    async def _start_day(self, request: Request) -> Response:
        day = body_as(await read_body(request), DayBody).day
        check_limits("day", day, lowest=0, highest=DAYS_MAX)
        self.world.clock.start_day(day)
        return answer_json(self._state())

    def _state(self) -> Mapping[str, object]:
        clock = self.world.clock
        return {
            "now": clock.now(),
            "day": clock.day,
            "seed": self.settings.seed,
            "movies": self.settings.movies,
            "cache_tokens_min": self.settings.cache_tokens_min,
            "faults": {name.value: asdict(self.faults.of(name)) for name in ProviderName},
        }


def answer_json(body: object, *, status: int = 200) -> Response:
    """Answer in JSON."""
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


async def refuse_by_error(request: Request, error: Exception) -> Response:
    """Turn the sandbox's own errors into an answer with code and hint."""
    assert isinstance(error, SandboxError)
    body = {"code": error.code, "message": str(error), "hint": error.hint, "facts": error.facts}
    return answer_json({"error": body}, status=400)


def _provider(request: Request) -> ProviderName:
    name = request.path_params["provider"]
    try:
        return ProviderName(name)
    except ValueError:
        hint = "providers are: " + ", ".join(ProviderName)
        raise SandboxSettingError("provider", problem=f"`{name}` is no provider", hint=hint) from None


async def read_body(request: Request) -> bytes:
    """Read a bounded body. `SandboxSettingError`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > ADMIN_BODY_BYTES_MAX:
            raise SandboxSettingError("body", problem=f"exceeds {ADMIN_BODY_BYTES_MAX} bytes")
    return bytes(body)


def body_as(body: bytes, shape: type[T]) -> T:
    """Read a body in a shape. `SandboxSettingError`."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise SandboxSettingError("body", problem=f"cannot be read: {error}") from error
