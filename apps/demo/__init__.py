"""`conveyor demo`: plotburn's day against the sandbox, twice, with the numbers checked. The wheel is all it needs."""

from .settings import DemoSettings
from .show import main

__all__ = ["DemoSettings", "main"]
