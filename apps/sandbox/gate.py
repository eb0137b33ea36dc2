"""The gate in front of every provider: key, turn, delay, faults, the provider's own answer, the tally."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from .calls import CallLog, Outcome
from .cut import Cut
from .faults import FaultBook, Malformation, RateLimitKind, Turn
from .provider import Ask, Endpoint, Problem, ProblemError, Provider, Reply, Trouble, refuse

WRONG_KEY: Final = "wrong-key"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WRONG_SHAPE: Final = b'{"surprise": ["this is JSON, but not the JSON you know"]}'

OUTCOMES: Final = {
    Trouble.MISSING_KEY: Outcome.UNAUTHENTICATED,
    Trouble.WRONG_KEY: Outcome.UNAUTHENTICATED,
    Trouble.INVALID: Outcome.INVALID,
    Trouble.TOO_LARGE: Outcome.INVALID,
    Trouble.NOT_FOUND: Outcome.NOT_FOUND,
    Trouble.RATE_LIMITED: Outcome.RATE_LIMITED,
    Trouble.QUOTA_LIMITED: Outcome.RATE_LIMITED,
    Trouble.FAILED: Outcome.FAILED,
}

Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Stands before one provider."""

    provider: Provider
    faults: FaultBook
    calls: CallLog
    sleep: Sleep
    body_bytes_max: int

    def mount(self) -> Mount:
        """Lay the provider's addresses under its prefix; any other address there gets the provider's own 404."""
        unknown = Endpoint(name="unknown", method="GET", path="/{rest:path}", answer=_answer_unknown)
        routes = [self._route(endpoint, methods=(endpoint.method,)) for endpoint in self.provider.endpoints()]
        return Mount(f"/{self.provider.name}", routes=[*routes, self._route(unknown, methods=METHODS)])

    def _route(self, endpoint: Endpoint, *, methods: tuple[str, ...]) -> Route:
        async def answer(request: Request) -> Response:
            return await self._answer(endpoint, request)

        return Route(endpoint.path, answer, methods=list(methods), name=endpoint.name)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        ordinal = self.calls.next_ordinal()
        try:
            key = self._key(request)
            turn = self.faults.take_turn(self.provider.name, endpoint.name)
            await self._wait(turn)
            _refuse_by_turn(turn)
            ask = await self._ask(request, key=key, turn=turn)
            reply = await anyio.to_thread.run_sync(endpoint.answer, ask) if endpoint.is_slow else endpoint.answer(ask)
        except ProblemError as error:
            self._count(endpoint, OUTCOMES[error.problem.trouble], Reply(content=b""))
            return self.provider.refusal(error.problem, ordinal=ordinal)
        if reply.wait_s > 0:
            await self.sleep(reply.wait_s)
        return self._respond(endpoint, reply, turn=turn, ordinal=ordinal)

    def _key(self, request: Request) -> str:
        key = self.provider.key_of(request.headers, request.query_params)
        if not key:
            refuse(Trouble.MISSING_KEY)
        if key == WRONG_KEY:
            refuse(Trouble.WRONG_KEY)
        return key

    async def _wait(self, turn: Turn) -> None:
        if turn.delay_s > 0:
            await self.sleep(turn.delay_s)

    async def _ask(self, request: Request, *, key: str, turn: Turn) -> Ask:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.body_bytes_max:
                refuse(Trouble.TOO_LARGE, f"request exceeds {self.body_bytes_max} bytes")
        return Ask(
            key=key,
            headers=request.headers,
            query=request.query_params,
            path={name: str(value) for name, value in request.path_params.items()},
            body=bytes(body),
            faults=turn.faults,
        )

    def _respond(self, endpoint: Endpoint, reply: Reply, *, turn: Turn, ordinal: int) -> Response:
        malformation = turn.malformation
        self._count(endpoint, Outcome.MALFORMED if malformation else Outcome.OK, reply)
        if reply.is_cut:
            return Cut()
        headers = {"request-id": f"req_{ordinal:08d}", **reply.headers}
        content = _spoil(reply.content, malformation)
        return Response(content, status_code=reply.status, media_type=reply.media_type, headers=headers)

    def _count(self, endpoint: Endpoint, outcome: Outcome, reply: Reply) -> None:
        self.calls.count(self.provider.name, endpoint.name, outcome=outcome, tokens=reply.tokens)


def _answer_unknown(ask: Ask) -> Reply:
    refuse(Trouble.NOT_FOUND, f"no such endpoint: {ask.path.get('rest', '')}")


def _refuse_by_turn(turn: Turn) -> None:
    faults = turn.faults
    if turn.is_rate_limited:
        trouble = Trouble.QUOTA_LIMITED if faults.rate_limit_kind is RateLimitKind.QUOTA else Trouble.RATE_LIMITED
        raise ProblemError(Problem(trouble=trouble, retry_after_s=faults.retry_after_s))
    if turn.is_failed:
        raise ProblemError(Problem(trouble=Trouble.FAILED, message="sandbox fault", status=faults.error_status))


def _spoil(content: bytes, malformation: Malformation | None) -> bytes:
    match malformation:
        case None:
            return content
        case Malformation.TRUNCATED:
            return content[: len(content) // 2]
        case Malformation.WRONG_SHAPE:
            return WRONG_SHAPE
