"""Makes real short videos with FFmpeg: small, two seconds, in one of a few looks that the prompt decides; each once."""

import os
import subprocess
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from conveyor_apps.programs import find_ffmpeg

from .prose import digest
from .provider import Problem, ProblemError, Trouble

LOOKS: Final = (
    ("1f3b57", "e8a87c"), ("264653", "8ecae6"), ("3d405b", "f2cc8f"), ("2d4739", "b7d3a8"), ("4a3f6b", "e0aaff"),
    ("5c3a35", "f4b6a6"), ("20444f", "ffd6a5"), ("343a55", "a8b8ff"),
)  # fmt: skip
"""Two colours each."""
SECONDS_MAX: Final = 2
FRAMES_PER_S: Final = 12
RENDER_S_MAX: Final = 60


class Studio:
    """Renders on demand, from any thread."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._made: dict[tuple[int, str, int], bytes] = {}
        self._lock = threading.Lock()

    def render(self, prompt: str, *, size: str, seconds: int) -> bytes:
        """An MP4 of that size (`320x180`); of longer ones the first two seconds."""
        look, seconds = int(digest(self._seed, prompt), 16) % len(LOOKS), min(seconds, SECONDS_MAX)
        with self._lock:
            key = look, size, seconds
            if key not in self._made:
                self._made[key] = _render(look, size=size, seconds=seconds)
            return self._made[key]


def _render(look: int, *, size: str, seconds: int) -> bytes:
    ffmpeg = find_ffmpeg(os.environ)
    if ffmpeg is None:
        raise ProblemError(Problem(trouble=Trouble.FAILED, message="the sandbox has no FFmpeg: `apt install ffmpeg`"))
    first, second = LOOKS[look]
    source = (
        f"gradients=s={size}:r={FRAMES_PER_S}:d={seconds}:seed={look + 1}:speed=0.05"
        f":c0=0x{first}:c1=0x{second}:nb_colors=2"
    )
    with TemporaryDirectory(prefix="sandbox-studio-") as folder:
        made = Path(folder) / "video.mp4"
        command = [
            ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-threads", "1",
            "-f", "lavfi", "-i", source,
            "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(made),
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, timeout=RENDER_S_MAX, check=False)
        if ended.returncode != 0:
            raise ProblemError(Problem(trouble=Trouble.FAILED, message=f"FFmpeg: {ended.stderr.decode()[-200:]}"))
        return made.read_bytes()
