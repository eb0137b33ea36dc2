"""An operation of the API: its endpoint, and what the OpenAPI document says of it. The types that it names are those that
read the request and write the answer, so that the document cannot say otherwise than the code."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from conveyor.model.refusals import InvalidRequestError
from conveyor.server.endpoint import BODY_MAX, Call, Endpoint, Handle, QueryParams
from conveyor.server.rights import Right

T = TypeVar("T")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. Its id is the handler's name, its summary the handler's docstring."""

    method: str
    path: str
    right: Right | None
    handle: Handle
    scope: str = "queue"
    action: str | None = None
    body_max: int = BODY_MAX
    query: type[msgspec.Struct] | None = None
    takes: Any = None
    """The body's type."""
    may_be_empty: bool = False
    """The body may be left out."""
    gives: Any = None
    """The answer's type; None: it has no body, and status 204."""
    status: int = 200
    streams: bool = False
    """The answer is a stream of server-sent events."""
    versioned: bool = False
    """It is an edit, and needs `If-Match`."""
    headers: tuple[str, ...] = ()
    """Other request headers that it reads."""

    @property
    def id(self) -> str:
        return self.handle.__name__  # type: ignore[attr-defined,no-any-return]

    @property
    def endpoint(self) -> Endpoint:
        content_types = () if self.takes is None else ("application/json",)
        return Endpoint(
            method=self.method,
            path=self.path,
            right=self.right,
            handle=self.handle,
            scope=self.scope,
            action=self.action,
            body_max=self.body_max,
            content_types=content_types,
        )


def read_query(call: Call, kind: type[T]) -> T:
    """The query as this type. `InvalidRequestError` for a name that it does not know, or that is said twice."""
    return read_parameters(call.query, kind)


def read_parameters(query: QueryParams, kind: type[T], *, but: str | None = None) -> T:
    """As `read_query`; `but` is a name that somebody else reads."""
    for name in query:
        if len(query.all(name)) > 1:
            raise InvalidRequestError(f"`{name}` is in the query more than once", status=422)
    try:
        return msgspec.convert({name: query[name] for name in query if name != but}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the query does not fit: {error}", status=422) from error
