"""Where FFmpeg is, and the part of every command line that keeps it to one local file of a kind we know."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conveyor_apps.programs import find_ffmpeg

from .errors import SettingError

DEMUXERS: Final = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "gif", "mp3", "wav", "flac", "aac", "m4v",
)  # fmt: skip
"""None of these opens another file or an address because its content says so."""
PIXELS_MAX: Final = 4_096 * 2_304
HINT: Final = (
    "FFmpeg is not here: `pip install 'conveyor[cutmv]'` brings one, or `apt install ffmpeg`, `brew install ffmpeg`; "
    "`CUTMV_FFMPEG` names another"
)


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs."""

    ffmpeg: str
    ffprobe: str | None
    """None: FFmpeg came alone, as in a wheel; it is asked itself."""


def find_tools(environment: Mapping[str, str]) -> Tools:
    """`CUTMV_FFMPEG`, else the PATH, else the one that pip installed. `SettingError` names the command that helps."""
    named = environment.get("CUTMV_FFMPEG", "").strip()
    found = shutil.which(named, path=environment.get("PATH")) if named else find_ffmpeg(environment)
    if found is None and named:
        raise SettingError(f"environment: `CUTMV_FFMPEG` is `{named}`, and that cannot be run. {HINT}")
    if found is None:
        raise SettingError(HINT)
    beside = shutil.which("ffprobe", path=str(Path(found).parent))
    return Tools(str(Path(found).resolve()), beside)


def input_options(source: Path, *, demuxers: tuple[str, ...] = DEMUXERS) -> list[str]:
    """The input: a file that we named, by the demuxers that are allowed, and no other protocol."""
    return [
        "-protocol_whitelist", "file", "-format_whitelist", ",".join(demuxers), "-max_pixels", str(PIXELS_MAX),
        "-i", f"file:{source}",
    ]  # fmt: skip


def ffmpeg_options() -> list[str]:
    """What stands at the front of every FFmpeg command line."""
    return [
        "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-threads", "2", "-filter_threads", "2",
        "-progress", "pipe:1", "-stats_period", "0.25",
    ]  # fmt: skip
