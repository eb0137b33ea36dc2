"""What both wires are made of: an `Endpoint` says who may call it, a `Call` is what came in, an `Answer` is what goes
out, and a `Dialect` says errors in the words of its wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec

from conveyor.model.errors import QueueNotFoundError
from conveyor.model.refusals import ForbiddenError, InvalidRequestError, UnauthenticatedError
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.server.reading import check_json
from conveyor.server.rights import NOBODY, Caller, Right
from conveyor.store.protocol import Store

if TYPE_CHECKING:
    from conveyor.app import Conveyor

T = TypeVar("T")

JSON: Final = b"application/json"
JSON_ONLY: Final = ("application/json",)
BODY_MAX: Final = 131_072
"""128 KiB: a message of 128,000 bytes and what stands around it."""
PARAMETERS_MAX: Final = 256
"""Of a query."""
SAFE_HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_encode: Final = msgspec.json.Encoder().encode


class Answer:
    """A status, bytes, and headers beyond those that every answer has. With a `stream` its pieces follow the body; who
    takes none of it for `patience_s` is hung up on."""

    __slots__ = ("body", "content_type", "headers", "patience_s", "status", "stream")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        content_type: bytes = JSON,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        stream: AsyncIterator[bytes] | None = None,
        patience_s: float | None = None,
    ) -> None:
        self.patience_s = patience_s
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.stream = stream

    @staticmethod
    def json(value: Any, status: int = 200, *, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
        """What msgspec can encode, as JSON."""
        return Answer(status, _encode(value), headers=headers)


class QueryParams(Mapping[str, str]):
    """The last value of each name, as frameworks do; `all` gives every one."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, raw: bytes) -> None:
        """`InvalidRequestError` for too many, or what is not UTF-8."""
        try:
            self._pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX, errors="strict"
            )
        except ValueError as error:
            problem = f"the query has more than {PARAMETERS_MAX} parameters, or is not UTF-8"
            raise InvalidRequestError(problem) from error
        self._values = dict(self._pairs)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def all(self, name: str) -> list[str]:
        """Every value that was given."""
        return [value for key, value in self._pairs if key == name]

    def number(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """A whole number from `least` to `most`. `InvalidRequestError`."""
        text = self._values.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
            raise InvalidRequestError(f"`{name}` must be a whole number from {least:,} to {most:,}", field=name)
        return int(text)


class Call:
    """One request. A handler is given it once its caller may make it, and its body has been read."""

    __slots__ = (
        "_query", "app", "body", "caller", "endpoint", "headers", "is_late", "method", "path", "pieces", "request_id",
        "scope", "store", "target",
    )  # fmt: skip

    def __init__(self, app: Conveyor | None, store: Store, scope: Mapping[str, Any], request_id: str) -> None:
        self.app = app
        self.store = store
        self.scope = scope
        """As ASGI gave it."""
        self.request_id = request_id
        self.method: str = scope["method"]
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        """By lower-case name; of several the last."""
        self.endpoint: Endpoint = NOWHERE
        self.caller: Caller = NOBODY
        self.path: Mapping[str, str] = _NO_NAMES
        """The names in the endpoint's path, decoded once."""
        self.body = b""
        self.pieces: AsyncIterator[bytes] | None = None
        """The body, for an endpoint that `streams`."""
        self.target: str | None = None
        """What is changed, for the audit trail, where the path does not say it."""
        self.is_late = False
        """It was ended since it took too long."""
        self._query: QueryParams | None = None

    @property
    def action(self) -> str | None:
        """What the audit trail calls it; None if it is not recorded, as an end user's look at its own job."""
        return None if self.caller.job is not None else self.endpoint.action

    @property
    def raw_query(self) -> bytes:
        found: bytes = self.scope["query_string"]
        return found

    @property
    def address(self) -> str:
        """Where it comes from."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def sealer(self) -> Sealer:
        """Of what is sent into encrypted queues."""
        return NO_KEYS if self.app is None else self.app.sealer

    @property
    def base_url(self) -> str:
        """As the client called us: `http://127.0.0.1:8787`."""
        return f"{self.scope.get('scheme', 'http')}://{self.headers.get(b'host', b'').decode('latin-1')}"

    @property
    def query(self) -> QueryParams:
        if self._query is None:
            self._query = QueryParams(self.raw_query)
        return self._query

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        found = self.headers.get(name.lower().encode("latin-1"))
        return None if found is None else found.decode("latin-1")

    def decode(self, kind: type[T]) -> T:
        """The body as JSON of this type; structs say `forbid_unknown_fields=True`. `InvalidRequestError` with the place
        of what is wrong: 400 if it is no JSON, 422 if it does not fit."""
        check_json(self.body)
        try:
            decoded: T = _decoder_of(cast("Any", kind)).decode(self.body)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"the body does not fit: {error}", status=422) from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidRequestError(
                "the body is not JSON" if self.body else "the body is empty", hint="send a JSON object"
            ) from error
        return decoded

    def require(self, right: Right, queue: str | None = None) -> None:
        """`QueueNotFoundError` where the token does not reach, as if there were no such queue; `ForbiddenError` if it
        has not that right anywhere."""
        if self.caller.may(right, queue):
            return
        if queue is None or right not in self.caller.rights:
            raise ForbiddenError(right)
        raise QueueNotFoundError(self.path.get("queue", queue))  # as the client called it: a name may follow an id


@lru_cache(256)
def _decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


Handle: TypeAlias = Callable[[Call], Awaitable[Answer]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path, and who may call it."""

    method: str
    path: str
    """Below the wire's prefix, as in `/queues/{queue}`; `{key:path}` takes the slashes too."""
    right: Right | None
    """None: anybody, or with the scope `token` whoever has a valid one."""
    handle: Handle
    scope: str = "queue"
    """`queue`: the handler calls `call.require` with the queue's name once it knows it, before it does anything.
    `store`: tokens that are bound to queues have no right here. `token`: any valid token will do. `job`: as `store`,
    and an end user's token for the job in the path."""
    action: str | None = None
    """Its name in the audit trail, as in `queue.create`, or `message.peek` where it shows what was sent; None: it
    does neither, or moves messages."""
    body_max: int = BODY_MAX
    content_types: tuple[str, ...] = JSON_ONLY
    """Of the body, if it has one; empty takes any."""
    streams: bool = False
    """The handler reads the body itself, from `call.pieces`."""
    is_unhurried: bool = False
    """It may take as long as pieces of its body keep coming."""


async def _answer_nothing(_call: Call) -> Answer:
    return Answer(404)


NOWHERE: Final = Endpoint(method="-", path="-", right=Right.ADMIN, handle=_answer_nothing)
"""Where a request is before its endpoint is found."""
_NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


class Dialect(Protocol):
    """How a wire says what went wrong."""

    def render(self, error: Exception, request_id: str) -> Answer:
        """Every `ConveyorError` has `code`, `message` and `hint`; of any other exception nothing is told."""
        ...

    def refuse_stranger(
        self, error: UnauthenticatedError, request_id: str, headers: Mapping[bytes, bytes], path: str
    ) -> Answer:
        """For a request without a valid token."""
        ...
