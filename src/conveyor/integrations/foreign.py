"""What tasks of other frameworks have in common here: a call as a payload, moments far ahead, and errors as objects."""

from __future__ import annotations

import builtins
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.verdict import Snooze

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]{0,61}[A-Za-z0-9])?")
_NAME_CHARS_MAX: Final = 63


class Call(msgspec.Struct, omit_defaults=True):
    """What a function is called with; JSON values."""

    args: list[Any]
    kwargs: dict[str, Any]
    not_before: int | None = None
    """A moment in milliseconds that lies further ahead than a message may be delayed."""


def job_name_of(path: str) -> str:
    """A task's dotted path as the name of a job, which is shorter: a long one keeps its end and a mark."""
    if _NAME.fullmatch(path):
        return path
    mark = hashlib.blake2b(path.encode(), digest_size=4).hexdigest()
    end = re.sub(r"[^A-Za-z0-9_.:-]", "-", path)[-(_NAME_CHARS_MAX - len(mark) - 1) :]
    return f"{mark}.{end.strip('_.:-') or 'task'}"


def split_delay(due_ms: int | None, now_ms: int) -> tuple[float | None, int | None]:
    """The seconds by which the message is delayed, and what its `Call` says of the rest."""
    if due_ms is None or due_ms <= now_ms:
        return None, None
    wait_ms = due_ms - now_ms
    return min(wait_ms, DELAY_MS_MAX) / 1000, due_ms if wait_ms > DELAY_MS_MAX else None


def check_due(call: Call, now_ms: int) -> None:
    """`Snooze` while its moment is not there yet."""
    if call.not_before is not None and call.not_before > now_ms:
        raise Snooze(min(call.not_before - now_ms, DELAY_MS_MAX) / 1000, reason="its moment is not there yet")


def find_error_class(name: str, near: Mapping[str, Any]) -> type[BaseException] | None:
    """The exception of that name: one that the task's module knows, a builtin, or any that this process has loaded."""
    for known in (near.get(name), getattr(builtins, name, None)):
        if isinstance(known, type) and issubclass(known, BaseException):
            return known
    return next((each for each in _all_errors(Exception) if each.__name__ == name), None)


def read_error(line: str, near: Mapping[str, Any]) -> BaseException:
    """An error from the line that the store keeps of it, `ValueError: too small`; a class of that name stands in for
    one that this process does not know."""
    name, _, text = line.partition(": ")
    if not name.isidentifier():
        name, text = "Exception", line
    kind: type[BaseException] = find_error_class(name, near) or type(name, (Exception,), {})
    error = kind.__new__(kind)  # without its `__init__`, which may want more than words
    error.args = (text,) if text else ()
    return error


def _all_errors(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for each in kind.__subclasses__():
        yield each
        yield from _all_errors(each)
