"""A worker is killed, the queue's server is away: orders finish, their outputs are right, and there once."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cutmv.kit import TOOLS, Served, children_of, leftovers, look, wait_until

ACCOUNT = "0123456789abcdef0123456789abcdef"
QUEUE = "cutmv-processing"
TOKEN = "far-token-" + "0" * 32


def test_a_worker_killed_midway_finishes_and_makes_nothing_twice(served: Served, film: Path, tmp_path: Path) -> None:
    upload = served.upload(film)
    order = served.order(upload["id"], [(0, 3), (0, 40), (5, 8)], ["webm"])
    wait_until(lambda: served.view(order["id"])["outputs"][1]["fraction"] > 0.05)
    [worker] = served.workers()
    encoders = served.encoders(worker)
    assert encoders
    before = served.download(order["id"], "clip-01.webm", tmp_path).read_bytes()
    seen = served.view(order["id"])
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not [pid for pid in encoders if is_alive(pid)])
    last = seen["fraction"]

    def ended() -> bool:
        nonlocal last
        view = served.view(order["id"])
        assert view["fraction"] >= last, "never backwards, whatever dies"
        last = view["fraction"]
        return bool(view["state"] == "succeeded")

    wait_until(ended, every=0.2)
    assert served.view(order["id"])["attempt"] == 2
    assert served.download(order["id"], "clip-01.webm", tmp_path).read_bytes() == before, "it was not made again"
    for number, length in ((1, 3), (2, 40), (3, 3)):
        assert look(served.download(order["id"], f"clip-{number:02d}.webm", tmp_path)).duration_s == pytest.approx(
            length, abs=0.04
        )
    wait_until(lambda: not leftovers(served.folder / "data"))


def is_alive(pid: int) -> bool:
    """Zombies are not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Served]:
    """Another conveyor, as Cloudflare would be: it has the queue, and no app."""
    with Served(tmp_path / "far", command=("conveyor", "serve"), CONVEYOR_TOKEN=TOKEN) as running:
        headers = {"authorization": f"Bearer {TOKEN}"}
        queues = f"/client/v4/accounts/{ACCOUNT}/queues"
        made = running.client.post(queues, json={"queue_name": QUEUE}, headers=headers)
        assert made.status_code == 200, made.text
        number = made.json()["result"]["queue_id"]
        running.client.post(
            f"{queues}/{number}/consumers", json={"type": "http_pull"}, headers=headers
        ).raise_for_status()
        yield running


def test_an_order_falls_back_while_the_queue_is_away_and_the_old_one_goes_on(
    far: Served, film: Path, tmp_path: Path
) -> None:
    settings = {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN, "CLOUDFLARE_QUEUE_NAME": QUEUE,
        "CLOUDFLARE_API_BASE_URL": far.url, "CUTMV_WORKERS": "1", "CONVEYOR_TOKEN": "",
    }  # fmt: skip
    with Served(tmp_path / "near", **settings) as near:
        status = near.ask("GET", "/api/queue-status", 200)
        assert status == {"healthy": True, "message": f"Queue '{QUEUE}' is operational", "configured": True}
        upload = near.upload(film)
        running = near.order(upload["id"], [(0, 40)], ["webm"])
        waiting = near.order(upload["id"], [(3, 5)], ["mp4"])
        assert f"🚀 Attempting to enqueue job {running['id']} to Cloudflare Queues..." in near.log
        assert f"✅ Job successfully enqueued to Cloudflare Queues: {running['id']}" in near.log
        wait_until(lambda: near.view(running["id"])["outputs"][0]["fraction"] > 0)

        far.stop()
        fresh = near.order(upload["id"], [(1, 3)], ["mp4"])
        assert fresh["way"] == "direct"
        assert "⚠️ Cloudflare Queues not available: " in near.log
        assert "🔄 Falling back to direct processing..." in near.log
        ended = near.ended(fresh["id"])
        assert ended["state"] == "succeeded", ended
        assert look(near.download(fresh["id"], "clip-01.mp4", tmp_path)).duration_s == pytest.approx(2, abs=0.04)
        status = near.ask("GET", "/api/queue-status", 200)
        assert (status["healthy"], status["configured"]) == (False, True)
        assert near.ended(running["id"])["state"] == "succeeded", "what a worker has, it finishes"
        assert near.view(waiting["id"])["state"] in ("queued", "running")

        far.start()
        ended = near.ended(waiting["id"])
        assert (ended["state"], ended["way"]) == ("succeeded", "queue")
        assert look(near.download(waiting["id"], "clip-01.mp4", tmp_path)).duration_s == pytest.approx(2, abs=0.04)
        wait_until(lambda: not leftovers(near.folder / "data"))


@pytest.mark.campaign
def test_a_direct_order_goes_on_after_the_server_was_killed(far: Served, film: Path, tmp_path: Path) -> None:
    far.stop()
    settings = {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN, "CLOUDFLARE_QUEUE_NAME": QUEUE,
        "CLOUDFLARE_API_BASE_URL": far.url, "CONVEYOR_TOKEN": "",
    }  # fmt: skip
    with Served(tmp_path / "near", **settings) as near:
        upload = near.upload(film)
        order = near.order(upload["id"], [(0, 2), (0, 20)], ["webm"])
        wait_until(lambda: near.view(order["id"])["outputs"][1]["fraction"] > 0)
        [server] = [pid for pid, line in children_of(near.pid) if "conveyor.server.web" in line]
        os.kill(server, signal.SIGKILL)
        near.stop(signal.SIGKILL)
        near.start()
        ended = near.ended(order["id"])
        assert (ended["state"], ended["way"]) == ("succeeded", "direct"), ended
        assert look(near.download(order["id"], "clip-02.webm", tmp_path)).duration_s == pytest.approx(20, abs=0.04)
        wait_until(lambda: not leftovers(near.folder / "data"))


class Listener(http.server.BaseHTTPRequestHandler):
    """Keeps what a webhook tells."""

    heard: ClassVar[list[dict[str, Any]]]

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def test_trouble_is_tried_three_times_again_then_told_and_may_be_tried_anew(film: Path, tmp_path: Path) -> None:
    broken, wrapper = tmp_path / "broken", tmp_path / "ffmpeg"
    wrapper.write_text(f'#!/bin/sh\n[ -e {broken} ] && echo "no luck" >&2 && exit 3\nexec {TOOLS.ffmpeg} "$@"\n')
    wrapper.chmod(0o755)

    class Listening(Listener):
        heard: ClassVar[list[dict[str, Any]]] = []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listening) as told:
        threading.Thread(target=told.serve_forever, daemon=True).start()
        alert = f"http://127.0.0.1:{told.server_address[1]}/alert"
        with Served(tmp_path / "cutmv", CUTMV_FFMPEG=str(wrapper), CUTMV_ALERT_WEBHOOK=alert) as served:
            upload = served.upload(film)
            assert upload["state"] == "ready", "FFmpeg itself says what the file is, where ffprobe is not beside it"
            broken.touch()
            order = served.order(upload["id"], [(1, 2)], ["mp4"])
            ended = served.ended(order["id"])
            assert (ended["state"], ended["attempt"]) == ("failed", 4)
            assert ended["error"] == "It failed 4 times: ToolError: FFmpeg ended with code 3: no luck"
            assert f"❌ Job failed: {order['id']}: It failed 4 times" in served.log
            [heard] = wait_until(lambda: Listening.heard)
            assert heard["type"] == "order.failed"
            assert heard["data"]["order"] == order["id"]
            wait_until(lambda: not leftovers(served.folder / "data"))
            broken.unlink()
            served.ask("POST", f"/api/orders/{order['id']}/retry", 200, json={})
            assert served.ended(order["id"])["state"] == "succeeded"
            metrics = served.client.get("/api/metrics").text
            assert 'cutmv_orders_ended_total{state="failed",way="queue"} 1' in metrics
            assert "cutmv_success_ratio 0.5" in metrics
            assert "cutmv_queue_depth 0" in metrics
        told.shutdown()
