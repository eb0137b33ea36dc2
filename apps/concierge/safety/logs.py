"""Log lines: JSON, one for each thing that operators want to follow, without the words of others.

`Lines` takes the place of the handlers of Python's `logging`: of a library's record it shows who logs, how loud and
where, and of its error the kind and place. A library's own text is left out: it may quote what it was given.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import TracebackType
from typing import IO, Any, Final

import msgspec

from conveyor import ConveyorError
from conveyor_apps.concierge import clock

from .redaction import safe_error, safe_facts

OURS: Final = "concierge"
_LEVELS: Final[Mapping[int, str]] = {
    logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error",
    logging.CRITICAL: "error",
}  # fmt: skip


class Lines(logging.Handler):
    """Writes them."""

    def __init__(self, out: Callable[[], IO[str]] = lambda: sys.stderr) -> None:
        super().__init__(logging.INFO)
        self._out = out

    def say(self, event: str, facts: Mapping[str, object], level: str = "info") -> None:
        """One line; facts that may not be said are left out. Names of events are ours, and no words of messages."""
        self._write({"event": event, "level": level, **safe_facts(facts)})

    def warn(self, event: str, words: str) -> None:
        """One for people, in words of ours that hold nothing of messages."""
        self._write({"event": event, "level": "warning", "hint": words})

    def emit(self, record: logging.LogRecord) -> None:
        """One that somebody else logged."""
        error = record.exc_info[1] if record.exc_info else None
        level = _LEVELS.get(record.levelno, "info")
        self._write({
            "event": "log", "level": level, "logger": record.name, "place": f"{record.filename}:{record.lineno}",
            **({} if error is None else {"error": safe_error(error)}),
        })  # fmt: skip

    def crash(self, kind: str, error: BaseException | None) -> None:
        """Something that nobody caught."""
        self._write({"event": kind, "level": "error", "error": "" if error is None else safe_error(error)})

    def _write(self, facts: Mapping[str, object]) -> None:
        line = msgspec.json.encode({"timestamp": clock.iso(clock.now_ms()), **facts}).decode()
        try:
            print(line, file=self._out(), flush=True)
        except (OSError, ValueError):  # whoever read this is gone; the work goes on
            return


class Hooks:
    """Lets a process say what it says by `Lines` alone, until it is undone: loggers, crashes of the process and of its
    threads, and what is raised where nobody can catch it."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        root = logging.getLogger()
        self._former: tuple[Any, ...] = (
            root.handlers[:], root.level, warnings.showwarning, sys.excepthook, threading.excepthook,
            sys.unraisablehook,
        )  # fmt: skip
        root.handlers = [lines]
        root.setLevel(logging.WARNING)
        warnings.showwarning = self._warn  # type: ignore[assignment]  # it takes what it needs of the arguments
        sys.excepthook = self._crash
        threading.excepthook = lambda given: lines.crash("thread.crashed", given.exc_value)
        sys.unraisablehook = lambda given: lines.crash("unraisable", given.exc_value)

    def _crash(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, (KeyboardInterrupt, ConveyorError)):
            self._former[3](kind, error, trace)
        else:
            self._lines.crash("process.crashed", error)

    def _warn(self, message: Warning | str, kind: type[Warning], filename: str, lineno: int, *_: object) -> None:
        self._lines.say("warning", {"type": kind.__name__, "place": f"{PurePath(filename).name}:{lineno}"}, "warning")

    def undo(self) -> None:
        """As it was."""
        root = logging.getLogger()
        (
            root.handlers, level, warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook,
        ) = self._former  # fmt: skip
        root.setLevel(level)
