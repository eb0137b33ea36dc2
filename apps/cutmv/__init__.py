"""Cutmv: clips, GIFs, sound and pictures from a video, with live progress. `python -m conveyor_apps.cutmv` runs it."""

from .settings import Settings, read_settings
from .wiring import Cutmv, build_cutmv, create_cutmv

__all__ = ["Cutmv", "Settings", "app", "build_cutmv", "create_cutmv", "read_settings"]

app = create_cutmv()
