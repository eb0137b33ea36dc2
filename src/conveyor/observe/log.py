"""Events as log lines: for people (`CONVEYOR_LOG=pretty`) or for machines (`json`), on stderr. Bodies are never
logged."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from conveyor.model.errors import InvalidSettingError
from conveyor.model.events import Emit, Event

if TYPE_CHECKING:
    from structlog.typing import Processor

_WARNINGS: Final = (
    "failed", "died", "lost", "overdue", "dead_lettered", "delayed", "raised", "ignored", "stray", "crowded", "refused", "troubled"
)
_FIELD_CHARS_MAX: Final = 2_000
_ITEMS_MAX: Final = 20


def make_log_sink(style: str | None = None) -> Emit:
    """A sink that writes one line per event. `InvalidSettingError` if the style is not known."""
    chosen = style or os.environ.get("CONVEYOR_LOG") or "pretty"
    if chosen not in ("pretty", "json"):
        raise InvalidSettingError("CONVEYOR_LOG", chosen, "is not known", hint="`pretty` or `json`")
    return _Sink(chosen)


class _Sink:
    """Makes its logger at the first event: a worker that has nothing to say need not import one."""

    def __init__(self, style: str) -> None:
        self._style = style
        self._log: object | None = None

    def __call__(self, event: Event) -> None:
        import structlog

        if self._log is None:
            self._log = structlog.wrap_logger(
                structlog.WriteLogger(sys.stderr), processors=_processors(self._style)
            )
        facts = {key: _bounded(value) for key, value in msgspec.structs.asdict(event).items()}
        is_warning = event.name.rsplit(".", 1)[-1] in _WARNINGS
        with contextlib.suppress(OSError, ValueError):  # whoever read this is gone; the work goes on
            getattr(self._log, "warning" if is_warning else "info")(event.name, **facts)


def _processors(style: str) -> list[Processor]:
    import structlog

    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "json":
        return [*shared, structlog.processors.JSONRenderer()]
    return [*shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _bounded(value: object) -> object:
    """No field, however it came about, fills the log or starts a line of its own."""
    if isinstance(value, tuple) and len(value) > _ITEMS_MAX:
        return (*value[:_ITEMS_MAX], f"and {len(value) - _ITEMS_MAX:,} more")
    if not isinstance(value, str):
        return value
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in value[:_FIELD_CHARS_MAX])
    return shown if len(value) <= _FIELD_CHARS_MAX else shown + "..."
