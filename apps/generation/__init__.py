"""generation: video generation jobs on conveyor, dispatched in four ways, and webhooks that arrive. `python -m
conveyor_apps.generation` runs it."""

from typing import TYPE_CHECKING, Any

from .settings import Settings, read_settings
from .wiring import GenerationApp, build_generation, create_generation

if TYPE_CHECKING:
    from conveyor import Conveyor

    app: Conveyor

__all__ = ["GenerationApp", "Settings", "app", "build_generation", "create_generation", "read_settings"]


def __getattr__(name: str) -> Any:
    """`app` is made when a server or a worker asks for it: its settings need keys, which tests do not have."""
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = create_generation()
    return made
