"""The socket's side of HTTP: how long a head may take and how large it may be, which uvicorn does not bound."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from conveyor.server.wire import RESPOND

if sys.platform == "win32":  # there is no httptools; h11 bounds the size by itself
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Base
else:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Base

HEAD_S: Final = 10.0
"""From the first byte of a request, or the connection, to the end of its head."""
HEAD_BYTES_MAX: Final = 16_384
IDLE_S: Final = 65
"""Between two requests of a connection."""
_STATUS_LINES: Final = {each.value: b"HTTP/1.1 %d %b\r\n" % (each, each.phrase.encode()) for each in HTTPStatus}
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

if sys.platform == "win32" and not TYPE_CHECKING:
    BoundedProtocol = _Base
else:

    class BoundedProtocol(_Base):
        """A connection whose client can neither keep us waiting for a head nor fill the memory with one."""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self._head_size = 0
            self._is_in_head = False
            self._deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(HEAD_S, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.get_protocol() is not self:  # it is a WebSocket's from now on
                return
            if self._deadline is None and (self._is_in_head or self.cycle is None or self.cycle.response_complete):
                self._deadline = self.loop.call_later(HEAD_S, self._give_up)

        def on_message_begin(self) -> None:
            self._head_size, self._is_in_head = 0, True
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._add(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._add(len(name) + len(value) + 4)
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._stop_waiting()
            super().on_headers_complete()
            ours: Any = {RESPOND: partial(_respond, self.cycle)}
            self.scope["extensions"] = ours

        def _add(self, size: int) -> None:
            self._head_size += size
            if self._head_size > HEAD_BYTES_MAX:
                if not self.transport.is_closing():
                    self.transport.write(_TOO_LARGE)
                    self.transport.close()
                raise _HeadTooLargeError

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            if not self.transport.is_closing():
                self.transport.close()


def _respond(cycle: Any, status: int, head: bytes, body: bytes) -> bool:
    """A whole answer in one write, where nothing is in the way; else False, and nothing was done. `head` are lines
    with what ASGI's messages would say."""
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    default = b"".join(b"%b: %b\r\n" % pair for pair in cycle.default_headers)
    cycle.transport.write(b"%b%b%b\r\n%b" % (_STATUS_LINES[status], default, head, body))
    cycle.message_event.set()
    cycle.on_response()
    return True


class _HeadTooLargeError(Exception):
    """Ends the parsing; the answer is on its way."""
