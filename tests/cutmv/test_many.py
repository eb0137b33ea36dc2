"""Two hundred small orders at once: none is lost, memory stays bounded, the page stays quick."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.sync.client import connect

from cutmv.kit import Served, leftovers, make_media

KIB = 1024


def memory_of(pid: int) -> int:
    """Bytes that a process and all below it hold."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
    rows = [[int(part) for part in line.split()] for line in listed.splitlines()]
    family, grew = {pid}, True
    while grew:
        more = {row[0] for row in rows if row[1] in family} - family
        family, grew = family | more, bool(more)
    return sum(row[2] for row in rows if row[0] in family) * KIB


class Watchman(threading.Thread):
    """Asks for the page and an order again and again, and for the memory."""

    def __init__(self, served: Served, order: str) -> None:
        super().__init__(daemon=True)
        self._served, self._order = served, order
        self.waits: list[float] = []
        self.memory = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            for path in ("/", f"/api/orders/{self._order}"):
                begun = time.monotonic()
                self._served.ask("GET", path, 200) if path != "/" else self._served.client.get(path).raise_for_status()
                self.waits.append(time.monotonic() - begun)
            self.memory = max(self.memory, memory_of(self._served.pid))


@pytest.mark.timeout(1_200)
@pytest.mark.campaign
def test_many_orders_at_once(tmp_path: Path) -> None:
    count = 200
    with Served(tmp_path / "cutmv") as served:
        upload = served.upload(make_media(tmp_path / "small.mp4", seconds=4))["id"]
        before = memory_of(served.pid)

        def order(number: int) -> str:
            start = number % 20 / 10
            return str(served.order(upload, [(start, start + 1)], ["mp4"], quality="low")["id"])

        begun = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            orders = list(pool.map(order, range(count)))
        taken_s = time.monotonic() - begun
        watchman = Watchman(served, orders[-1])
        watchman.start()
        try:
            ended = follow(served, orders)
        finally:
            watchman.done.set()
            watchman.join()
        seconds = time.monotonic() - begun
        waits = sorted(watchman.waits)
        print(  # noqa: T201  # what a campaign measures
            f"{count} orders: taken in {taken_s:.1f} s, done in {seconds:.1f} s; memory {before >> 20} -> "
            f"{watchman.memory >> 20} MiB; page median {waits[len(waits) // 2] * 1e3:.0f} ms, worst {waits[-1] * 1e3:.0f} ms"
        )
        assert ended == dict.fromkeys(orders, "succeeded")
        for each in orders:
            [output] = served.view(each)["outputs"]
            body = served.client.get(f"/api/orders/{each}/outputs/{output['name']}").content
            assert len(body) == output["size"]
            assert body[4:8] == b"ftyp"
        assert watchman.memory - before < 600 << 20
        assert waits[len(waits) * 99 // 100] < 1.5
        assert (
            f'cutmv_orders_ended_total{{state="succeeded",way="queue"}} {count}'
            in served.client.get("/api/metrics").text
        )
        assert leftovers(served.folder / "data") == []


def follow(served: Served, orders: list[str]) -> dict[str, str]:
    """How each ended, as one browser hears it."""
    ended: dict[str, str] = {}
    with connect(f"ws://127.0.0.1:{served.port}/ws") as socket:
        for start in range(0, len(orders), 30):
            socket.send(json.dumps({"watch": [{"order": each} for each in orders[start : start + 30]]}))
        while len(ended) < len(orders):
            event = json.loads(socket.recv(timeout=120))
            if event.get("state") in ("succeeded", "failed", "cancelled"):
                ended[event["order"]] = event["state"]
    return ended
