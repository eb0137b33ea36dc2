"""The whole way: a file comes in parts, is cut into everything, and goes out right, with true progress."""

from __future__ import annotations

import io
import json
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from cutmv.kit import Served, leftovers, look, seconds_of, wait_until

FRAME_S = 1 / 25
GIF_FRAME_S = 1 / 10


def listen(served: Served, order: str, after: int = 0) -> list[dict[str, Any]]:
    """All events of an order until its end, as a browser hears them."""
    heard = []
    with connect(f"ws://127.0.0.1:{served.port}/ws", origin=Origin(served.url), open_timeout=60) as socket:
        socket.send(json.dumps({"watch": [{"order": order, "after": after}]}))
        while True:
            event = json.loads(socket.recv(timeout=60))
            heard.append(event)
            if event.get("state") in ("succeeded", "failed", "cancelled"):
                return heard


def test_a_minute_becomes_three_clips_gifs_and_pictures(served: Served, film: Path, tmp_path: Path) -> None:
    upload = served.upload(film, part=200_000)
    assert upload["state"] == "ready", upload
    assert upload["media"]["duration_s"] == pytest.approx(60, abs=0.1)
    assert upload["previews"] == 10
    picture = served.client.get(f"/api/uploads/{upload['id']}/previews/3.jpg")
    assert picture.content.startswith(b"\xff\xd8")
    order = served.order(
        upload["id"], [(1, 2.5), (10.4, 12.2), (57.6, 60)], ["mp4", "gif", "thumbnails"], aspect="1:1", quality="low"
    )
    assert order["way"] in (None, "queue")
    events = listen(served, order["id"])
    ended = served.view(order["id"])
    assert ended["state"] == "succeeded", ended
    assert len(ended["outputs"]) == 3 * (1 + 1 + 4)

    for clip, length in ((1, 1.5), (2, 1.8), (3, 2.4)):
        mp4 = served.download(order["id"], f"clip-{clip:02d}.mp4", tmp_path)
        assert seconds_of(mp4) == pytest.approx(length, abs=FRAME_S + 0.001)
        media = look(mp4)
        assert "mp4" in media.container
        assert media.width == media.height == 180
        gif = served.download(order["id"], f"clip-{clip:02d}.gif", tmp_path)
        assert seconds_of(gif) == pytest.approx(length, abs=GIF_FRAME_S + 0.001)
        assert gif.read_bytes()[:4] == b"GIF8"
        for number in range(1, 5):
            thumbnail = served.download(order["id"], f"clip-{clip:02d}-thumbnail-{number}.jpg", tmp_path)
            assert thumbnail.read_bytes()[:2] == b"\xff\xd8"

    check_progress(events)
    assert [each["seq"] for each in events] == list(range(1, len(events) + 1)), "no event is missing, none comes twice"
    middle = events[len(events) // 2]["seq"]
    again = listen(served, order["id"], after=middle)
    assert again == [each for each in events if each["seq"] > middle], "whoever comes back hears what was missed"

    packed = served.client.get(f"/api/orders/{order['id']}/zip")
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert sorted(archive.namelist()) == sorted(each["name"] for each in ended["outputs"])
        assert archive.testzip() is None
        assert archive.read("clip-01.mp4") == (tmp_path / "clip-01.mp4").read_bytes()
    wait_until(lambda: not leftovers(served.folder / "data"))
    assert f"✅ Job successfully enqueued to the embedded queue: {order['id']}" in served.log


def check_progress(events: list[dict[str, Any]]) -> None:
    """Of the order and of each output: forward only, and through the middle."""
    last, outputs, steps = 0.0, dict[str, float](), 0
    for event in events:
        assert event["fraction"] >= last, event
        last = event["fraction"]
        if "output" in event:
            output = event["output"]
            assert output["fraction"] >= outputs.get(output["name"], 0.0), event
            outputs[output["name"]] = output["fraction"]
            steps += 0 < output["fraction"] < 0.99
    assert last == 1
    assert steps > 0, "it goes through the middle"


def test_every_format_of_one_clip(served: Served, film: Path, tmp_path: Path) -> None:
    upload = served.upload(film)
    order = served.order(upload["id"], [(2, 4)], ["webm", "mp3", "contact_sheet"], aspect="9:16")
    ended = served.ended(order["id"])
    assert ended["state"] == "succeeded", ended
    webm = look(served.download(order["id"], "clip-01.webm", tmp_path))
    assert "webm" in webm.container
    assert webm.duration_s == pytest.approx(2, abs=FRAME_S)
    mp3 = look(served.download(order["id"], "clip-01.mp3", tmp_path))
    assert (mp3.video, mp3.container) == (None, "mp3")
    assert mp3.duration_s == pytest.approx(2, abs=0.06), "of whole frames of 26 ms, with the coder's delay"
    sheet = served.download(order["id"], "clip-01-contact-sheet.jpg", tmp_path).read_bytes()
    assert sheet.startswith(b"\xff\xd8")


def test_an_upload_goes_on_where_it_stopped(served: Served, film: Path) -> None:
    body, upload = film.read_bytes(), served.begin(film)
    first = served.send_part(upload["id"], body[:100_000], 0)
    assert first["received"] == 100_000
    headers = {"content-type": "application/offset+octet-stream", "upload-offset": "0"}
    again = served.client.patch(f"/api/uploads/{upload['id']}", content=body[:100_000], headers=headers)
    assert again.status_code == 409, "this part is here"
    with socket.create_connection(("127.0.0.1", served.port)) as wire:  # a sender who leaves in the middle of a part
        head = (
            f"PATCH /api/uploads/{upload['id']} HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\nupload-offset: 100000\r\n"
            "content-type: application/offset+octet-stream\r\ncontent-length: 200000\r\n\r\n"
        )
        wire.sendall(head.encode() + body[100_000:150_000])
    response = served.client.patch(
        f"/api/uploads/{upload['id']}", content=b"x", headers={**headers, "upload-offset": "7"}
    )
    assert response.status_code == 409, "a lock that the one who left held would let nobody in"
    received = served.ask("GET", f"/api/uploads/{upload['id']}", 200)["received"]
    assert 100_000 <= received <= 150_000
    served.send_part(upload["id"], body[received:], received)
    assert served.examined(upload["id"])["state"] == "ready"


def test_cancel_kills_ffmpeg_and_another_try_keeps_what_is_there(served: Served, film: Path) -> None:
    upload = served.upload(film)
    order = served.order(upload["id"], [(0, 2), (0, 60)], ["webm"], quality="high")
    [worker] = served.workers()
    wait_until(lambda: served.view(order["id"])["outputs"][1]["fraction"] > 0)
    assert served.encoders(worker)
    cancelled = served.ask("POST", f"/api/orders/{order['id']}/cancel", 200, json={})
    assert cancelled["state"] == "cancelled"
    wait_until(lambda: not served.encoders(worker))
    wait_until(lambda: not leftovers(served.folder / "data"))
    size = served.view(order["id"])["outputs"][0]["size"]
    assert size
    again = served.ask("POST", f"/api/orders/{order['id']}/retry", 200, json={})
    assert again["outputs"][1]["fraction"] == 0
    assert again["outputs"][0]["size"] == size
    served.ask("POST", f"/api/orders/{order['id']}/cancel", 200, json={})
    wait_until(lambda: not leftovers(served.folder / "data"))
