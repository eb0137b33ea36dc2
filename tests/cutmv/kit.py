"""A running cutmv for tests: the server with its workers as processes, media made by the real FFmpeg, and a client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2
import msgspec

from conveyor_apps.cutmv.ffmpeg import find_tools
from conveyor_apps.cutmv.probe import probe
from conveyor_apps.cutmv.words import Media
from kit.postgres import free_port

TOOLS = find_tools(os.environ)
WAIT_S = 90.0


def make_media(target: Path, *, seconds: float = 60, size: str = "320x180", rate: int = 25, sound: bool = True) -> Path:
    """A test picture with a running clock, and a tone."""
    sources = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]
    if sound:
        sources += ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    argv = [TOOLS.ffmpeg, "-v", "error", "-nostdin", "-y", *sources, *coding, "-shortest", str(target)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=120)
    return target


def look(path: Path) -> Media:
    """What a file is, by its content."""
    return asyncio.run(probe(TOOLS, path))


def wait_until(check: Callable[[], Any], *, seconds: float = WAIT_S, every: float = 0.05) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {check}"
        time.sleep(every)


def children_of(pid: int) -> list[tuple[int, str]]:
    """The direct children of a process, with their command lines."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [(int(row[0]), row[2]) for row in rows if len(row) == 3 and int(row[1]) == pid]


class Served:
    """A server and its workers, in a folder of their own."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = ("conveyor_apps.cutmv",),
        **settings: str,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = command
        folder.mkdir(parents=True, exist_ok=True)
        plain = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("CUTMV_", "CLOUDFLARE_", "CONVEYOR_"))
        }
        self.environment: Mapping[str, str] = {
            **plain, "CONVEYOR_URL": f"sqlite:///{folder}/conveyor.db", "CONVEYOR_PORT": str(self.port),
            "CUTMV_DATA": "data", "CONVEYOR_TOKEN": "test-token-" + "0" * 32,
            "CUTMV_FFMPEG": TOOLS.ffmpeg, **settings,
        }  # fmt: skip
        self.client = httpx2.Client(base_url=self.url, timeout=30, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Self:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(self.environment), cwd=self.folder,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self._is_ready)
        return self

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-3_000:]
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx2.HTTPError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        if how is signal.SIGKILL:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def workers(self) -> list[int]:
        return [pid for pid, line in children_of(self.pid) if "conveyor.supervisor.worker" in line]

    def encoders(self, worker: int) -> list[int]:
        return [pid for pid, line in children_of(worker) if "-progress" in line]

    # As a browser does

    def upload(self, path: Path, *, name: str | None = None, part: int = 1 << 20) -> dict[str, Any]:
        """Until it is examined."""
        upload = self.begin(path, name=name)
        for offset in range(0, path.stat().st_size, part):
            self.send_part(upload["id"], path.read_bytes()[offset : offset + part], offset)
        return self.examined(upload["id"])

    def begin(self, path: Path, *, name: str | None = None) -> dict[str, Any]:
        given = {"name": name or path.name, "size": path.stat().st_size}
        return self.ask("POST", "/api/uploads", 201, json=given)

    def send_part(self, upload: str, body: bytes, offset: int) -> dict[str, Any]:
        headers = {"content-type": "application/offset+octet-stream", "upload-offset": str(offset)}
        return self.ask("PATCH", f"/api/uploads/{upload}", 200, content=body, headers=headers)

    def examined(self, upload: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.ask("GET", f"/api/uploads/{upload}", 200)
            return found if found["state"] in ("ready", "refused") else None

        return dict(wait_until(look))

    def order(
        self, upload: str, clips: Sequence[tuple[float, float]], formats: Sequence[str], **wish: str
    ) -> dict[str, Any]:
        body = {"upload": upload, "clips": [{"start": a, "end": b} for a, b in clips], "formats": formats, **wish}
        return self.ask("POST", "/api/orders", 201, json=body)

    def view(self, order: str) -> dict[str, Any]:
        return self.ask("GET", f"/api/orders/{order}", 200)

    def ended(self, order: str, *, seconds: float = WAIT_S) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.view(order)
            return found if found["state"] in ("succeeded", "failed", "cancelled") else None

        return dict(wait_until(look, seconds=seconds, every=0.2))

    def download(self, order: str, name: str, folder: Path) -> Path:
        response = self.client.get(f"/api/orders/{order}/outputs/{name}")
        assert response.status_code == 200, response.text
        assert response.headers["content-disposition"].startswith("attachment")
        target = folder / name
        target.write_bytes(response.content)
        return target

    def ask(self, method: str, path: str, status: int, **given: Any) -> dict[str, Any]:
        response = self.client.request(method, path, **given)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return msgspec.json.decode(response.content, type=dict[str, Any])


def size_of(path: Path) -> int:
    """In bytes."""
    return path.stat().st_size


def leftovers(data: Path) -> list[str]:
    """What lies in the folders of work."""
    work = data / "work"
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError):  # what goes while it is looked at
            return [str(each) for each in work.rglob("*")] if work.exists() else []
    raise AssertionError("it is never still")


def seconds_of(path: Path) -> float:
    """How long the picture is, by its own stream where ffprobe is here to say so."""
    ffprobe = TOOLS.ffprobe or shutil.which("ffprobe")
    if ffprobe is None:
        return look(path).duration_s
    argv = [
        ffprobe,
        "-v",
        "error",
        "-of",
        "json",
        "-show_entries",
        "stream=codec_type,duration:format=duration",
        str(path),
    ]
    printed = subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout
    probed = msgspec.json.decode(printed)
    streams = [each for each in probed["streams"] if each["codec_type"] == "video" and "duration" in each]
    return float((streams or [probed["format"]])[0]["duration"])
