"""Says what an uploaded file is, by its content and never by its name; refuses what we do not take."""

import re
from pathlib import Path
from typing import Final

import msgspec

from .child import Limits, run_child
from .errors import MediaError
from .ffmpeg import PIXELS_MAX, Tools, input_options
from .words import Media

DURATION_S_MAX: Final = 4 * 3_600.0
FPS_MAX: Final = 240.0
FRAMES_MAX: Final = 2_000_000
LIMITS: Final = Limits(memory_bytes=1 << 30, cpu_s=30, file_bytes=0, wall_s=60.0)
UNREADABLE: Final = "This is not a video or sound file that we can read (MP4, MOV, MKV, WebM, AVI, MP3, WAV, ...)."


class _Stream(msgspec.Struct, kw_only=True):
    index: int
    codec_type: str = ""
    codec_name: str = ""
    width: int = 0
    height: int = 0
    avg_frame_rate: str = "0/0"
    r_frame_rate: str = "0/0"
    nb_frames: str = "0"
    duration: str = ""
    disposition: dict[str, int] = msgspec.field(default_factory=dict)


class _Format(msgspec.Struct, kw_only=True):
    format_name: str = ""
    duration: str = ""


class _Probed(msgspec.Struct, kw_only=True):
    streams: list[_Stream] = msgspec.field(default_factory=list)
    format: _Format = msgspec.field(default_factory=_Format)


async def probe(tools: Tools, source: Path) -> Media:
    """What the file holds. `MediaError` in plain words."""
    try:
        probed = await (_ask_ffprobe(tools.ffprobe, source) if tools.ffprobe else _ask_ffmpeg(tools.ffmpeg, source))
    except MediaError as error:
        raise MediaError(UNREADABLE) from error
    return _read(probed)


async def _ask_ffprobe(ffprobe: str, source: Path) -> _Probed:
    shown = "stream=index,codec_type,codec_name,width,height,avg_frame_rate,r_frame_rate,nb_frames,duration"
    argv = [
        ffprobe, "-v", "error", "-of", "json", "-show_entries",
        f"format=format_name,duration:{shown}:stream_disposition=attached_pic", *input_options(source),
    ]  # fmt: skip
    printed, _, _ = (await run_child(argv, limits=LIMITS, folder=source.parent)).partition("\0")
    try:
        return msgspec.json.decode(printed, type=_Probed)
    except msgspec.MsgspecError as error:
        raise MediaError(UNREADABLE) from error


_INPUT: Final = re.compile(r"^Input #0, (\S+), from ", re.MULTILINE)
_DURATION: Final = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_STREAM: Final = re.compile(r"^  Stream #0:(\d+)\S*: (Video|Audio): (\w+)(.*)$", re.MULTILINE)
_SIZE: Final = re.compile(r", (\d{1,9})x(\d{1,9})")
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(k?) (?:fps|tbr)")


async def _ask_ffmpeg(ffmpeg: str, source: Path) -> _Probed:
    """What FFmpeg says of its input, where it came without ffprobe; the copy of one moment makes it end well."""
    argv = [ffmpeg, "-hide_banner", "-nostdin", *input_options(source), "-t", "0.001", "-c", "copy", "-f", "null", "-"]
    said = (await run_child(argv, limits=LIMITS, folder=source.parent)).partition("\0")[2]
    said = said.partition("Output #0")[0]
    container, lasts = _INPUT.search(said), _DURATION.search(said)
    if container is None:
        raise MediaError(UNREADABLE)
    seconds = int(lasts[1]) * 3_600 + int(lasts[2]) * 60 + float(lasts[3]) if lasts else 0.0
    streams = []
    for index, kind, codec, rest in _STREAM.findall(said):
        size, rate = _SIZE.search(rest), _RATE.search(rest)
        streams.append(
            _Stream(
                index=int(index), codec_type=kind.lower(), codec_name=codec,
                width=int(size[1]) if size else 0, height=int(size[2]) if size else 0,
                avg_frame_rate=f"{round(float(rate[1]) * (1_000 if rate[2] else 1) * 1_000)}/1000" if rate else "0/0",
                disposition={"attached_pic": int("(attached pic)" in rest)},
            )
        )  # fmt: skip
    return _Probed(streams=streams, format=_Format(format_name=container[1], duration=str(seconds)))


def _read(probed: _Probed) -> Media:
    known = [each for each in probed.streams if each.codec_name not in ("", "none", "unknown")]
    # The picture on an album is none that moves.
    pictures = (each for each in known if each.codec_type == "video" and not each.disposition.get("attached_pic"))
    sounds = (each for each in known if each.codec_type == "audio")
    video, audio = next(pictures, None), next(sounds, None)
    if video is None and audio is None:
        raise MediaError("This file has neither picture nor sound.")
    duration = _number(probed.format.duration) or max((_number(each.duration) for each in probed.streams), default=0.0)
    if not duration > 0:
        raise MediaError("This file does not say how long it is, or holds a single picture.")
    if duration > DURATION_S_MAX:
        raise MediaError(f"This video is longer than {DURATION_S_MAX / 3_600:g} hours.")
    media = Media(
        container=probed.format.format_name[:100], duration_s=round(duration, 6), audio=audio.index if audio else None
    )
    return media if video is None else _with_picture(media, video)


def _with_picture(media: Media, video: _Stream) -> Media:
    if not (video.width >= 2 and video.height >= 2):
        raise MediaError("The picture of this video has no size.")
    if video.width * video.height > PIXELS_MAX or max(video.width, video.height) > 8_192:
        raise MediaError(f"The picture is {video.width} by {video.height}: larger than 4K.")
    fps = _rate(video.avg_frame_rate) or _rate(video.r_frame_rate)
    frames = max(_number(video.nb_frames), fps * media.duration_s)
    if fps > FPS_MAX or frames > FRAMES_MAX:
        raise MediaError("This video has more pictures than we take.")
    facts = {"video": video.index, "width": video.width, "height": video.height, "fps": round(fps, 4)}
    return msgspec.structs.replace(media, **facts)


def _number(text: str) -> float:
    """Zero for what is none."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if 0 <= number < 1e12 else 0.0


def _rate(text: str) -> float:
    over, _, under = text.partition("/")
    return _number(over) / _number(under or "1") if _number(under or "1") else 0.0
