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

LOOKS: Final = 8
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
        look, seconds = int(digest(self._seed, prompt), 16) % LOOKS, min(seconds, SECONDS_MAX)
        with self._lock:
            key = look, size, seconds
            if key not in self._made:
                self._made[key] = _render(look, size=size, seconds=seconds)
            return self._made[key]


def _render(look: int, *, size: str, seconds: int) -> bytes:
    ffmpeg = find_ffmpeg(os.environ)
    if ffmpeg is None:
        raise ProblemError(Problem(trouble=Trouble.FAILED, message="the sandbox has no FFmpeg: `apt install ffmpeg`"))
    colours = digest("look", look)
    source = (
        f"gradients=s={size}:r={FRAMES_PER_S}:d={seconds}:seed={look + 1}:speed=0.05"
        f":c0=0x{colours[:6]}:c1=0x{colours[6:12]}:nb_colors=2"
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
