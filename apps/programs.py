"""Where other people's programs are that more than one app runs."""

import shutil
from collections.abc import Mapping


def find_ffmpeg(environment: Mapping[str, str]) -> str | None:
    """FFmpeg of the PATH, else the one that pip installed, else None."""
    return shutil.which("ffmpeg", path=environment.get("PATH")) or _of_wheel()


def _of_wheel() -> str | None:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped,unused-ignore]  # it has no types, where it is installed
    except ImportError:
        return None
    try:
        return str(get_ffmpeg_exe())
    except RuntimeError:
        return None
