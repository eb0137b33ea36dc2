"""A request that is answered without a task of its own: its body is there, its caller is known, and all that it waits
for is one answer of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

from starlette.types import ASGIApp, Scope

from conveyor.server.endpoint import Answer, Call

RESPOND: Final = "conveyor.respond"
"""What our own server offers beyond ASGI: `respond(status, head, body)` writes a whole answer, or says False."""
Resume: TypeAlias = Callable[[ASGIApp], None]
"""Runs a request as ASGI, in a task, after all."""


class Begin(Protocol):
    """What our own server asks an application first, once a request's whole body is there. What comes back is run as
    ASGI; None: the request is answered without. Raises nothing."""

    def __call__(self, scope: Scope, body: bytes, resume: Resume, /) -> ASGIApp | None: ...


class Errand:
    """One such request. `render` says an error in the wire's words, `send` is told the answer, once."""

    __slots__ = ("_call", "_explain", "_is_over", "_late", "_render", "_send", "_then")

    def __init__(
        self,
        call: Call,
        render: Callable[[Exception, Call], Answer],
        send: Callable[[Answer, Call], None],
        late: Callable[[], Exception],
    ) -> None:
        self._call = call
        self._render = render
        self._send = send
        self._late = late
        self._is_over = False
        self._then: Callable[[Any], Answer | None] = _nothing
        self._explain: Callable[[Exception], Exception] = _itself

    def expect(self, then: Callable[[Any], Answer | None], explain: Callable[[Exception], Exception]) -> Errand:
        """See `endpoint.Errand`."""
        self._then, self._explain = then, explain
        return self

    def finish(self, answer: Answer) -> None:
        """Send it, unless the request is over."""
        if not self._is_over:
            self._is_over = True
            self._send(answer, self._call)

    def fail(self, error: Exception) -> None:
        """Say what went wrong."""
        self.finish(self._render(error, self._call))

    def cancel(self) -> None:
        """It took too long; what the store was told to do is done all the same."""
        self.fail(self._late())

    # As a promise of the store's

    def done(self) -> bool:
        return self._is_over

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def set_result(self, result: Any, /) -> None:
        try:
            answer = self._then(result)
        except Exception as error:  # noqa: BLE001 whatever it is, others wait for their answers behind this one
            self.fail(error)
            return
        if answer is not None:
            self.finish(answer)

    def set_exception(self, exception: Exception, /) -> None:
        self.fail(self._explain(exception))


def _nothing(_result: Any) -> None:
    return None


def _itself(error: Exception) -> Exception:
    return error
