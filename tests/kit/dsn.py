"""A Sentry of the tests' own on loopback: takes envelopes at `POST /api/42/envelope/`, and whatever else is posted."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

POLL_S = 0.01


class Dsn:
    """It listens from `with` on. `raw` is every byte that came, unpacked."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.items: list[tuple[str, dict[str, Any]]] = []
        """Type and payload of each item."""
        self.posts: list[dict[str, Any]] = []
        """What came elsewhere."""
        taken = self._take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                taken(self.path, body)
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)

    @property
    def dsn(self) -> str:
        return f"http://pub@127.0.0.1:{self._server.server_port}/42"

    @property
    def hook(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    async def until(self, kind: str, count: int) -> None:
        """Until so many items of a type have come: whoever closes waits only so long for their sending."""
        async with asyncio.timeout(60):
            while len(self.of(kind)) < count:
                await asyncio.sleep(POLL_S)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The items of a type: `event`, `transaction`, `check_in`."""
        return [each for name, each in self.items if name == kind]

    def _take(self, path: str, body: bytes) -> None:
        self.raw.append(body)
        if not path.endswith("/envelope/"):
            self.posts.append(json.loads(body))
            return
        lines = body.split(b"\n")
        for head, payload in zip(lines[1::2], lines[2::2], strict=False):
            self.items.append((json.loads(head)["type"], json.loads(payload)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
