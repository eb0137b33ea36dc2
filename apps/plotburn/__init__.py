"""Plotburn: every day, a roast for each movie in the cinemas. `conveyor serve conveyor_apps.plotburn:app` runs it."""

from .settings import Settings, read_settings
from .wiring import Plotburn, build_plotburn, create_plotburn

__all__ = ["Plotburn", "Settings", "app", "build_plotburn", "create_plotburn", "read_settings"]

app = create_plotburn()
