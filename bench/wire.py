"""What HTTP costs: pushes, pulls and acks over Cloudflare's wire, beside the least POST route of the same server.

    python -m bench.wire [--seconds 4] [--rounds 5] [--url sqlite:///...|postgresql://...] [--json FILE]

Rounds are interleaved. The load comes from one process with 50 keep-alive connections, on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.machine import conditions, load_average
from bench.program import ROOT, MeasureError
from bench.wire_load import Script, load, post, steady

ACCOUNT: Final = "0" * 32
CONNECTIONS: Final = 50
PORTION: Final = 100
STEADY_RATE: Final = 500.0
READY_S: Final = 30.0
BODY: Final = {"order": 7, "item": "lamp", "note": "x" * 160}


class Served:
    """A started server, and a queue in it."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self._token = token
        self.base = f"/client/v4/accounts/{ACCOUNT}/queues"
        found = self.ask("GET", f"{self.base}?name=jobs")["result"]
        self.queue = f"{self.base}/{found[0]['queue_id']}"

    def post(self, path: str, body: object) -> bytes:
        return post(path, json.dumps(body).encode(), token=self._token, host=f"127.0.0.1:{self.port}")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        status, answer = _ask(self.port, method, path, body, {"Authorization": f"Bearer {self._token}"})
        if status != http.client.OK:
            raise MeasureError(f"{method} {path}: {status} {answer!r}")
        return json.loads(answer)


def _ask(port: int, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, body=sent, headers={"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


def again(request: bytes, until: float) -> Script:
    """The same, until then."""
    while time.perf_counter() < until:
        yield request


def pull_and_ack(served: Served, counted: Callable[[int], None]) -> Script:
    """Pull a hundred, ack them, until there are no more."""
    pull = served.post(f"{served.queue}/messages/pull", {"batch_size": PORTION, "visibility_timeout_ms": 60_000})
    while True:
        messages = json.loads((yield pull))["result"]["messages"]
        if not messages:
            return
        acks = [{"lease_id": each["lease_id"]} for each in messages]
        said = json.loads((yield served.post(f"{served.queue}/messages/ack", {"acks": acks})))["result"]
        counted(said["ackCount"])


class Figures:
    """One round: requests or messages a second, and milliseconds."""

    def __init__(self, served: Served, seconds: float) -> None:
        self._served = served
        self._seconds = seconds

    def take(self) -> dict[str, float]:
        served = self._served
        single = served.post(f"{served.queue}/messages", {"body": BODY})
        batch = served.post(f"{served.queue}/messages/batch", {"messages": [{"body": BODY}] * PORTION})
        figures = {
            "bare route, requests/s": self._rate(served.post("/bare", {"body": BODY})),
            "single pushes/s": self._rate(single),
        }
        self._empty()
        figures["pushed by 100, messages/s"] = PORTION * self._rate(batch, connections=4)
        self._empty()
        figures["pulled and acked by 100, messages/s"] = self._drain(batch)
        took = sorted(self._steady(single))
        figures["single push at 500/s, p50 ms"] = 1000 * took[len(took) // 2]
        figures["single push at 500/s, p99 ms"] = 1000 * took[len(took) * 99 // 100]
        self._empty()
        return figures

    def _rate(self, request: bytes, connections: int = CONNECTIONS) -> float:
        until = time.perf_counter() + self._seconds
        took = uvloop.run(load(self._served.port, [again(request, until) for _ in range(connections)]))
        return len(took) / self._seconds

    def _drain(self, batch: bytes) -> float:
        count = max(20, int(8_000 * self._seconds / PORTION))
        uvloop.run(load(self._served.port, [(batch for _ in range(count))]))
        acked = [0]

        def counted(messages: int) -> None:
            acked[0] += messages

        began = time.perf_counter()
        uvloop.run(load(self._served.port, [pull_and_ack(self._served, counted) for _ in range(4)]))
        took_s = time.perf_counter() - began
        if acked[0] != count * PORTION:
            raise MeasureError(f"{count * PORTION:,} were pushed, {acked[0]:,} pulled and acked")
        return acked[0] / took_s

    def _steady(self, single: bytes) -> list[float]:
        requests = [single] * int(STEADY_RATE * self._seconds)
        return uvloop.run(steady(self._served.port, requests, rate=STEADY_RATE, connections=CONNECTIONS))

    def _empty(self) -> None:
        self._served.ask("POST", f"{self._served.queue}/purge", {"delete_messages_permanently": True})


@contextlib.contextmanager
def serving(url: str) -> Iterator[Served]:
    """`conveyor serve` of the bench's app, with a queue for pulls."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_urlsafe(32)
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "CONVEYOR_URL": url, "CONVEYOR_TOKEN": token, "PYTHONPATH": path}
    command = [sys.executable, "-m", "conveyor", "serve", "bench.wire_app:app", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, cwd=ROOT)
    try:
        _wait_ready(server, port)
        served = Served(port, token)
        served.ask("POST", f"{served.queue}/consumers", {"type": "http_pull"})
        yield served
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def _wait_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise MeasureError("the server did not start")
        with contextlib.suppress(OSError):
            if _ask(port, "GET", "/readyz", None, {})[0] == http.client.OK:
                return
        time.sleep(0.05)
    raise MeasureError("the server was not ready in time")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=4.0, help="of each stretch")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--url", help="the store; else a fresh SQLite file")
    words.add_argument("--json", type=Path, help="write every round there as well")
    given = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="conveyor-http-") as folder:
        facts = conditions(Path(folder))
        with serving(given.url or f"sqlite:///{folder}/conveyor.db") as served:
            figures = Figures(served, given.seconds)
            figures.take()  # warm
            rounds = [figures.take() for _ in range(given.rounds)]
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        print(f"{name:40} {statistics.median(values):12,.2f}  ({min(values):,.2f} to {max(values):,.2f})")
    ratios = [each["single pushes/s"] / each["bare route, requests/s"] for each in rounds]
    print(
        f"{'single push / bare route':40} {statistics.median(ratios):12.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    for name, fact in {**facts, "load average at the end": load_average()}.items():
        print(f"{name}: {fact}")
    if given.json:
        given.json.write_text(json.dumps({"conditions": facts, "rounds": rounds}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
