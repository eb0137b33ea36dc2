"""A receiver as Next.js would have it at `/api/webhooks/worker`, in Python: an example to read, what the tests verify
with, and what stands there where no Next.js does.

    python -m conveyor_apps.generation.nextjs          listens on 127.0.0.1:3000, prints what comes
    python -m conveyor_apps.generation.nextjs test     sends a signed test event to NEXTJS_URL

Both take the secret of GENERATION_WEBHOOK_SECRET, else the one that the server keeps in its folder.

Its rules are those of any good receiver: it verifies the signature over the raw bytes, refuses what is too old, takes
each `webhook-id` once, and answers 2xx only when it has kept the event. It knows nothing of conveyor: the signature is
Standard Webhooks', which has libraries for every language.
"""

import base64
import hmac
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import clock
from .secret import VARIABLE, find_secret
from .settings import WEBHOOK_PATH

TOLERANCE_S: Final = 300
BODY_BYTES_MAX: Final = 1 << 20
USAGE: Final = "usage: python -m conveyor_apps.generation.nextjs [test]"
NOT_KEPT: Final = f"hint: set {VARIABLE}, or go to the folder in which the server was started"
NOBODY: Final = (
    "hint: NEXTJS_URL says where; beside the sandbox it is http://127.0.0.1:8788, the port after the server's"
)
STRANGER: Final = f"hint: it verifies with another secret than that of {VARIABLE}, or of this folder"


class WorkerEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The document's body."""

    event: str
    job_id: str
    generation_id: str
    user_id: str
    status: str
    timestamp: str
    result: dict[str, Any] | None = None
    error: str | None = None
    code: str | None = None


@dataclass(slots=True, kw_only=True)
class Received:
    """An event, and the id by which it is known."""

    id: str
    event: WorkerEvent


@dataclass(slots=True)
class Site:
    """What a site does with the events: each once, the status of each generation, and a message of the assistant."""

    secret: str
    now_s: Callable[[], float] = time.time
    is_up: bool = True
    """Whether it takes anything; else it answers 503."""
    events: list[Received] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    calls: int = 0
    refused: int = 0
    """Calls whose signature was wrong or old."""
    repeated: int = 0
    """Calls with an id that was here before."""
    on_event: Callable[[Received], None] | None = None
    _seen: set[str] = field(default_factory=set)

    def app(self) -> Starlette:
        """The site as an ASGI application."""
        return Starlette(routes=[Route(WEBHOOK_PATH, self.take, methods=["POST"])])

    async def take(self, request: Request) -> Response:
        """One call."""
        self.calls += 1
        if not self.is_up:
            return JSONResponse({"error": "down for maintenance"}, status_code=503)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                return JSONResponse({"error": "too large"}, status_code=413)
        if not verify(self.secret, request.headers, bytes(body), now_s=self.now_s()):
            self.refused += 1
            return JSONResponse({"error": "invalid signature"}, status_code=401)
        try:
            event = msgspec.json.decode(body, type=WorkerEvent)
        except msgspec.MsgspecError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        self._keep(Received(id=request.headers["webhook-id"], event=event))
        return JSONResponse({"received": True})

    def _keep(self, received: Received) -> None:
        if received.id in self._seen:
            self.repeated += 1
            return
        self._seen.add(received.id)
        self.events.append(received)
        event = received.event
        self.status[event.generation_id] = event.status
        if event.status == "completed" and event.result is not None:
            self.messages.append(f"{event.user_id}: your video is ready: {event.result['videoUrl']}")
        elif event.status == "failed":
            self.messages.append(f"{event.user_id}: your video could not be made: {event.error}")
        if self.on_event is not None:
            self.on_event(received)


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float) -> bool:
    """Whether one of the signatures is ours, over `id.timestamp.body`, and not older or newer than five minutes."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not id or not (timestamp.isascii() and timestamp.isdigit()) or abs(now_s - int(timestamp)) > TOLERANCE_S:
        return False
    ours = sign(secret, id, int(timestamp), body).encode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(ours, each.encode()) for each in given)


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`. `ValueError` for a secret that is none."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return "v1," + base64.b64encode(hmac.digest(key, f"{id}.{timestamp}.".encode() + body, "sha256")).decode()


def listen(secret: str) -> None:
    """Take what comes, and print it."""
    import uvicorn

    def show(received: Received) -> None:
        event = received.event
        said = event.error or (event.result or {}).get("videoUrl", "")
        print(f"{event.event} {event.generation_id} {event.user_id} {said}", flush=True)

    port = int(os.environ.get("NEXTJS_PORT", "3000"))
    print(f"nextjs: listening on http://127.0.0.1:{port}{WEBHOOK_PATH}", file=sys.stderr, flush=True)
    uvicorn.run(Site(secret, on_event=show).app(), host="127.0.0.1", port=port, log_level="warning")


def send_test(url: str, secret: str) -> int:
    """The document's test event, signed; prints what was answered. 0 for 2xx."""
    import httpx2

    now = int(time.time())
    event = WorkerEvent(
        event="generation.completed", job_id="test", generation_id="test", user_id="test", status="completed",
        timestamp=clock.iso(now * 1000),
    )  # fmt: skip
    id, body = f"msg_{secrets.token_hex(16)}", msgspec.json.encode(event)
    headers = {
        "content-type": "application/json", "webhook-id": id, "webhook-timestamp": str(now),
        "webhook-signature": sign(secret, id, now, body),
    }  # fmt: skip
    try:
        response = httpx2.post(url, content=body, headers=headers, timeout=20, trust_env=False)
    except httpx2.HTTPError as error:
        print(f"{url}: {type(error).__name__}: {error}\n{NOBODY}", file=sys.stderr)
        return 1
    print(f"{url}: {response.status_code} {response.text[:500]}")
    if response.status_code == 401:
        print(STRANGER, file=sys.stderr)
    return 0 if response.is_success else 1


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """`listen` or `test`."""
    if arguments not in ([], ["test"]):
        print(USAGE, file=sys.stderr)
        return 2
    secret = find_secret(environment)
    if not secret:
        print(f"{USAGE}\n{NOT_KEPT}", file=sys.stderr)
        return 2
    if not arguments:
        listen(secret)
        return 0
    url = environment.get("NEXTJS_URL", "").strip().rstrip("/") or "http://localhost:3000"
    return send_test(url + WEBHOOK_PATH, secret)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
