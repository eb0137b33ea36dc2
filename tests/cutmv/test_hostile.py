"""Files and names that mean harm: refused or ended within limits, nothing foreign read, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from conveyor_apps.cutmv.child import Limits, run_child
from conveyor_apps.cutmv.errors import MediaError, RefusedError, ToolError
from conveyor_apps.cutmv.ffmpeg import Tools, input_options
from conveyor_apps.cutmv.probe import probe
from conveyor_apps.cutmv.recipes import Bench, make_output
from conveyor_apps.cutmv.uploads import shown_name
from conveyor_apps.cutmv.words import Clip, Format, Media, Wish, plan_outputs
from cutmv.kit import TOOLS, Served, leftovers, make_media

CANARY = "the-secret-of-another-file"
BOTH = pytest.mark.parametrize("tools", [TOOLS, Tools(TOOLS.ffmpeg, None)], ids=["ffprobe", "ffmpeg"])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def patched(film: Path, target: Path, box: bytes, change: Callable[[bytearray, int], None]) -> Path:
    """An MP4 in which every box of one kind says something else."""
    content, at = bytearray(film.read_bytes()), 0
    while (at := content.find(box, at + 1)) >= 0:
        change(content, at)
    return write(target, bytes(content))


def huge_frames(content: bytearray, at: int) -> None:
    """The table of times says: 10^9 pictures."""
    struct.pack_into(">III", content, at + 8, 1, 1_000_000_000, 1)


def huge_size(target: Path) -> Path:
    """Raw pictures, of which the header says: 60,000 by 60,000."""
    argv = [
        TOOLS.ffmpeg,
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x64:rate=5:duration=1",
        "-c:v",
        "rawvideo",
        str(target),
    ]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    content = bytearray(target.read_bytes())
    struct.pack_into("<II", content, content.index(b"strf") + 12, 60_000, 60_000)
    return write(target, bytes(content))


FILES: dict[str, Callable[[Path, Path], Path]] = {
    "a playlist named mp4": lambda f, _: write(f / "a.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://%s\n#EXT-X-ENDLIST\n" % str(f / "secret.txt").encode()),
    "a concat list": lambda f, _: write(f / "a.mp4", b"ffconcat version 1.0\nfile '%s'\n" % str(f / "film.mp4").encode()),
    "a playlist in avi clothing": lambda f, _: write(f / "a.avi", b"RIFF\0\0\0\0AVI #EXTM3U\n#EXTINF:1,\nconcat:/etc/passwd\n"),
    "a DASH manifest": lambda f, _: write(f / "a.mp4", b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:full:2011"><Period><AdaptationSet><Representation id="1"><BaseURL>file:///etc/passwd</BaseURL></Representation></AdaptationSet></Period></MPD>'),
    "an SDP file": lambda f, _: write(f / "a.mp4", b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 9999 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"),
    "subtitles": lambda f, _: write(f / "a.mp4", b"1\n00:00:01,000 --> 00:00:02,000\n<img src=file:///etc/passwd>\n"),
    "an SVG with an entity": lambda f, _: write(f / "a.svg", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&e;</svg>'),
    "HTML named png": lambda f, _: write(f / "a.png", b"<html><script>fetch('//evil')</script></html>" * 20),
    "a text file": lambda f, _: write(f / "a.mp4", CANARY.encode() * 100),
    "one byte": lambda f, _: write(f / "a.mp4", b"\0"),
    "zeros": lambda f, _: write(f / "a.mp4", bytes(1 << 20)),
    "noise": lambda f, _: write(f / "a.mp4", os.urandom(1 << 20)),
    "a zip": lambda f, _: write(f / "a.mp4", b"PK\x03\x04" + bytes(5_000)),
    "a truncated film without its index": lambda f, film: write(f / "a.mp4", film.read_bytes()[:20_000]),
    "10^9 pictures": lambda f, film: patched(film, f / "a.mp4", b"stts", huge_frames),
    "60,000 by 60,000": lambda f, _: huge_size(f / "a.avi"),
    "a single picture": lambda f, _: write(f / "a.jpg", b"\xff\xd8\xff\xe0" + bytes(2_000) + b"\xff\xd9"),
    "a box that holds itself": lambda f, _: write(f / "a.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0\0\0\x08moov" * 20_000),
    "a tty dump": lambda f, _: write(f / "a.mp4", b"\x1b[2J\x1b[1;1H" * 2_000),
}  # fmt: skip
"""What `probe` must refuse."""


@BOTH
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_film_is_refused_by_its_content(kind: str, tools: Tools, film: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(CANARY)
    (tmp_path / "film.mp4").symlink_to(film)
    path, begun = FILES[kind](tmp_path, film), time.monotonic()
    with pytest.raises(MediaError) as refused:
        asyncio.run(probe(tools, path))
    assert CANARY not in str(refused.value)
    assert time.monotonic() - begun < 30


def bench(tmp_path: Path, source: Path, *, limits: Limits, clip: float = 50.0) -> Bench:
    media = Media(container="mov", duration_s=60, video=0, audio=None, width=320, height=180, fps=25)
    wish = Wish(clips=[Clip(start=0, end=clip)], formats=[Format.MP4])
    return Bench(tools=TOOLS, source=source, folder=tmp_path, media=media, wish=wish, limits=limits)


def make(given: Bench) -> None:
    asyncio.run(make_output(given, plan_outputs(given.wish)[0], lambda _: None))


def test_an_output_beyond_its_size_is_ended(film: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="larger than is allowed"):
        make(bench(tmp_path, film, limits=Limits(file_bytes=100_000)))


def test_one_that_computes_too_long_is_ended(tmp_path: Path) -> None:
    long = make_media(tmp_path / "long.mp4", seconds=8, size="1280x720", rate=30, sound=False)
    with pytest.raises(MediaError, match="computing time"):
        make(bench(tmp_path, long, limits=Limits(cpu_s=1), clip=8))


def test_one_that_takes_too_long_is_killed(film: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="longer than is allowed"):
        make(bench(tmp_path, film, limits=Limits(wall_s=0.3)))


def test_one_that_wants_too_much_memory_is_ended(film: Path, tmp_path: Path) -> None:
    with pytest.raises((MediaError, ToolError)):
        make(bench(tmp_path, film, limits=Limits(memory_bytes=150 << 20)))


def test_a_playlist_reads_nothing_even_if_it_were_taken_for_a_film(film: Path, tmp_path: Path) -> None:
    """The second line: what `probe` let through, no later step would follow either."""
    write(tmp_path / "secret.txt", CANARY.encode())
    path = FILES["a playlist named mp4"](tmp_path, film)
    with pytest.raises(MediaError):
        make(bench(tmp_path, path, limits=Limits()))
    assert not [each for each in tmp_path.glob("clip*") if CANARY.encode() in each.read_bytes()]


CHILD = """
import os, resource, socket, sys
limits = [resource.getrlimit(each)[0] for each in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)]
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2)
    network = "reached"
except OSError:
    network = "none"
print(limits, network, os.getpgid(0) == os.getpid(), sorted(os.environ), len(os.listdir("/proc/self/fd")))
"""


def test_a_child_has_limits_no_network_no_secrets_and_its_own_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "canary")
    with socket.create_server(("127.0.0.1", 0)) as server:
        argv = [sys.executable, "-I", "-c", CHILD, str(server.getsockname()[1])]
        limits = Limits(memory_bytes=1 << 30, cpu_s=7, file_bytes=12_345)
        said = asyncio.run(run_child(argv, limits=limits, folder=tmp_path)).partition("\0")[0].strip()
        can_unshare = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    assert said.startswith(f"[{1 << 30}, 7, 12345] {'none' if can_unshare else ''}"), said
    assert " True ['HOME', 'LC_ALL', " in said
    assert "CLOUDFLARE" not in said


def test_no_name_of_a_user_comes_near_a_command(film: Path) -> None:
    assert "-i" in input_options(film)
    assert shown_name("../../etc/passwd") == "passwd"
    assert shown_name("a\0b\r\n\x1b[31m.mp4") == "ab[31m.mp4"
    assert shown_name("..\\..\\x.mp4") == "x.mp4"
    assert shown_name("\u202egnp.exe") == "gnp.exe"
    assert len(shown_name("x" * 3_000)) == 200
    assert shown_name("/") == "upload"


NAMES = [
    "../../../../etc/cron.d/x.mp4",
    "-i.mp4",
    "a\0b.mp4",
    "x" * 300 + ".mp4",
    "\u202e4pm.exe",
    "; rm -rf ~ #.mp4",
    "<img src=x>.mp4",
]


def test_names_are_shown_and_never_used(served: Served, tmp_path: Path) -> None:
    small = make_media(tmp_path / "small.mp4", seconds=1)
    for name in NAMES:
        upload = served.upload(small, name=name)
        assert upload["state"] == "ready", (name, upload)
        assert "/" not in upload["name"]
        assert "\0" not in upload["name"]
    assert leftovers(served.folder / "data") == []
    outside = [each for each in tmp_path.rglob("*") if each != small]
    assert outside == []


def test_a_refused_upload_leaves_nothing(served: Served, film: Path, tmp_path: Path) -> None:
    path = FILES["HTML named png"](tmp_path, film)
    upload = served.upload(path)
    assert upload["state"] == "refused"
    assert "not a video" in upload["error"]
    body = {"upload": upload["id"], "clips": [{"start": 0, "end": 1}], "formats": ["mp4"]}
    served.ask("POST", "/api/orders", 409, json=body)
    stored = [each for each in served.folder.rglob("*") if each.is_file() and b"fetch('//evil')" in each.read_bytes()]
    assert stored == []


def test_a_film_that_ends_too_soon_gives_what_there_is_or_says_so(served: Served, film: Path, tmp_path: Path) -> None:
    """Its index is whole, the pictures are not."""
    faststart = tmp_path / "fast.mp4"
    argv = [TOOLS.ffmpeg, "-v", "error", "-i", str(film), "-c", "copy", "-movflags", "+faststart", str(faststart)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    half = write(tmp_path / "half.mp4", faststart.read_bytes()[: faststart.stat().st_size // 2])
    upload = served.upload(half)
    if upload["state"] == "ready":
        order = served.order(upload["id"], [(50, 55)], ["mp4"])
        ended = served.ended(order["id"])
        assert ended["state"] == "failed", ended
        assert "damaged" in ended["error"]
    assert leftovers(served.folder / "data") == []


@pytest.fixture(scope="module")
def uploaded(served: Served, film: Path) -> str:
    return str(served.upload(film)["id"])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"clips": []}, 400),
        ({"clips": [{"start": 0, "end": 1}] * 21}, 400),
        ({"clips": [{"start": 5, "end": 2}]}, 400),
        ({"clips": [{"start": 0, "end": 1e9}]}, 400),
        ({"clips": [{"start": "0;-i /etc/passwd", "end": 1}]}, 400),
        ({"formats": ["mp4", "mp4"]}, 400),
        ({"formats": ["hls"]}, 400),
        ({"aspect": "16:9,drawtext=textfile=/etc/passwd"}, 400),
        ({"quality": "-f"}, 400),
        ({"state": "succeeded"}, 400),
        ({"upload": "../x"}, 404),
    ],
)
def test_wishes_that_cannot_be_are_refused(
    served: Served, uploaded: str, change: dict[str, object], status: int
) -> None:
    body = {"upload": uploaded, "clips": [{"start": 0, "end": 1}], "formats": ["mp4"], **change}
    assert served.ask("POST", "/api/orders", status, json=body)["error"]


def test_limits_of_uploads_and_what_is_asked_wrongly(served: Served) -> None:
    served.ask("POST", "/api/uploads", 413, json={"name": "x", "size": 1 << 50})
    served.ask("POST", "/api/uploads", 400, json={"name": "x", "size": 0})
    served.ask("POST", "/api/uploads", 415, content=b'{"name": "x", "size": 5}', headers={"content-type": "text/plain"})
    served.ask("POST", "/api/uploads", 413, content=b'"' + b"x" * 100_000, headers={"content-type": "application/json"})
    upload = served.ask("POST", "/api/uploads", 201, json={"name": "x", "size": 5})["id"]
    headers = {"content-type": "application/offset+octet-stream", "upload-offset": "0"}
    served.ask("PATCH", f"/api/uploads/{upload}", 413, content=b"more than five", headers=headers)
    served.ask("PATCH", f"/api/uploads/{upload}", 415, content=b"12345", headers={"upload-offset": "0"})
    served.ask("PATCH", f"/api/uploads/{upload}", 400, content=b"12345", headers={**headers, "upload-offset": "-1"})
    served.ask("GET", "/api/orders/cutmv_1_1/outputs/..%2f..%2fsecret", 404)
    assert RefusedError("x").status == 400


def test_every_answer_is_safe_and_nobody_listens_or_reports_uninvited(served: Served, uploaded: str) -> None:
    preview = f"/api/uploads/{uploaded}/previews/0.jpg"
    for path in ("/", "/static/cutmv.js", "/api/queue-status", "/api/metrics", "/nowhere", preview):
        headers = served.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'"), path
        assert "cache-control" in headers, path
    page = served.client.get("/").text
    assert not re.search(r"<script>|\son[a-z]+=|style=", page), "nothing inline"
    assert served.client.get(preview).headers["content-disposition"].startswith("attachment")
    served.ask("POST", "/api/queue-progress", 401, json={"order": "x", "generation": 1, "kind": "done"})
    served.ask("POST", "/api/queue-progress", 413, content=b"x" * 9_000)
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{served.port}/ws", origin=Origin("http://evil.example")).close()
