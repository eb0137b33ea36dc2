"""`python -m conveyor_apps.generation.beside [PORT]`: the sandbox, and on that port the sample receiver of webhooks,
for as long as somebody holds the standard input open.

Who starts it becomes another program afterwards, and keeps the pipe: however that one ends, killed too, this ends.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Final

import msgspec
import uvicorn

from conveyor_apps.sandbox.errors import SandboxError
from conveyor_apps.sandbox.serve import serving
from conveyor_apps.sandbox.settings import SandboxSettings

from .nextjs import Received, Site

GENERATION_S: Final = "6"
"""How long the sandbox takes for a video: long enough to see it move, short enough to wait for."""


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """The line that says what is there."""

    sandbox: str
    nextjs: str | None
    """None: nobody asked for it, or somebody has its port."""


def main() -> None:
    """Say what is there, and wait for the end."""
    seconds = os.environ.get("SANDBOX_GENERATION_S", "").strip() or GENERATION_S
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 6):
        sys.exit(f"sandbox: `SANDBOX_GENERATION_S` is `{seconds}`: give a whole number of seconds")
    port, secret = int(sys.argv[1]) if sys.argv[1:] else 0, os.environ.get("GENERATION_WEBHOOK_SECRET", "")
    settings = SandboxSettings(generation_s=int(seconds), is_clock_running=True)
    try:
        with serving(settings) as url, receiving(port, secret) as nextjs:
            print(msgspec.json.encode(Beside(sandbox=url, nextjs=nextjs)).decode(), flush=True)
            sys.stdin.buffer.read()
    except SandboxError as error:
        sys.exit(f"sandbox: {error} {error.hint}")


@contextlib.contextmanager
def receiving(port: int, secret: str) -> Iterator[str | None]:
    """The sample receiver in a thread; gives its address."""
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if port:
                door.bind(("127.0.0.1", port))
        except OSError:
            port = 0
        if not port:
            yield None
            return
        site = Site(secret, on_event=_show)
        server = uvicorn.Server(uvicorn.Config(site.app(), lifespan="off", ws="none", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="nextjs", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(5)


def _show(received: Received) -> None:
    event = received.event
    print(f"nextjs: {event.event} {event.generation_id}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
