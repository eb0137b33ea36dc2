"""The document's log lines: a component, an action, and its fields, at a level.

    2026-11-22T12:00:00.000Z INFO [GENERATION] Started {"generationId": "gen_…", "userId": "u7", "attempt": 1}

With `CONVEYOR_LOG=json` each is one JSON object. Prompts, keys and bodies are never fields.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, Final

import msgspec

from . import clock

FIELD_CHARS_MAX: Final = 500

Write = Callable[[str], None]
_ABOUT: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039  # never changed, only replaced


class LogLevel(StrEnum):
    """The document's four."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


_RANK: Final = tuple(LogLevel)


class LogStyle(StrEnum):
    """For people, or for machines."""

    PRETTY = "pretty"
    JSON = "json"


class Component(StrEnum):
    """Who speaks."""

    QUEUE = "QUEUE"
    GENERATION = "GENERATION"
    PROVIDER = "PROVIDER"
    STORAGE = "STORAGE"
    WEBHOOK = "WEBHOOK"


class Logbook:
    """Writes lines."""

    def __init__(
        self, now_ms: Callable[[], int], *, style: LogStyle = LogStyle.PRETTY, least: LogLevel = LogLevel.INFO,
        write: Write | None = None,
    ) -> None:  # fmt: skip
        self._now_ms = now_ms
        self._is_json = style is LogStyle.JSON
        self._least = _RANK.index(least)
        self._write = write or _to_stderr

    def debug(self, component: Component, action: str, **fields: Any) -> None:
        """For whoever looks for a fault."""
        self._say(LogLevel.DEBUG, component, action, fields)

    def info(self, component: Component, action: str, **fields: Any) -> None:
        """It goes its way."""
        self._say(LogLevel.INFO, component, action, fields)

    def warning(self, component: Component, action: str, **fields: Any) -> None:
        """It failed, and will be tried again."""
        self._say(LogLevel.WARN, component, action, fields)

    def error(self, component: Component, action: str, **fields: Any) -> None:
        """It failed for good."""
        self._say(LogLevel.ERROR, component, action, fields)

    @contextlib.contextmanager
    def about(self, **fields: Any) -> Iterator[None]:
        """Until the end of the block, all that this task says has these fields too."""
        token = _ABOUT.set({**_ABOUT.get(), **fields})
        try:
            yield
        finally:
            _ABOUT.reset(token)

    def _say(self, level: LogLevel, component: Component, action: str, fields: Mapping[str, Any]) -> None:
        if _RANK.index(level) < self._least:
            return
        at = clock.iso(self._now_ms())
        shown = {name: _bounded(value) for name, value in {**_ABOUT.get(), **fields}.items() if value is not None}
        if self._is_json:
            line: dict[str, Any] = {
                "timestamp": at,
                "level": level.upper(),
                "component": component,
                "action": action,
                **shown,
            }
            self._write(msgspec.json.encode(line).decode())
        else:
            self._write(f"{at} {level.upper()} [{component}] {action} {msgspec.json.encode(shown).decode()}")


def _bounded(value: Any) -> Any:
    return value[:FIELD_CHARS_MAX] if isinstance(value, str) else value


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
