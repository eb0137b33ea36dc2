"""The document's log lines: a component, an action, and its fields, at a level.

    2026-11-22T12:00:00.000Z INFO [GENERATION] Started {"generationId": "gen_…", "userId": "u7", "attempt": 1}

With `CONVEYOR_LOG=json` each is one JSON object. Prompts, keys and bodies are never fields.
"""

import os
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from . import clock

FIELD_CHARS_MAX: Final = 500

Write = Callable[[str], None]


class Level(StrEnum):
    """The document's four."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


_RANK: Final = tuple(Level)


class Component(StrEnum):
    """Who speaks."""

    QUEUE = "QUEUE"
    GENERATION = "GENERATION"
    PROVIDER = "PROVIDER"
    STORAGE = "STORAGE"
    WEBHOOK = "WEBHOOK"


class Logbook:
    """Writes lines. `stopwatch()` gives the seconds that durations are taken from."""

    def __init__(
        self, now_ms: Callable[[], int], *, style: str = "pretty", least: Level = Level.INFO, write: Write | None = None
    ) -> None:
        self._now_ms = now_ms
        self._is_json = style == "json"
        self._least = _RANK.index(least)
        self._write = write or _to_stderr

    def debug(self, component: Component, action: str, **fields: Any) -> None:
        """For whoever looks for a fault."""
        self._say(Level.DEBUG, component, action, fields)

    def info(self, component: Component, action: str, **fields: Any) -> None:
        """It goes its way."""
        self._say(Level.INFO, component, action, fields)

    def warn(self, component: Component, action: str, **fields: Any) -> None:
        """It failed, and will be tried again."""
        self._say(Level.WARN, component, action, fields)

    def error(self, component: Component, action: str, **fields: Any) -> None:
        """It failed for good."""
        self._say(Level.ERROR, component, action, fields)

    def _say(self, level: Level, component: Component, action: str, fields: Mapping[str, Any]) -> None:
        if _RANK.index(level) < self._least:
            return
        at = clock.iso(self._now_ms())
        shown = {name: _bounded(value) for name, value in fields.items() if value is not None}
        if self._is_json:
            line: dict[str, Any] = {"timestamp": at, "level": level, "component": component, "action": action, **shown}
            self._write(msgspec.json.encode(line).decode())
        else:
            self._write(f"{at} {level} [{component}] {action} {msgspec.json.encode(shown).decode()}")


def _bounded(value: Any) -> Any:
    return value[:FIELD_CHARS_MAX] if isinstance(value, str) else value


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def make_logbook(
    now_ms: Callable[[], int], environment: Mapping[str, str] = os.environ, *, write: Write | None = None
) -> Logbook:
    """As the environment says: `CONVEYOR_LOG` the style, `GENERATION_LOG_LEVEL` the least level."""
    level = environment.get("GENERATION_LOG_LEVEL", "").strip().upper()
    least = Level(level) if level in list(Level) else Level.INFO
    return Logbook(now_ms, style=environment.get("CONVEYOR_LOG", ""), least=least, write=write)
