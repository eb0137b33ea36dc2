"""A small Cloudflare on loopback: it keeps what it is sent, records what it is asked, and answers badly on demand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from conveyor.model.clock import SystemClock


class Asked(msgspec.Struct, kw_only=True):
    """A request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


class Bad(msgspec.Struct, kw_only=True):
    """One bad answer, to the next request whose path ends so."""

    path: str
    status: int = 0
    """0: the connection is cut."""
    headers: dict[str, str] = {}
    is_done: bool = False
    """What was asked is done first; only the answer is bad."""
    body: bytes = b'{"success": false, "errors": [{"code": 10250, "message": "overloaded"}], "result": null}'
    at: int | None = None
    """Cut the good answer after so many bytes."""


class Stored(msgspec.Struct, kw_only=True):
    number: int
    body: Any
    content_type: str
    attempts: int = 0
    lease_id: str | None = None
    ends_at: int = 0
    ready_at: int = 0
    sent_at: int = 0


class Far:
    """The API; `url` is a conveyor store of its account."""

    def __init__(self, *, knows_keys: bool = True) -> None:
        self.asked: list[Asked] = []
        self.bad: deque[Bad] = deque()
        self.queues: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, list[Stored]] = {}
        self.token = "a-token-that-must-not-be-seen"  # noqa: S105  # the test's own
        self.encode: Callable[[Stored], Any] = lambda stored: (
            msgspec.json.encode(stored.body).decode() if stored.content_type == "json" else stored.body
        )
        self._keys: set[str] = set()
        self._knows_keys = knows_keys
        self._clock = SystemClock()
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self._held: socket.socket | None = None
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Far]:
        place = {"sock": self._held} if self._held is not None else {"host": "127.0.0.1", "port": 0}
        server = await asyncio.start_server(self._serve, **place)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """It has its port, so that nobody else takes it, and does not listen yet: whoever calls is refused."""
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self._held, self.port = held, held.getsockname()[1]
            yield

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"cloudflare://acc?api={self.api}"

    def make(self, name: str, *, consumer: str | None = "http_pull", letters: str = "", **settings: Any) -> None:
        """A queue, with a consumer."""
        consumers = []
        if consumer is not None:
            terms = {"batch_size": 10, "max_retries": 3, "retry_delay": 0} | settings
            consumers = [
                {"consumer_id": f"c-{name}", "type": consumer, "dead_letter_queue": letters, "settings": terms}
            ]
        self.queues[name] = {
            "queue_id": f"id-{name}", "queue_name": name, "created_on": "2026-01-02T03:04:05.678901Z",
            "modified_on": "2026-01-02T03:04:05.678901Z", "consumers": consumers,
            "settings": {"delivery_delay": 0, "delivery_paused": False, "message_retention_period": 345600},
        }  # fmt: skip
        self.messages[name] = []

    def put(self, name: str, body: Any, content_type: str = "json", *, delay_s: float = 0) -> Stored:
        now = self._clock.now_ms()
        stored = Stored(
            number=next(self._numbers), body=body, content_type=content_type, sent_at=now,
            ready_at=now + round(delay_s * 1000),
        )  # fmt: skip
        self.messages[name].append(stored)
        return stored

    def asked_of(self, ending: str) -> list[Asked]:
        return [each for each in self.asked if each.path.endswith(ending)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until some request has made it so."""
        while not condition():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 60)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        body = msgspec.json.decode(content) if content else None
        asked = Asked(method=method, path=parts.path, query=parse_qs(parts.query), headers=headers, body=body)
        self.asked.append(asked)
        bad = next((each for each in self.bad if asked.path.endswith(each.path)), None)
        if bad is not None:
            self.bad.remove(bad)
        status, answer = (0, b"") if bad is not None and not bad.is_done else self._do(asked)
        self._changed.set()
        if bad is not None:
            if bad.at is not None:
                writer.write(_shown(status, {}, answer)[: bad.at])
            if bad.status == 0:
                await writer.drain()
                return False
            status, answer = bad.status, bad.body
        writer.write(_shown(status, bad.headers if bad is not None else {}, answer))
        await writer.drain()
        return True

    def _do(self, asked: Asked) -> tuple[int, bytes]:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return _refused(403, 10000, "Authentication error")
        if re.match(r"/client/v4/accounts/[0-9a-f]{32}/queues", asked.path) is None:
            return _refused(404, 7003, f"Could not route to {asked.path}")
        _, _, rest = asked.path.partition("/queues")
        if rest == "":
            return self._many(asked)
        _, id, *verb = rest.split("/")
        name = id.removeprefix("id-")
        if name not in self.queues:
            return _refused(404, 11000, f"Queue '{name}' not found. Please verify it exists and try again.")
        return self._one(asked, name, "/".join(verb))

    def _many(self, asked: Asked) -> tuple[int, bytes]:
        if asked.method == "POST":
            name = asked.body["queue_name"]
            if name in self.queues:
                return _refused(409, 11009, f"Queue name '{name}' is already taken.")
            self.make(name, consumer=None)
            self.queues[name]["settings"] |= asked.body.get("settings", {})
            return _good(None)
        names = asked.query.get("name")
        rows = [row for name, row in sorted(self.queues.items()) if names is None or name in names]
        return _good(rows if asked.query.get("page", ["1"]) == ["1"] else [])

    def _one(self, asked: Asked, name: str, verb: str) -> tuple[int, bytes]:
        row, held = self.queues[name], self.messages[name]
        match asked.method, verb:
            case "PATCH", "":
                row["settings"] |= asked.body["settings"]
                return _good(row)
            case "DELETE", "":
                del self.queues[name]
                return _good(None)
            case "GET", "metrics":
                return _good({"backlog_count": len(held), "backlog_bytes": 7, "oldest_message_timestamp_ms": 0})
            case "POST", "purge":
                held.clear()
                return _good(row)
            case "POST", "consumers":
                if row["consumers"]:
                    return _refused(409, 11004, "workers.api.error.consumer_exists")
                row["consumers"] = [{"consumer_id": f"c-{name}"} | asked.body]
                return _good(row["consumers"][0])
            case "PUT", _:
                row["consumers"] = [{"consumer_id": f"c-{name}"} | asked.body]
                return _good(row["consumers"][0])
            case "DELETE", _:
                row["consumers"] = []
                return _good(None)
            case "POST", "messages/batch":
                return self._push(asked, name)
            case "POST", "messages/pull":
                return self._pull(asked, name)
            case "POST", "messages/ack":
                return self._judge(asked.body, held)
            case "POST", "messages/peek":
                found = [self._shown(each) for each in held[: asked.body["batch_size"]]]
                return _good({"messages": found})
            case _:
                return _refused(404, 7003, f"Could not route to {asked.path}")

    def _push(self, asked: Asked, name: str) -> tuple[int, bytes]:
        key = asked.headers.get("idempotency-key", "")
        if self._knows_keys and key in self._keys:
            return _good({})
        if any(each["body"] == "refused" for each in asked.body["messages"]):
            return _refused(400, 10203, "MessageMetadataInvalid")
        self._keys.add(key)
        for each in asked.body["messages"]:
            self.put(name, each["body"], each["content_type"], delay_s=each.get("delay_seconds", 0))
        return _good({})

    def _pull(self, asked: Asked, name: str) -> tuple[int, bytes]:
        if self.queues[name]["settings"]["delivery_paused"]:
            return _refused(409, 0, "queue_delivery_paused")
        now = self._clock.now_ms()
        found: list[dict[str, Any]] = []
        for each in self.messages[name]:
            if len(found) < asked.body["batch_size"] and each.ends_at <= now and each.ready_at <= now:
                each.attempts += 1
                each.lease_id = f"lease-{each.number}-{each.attempts}"
                each.ends_at = now + asked.body["visibility_timeout_ms"]
                found.append(self._shown(each) | {"lease_id": each.lease_id})
        return _good({"messages": found})

    def _shown(self, stored: Stored) -> dict[str, Any]:
        return {
            "id": f"{stored.number:032x}", "body": self.encode(stored), "timestamp_ms": stored.sent_at,
            "attempts": stored.attempts, "metadata": {"CF-Content-Type": stored.content_type},
        }  # fmt: skip

    def _judge(self, body: Any, held: list[Stored]) -> tuple[int, bytes]:
        warnings = {}
        for each in body["acks"]:
            found = next((one for one in held if one.lease_id == each["lease_id"]), None)
            if found is None:
                warnings[each["lease_id"]] = "unknown lease"
            else:
                held.remove(found)
        for each in body["retries"]:
            found = next((one for one in held if one.lease_id == each["lease_id"]), None)
            if found is None:
                warnings[each["lease_id"]] = "unknown lease"
            else:
                found.lease_id, found.ends_at = None, 0
                found.ready_at = self._clock.now_ms() + 1000 * each.get("delay_seconds", 0)
        return _good({"ackCount": len(body["acks"]), "retryCount": len(body["retries"]), "warnings": warnings})


def _good(result: Any) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"success": True, "errors": [], "messages": [], "result": result})


def _refused(status: int, code: int, message: str) -> tuple[int, bytes]:
    errors = [{"code": code, "message": message}]
    return status, msgspec.json.encode({"success": False, "errors": errors, "messages": [], "result": None})


def _shown(status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
