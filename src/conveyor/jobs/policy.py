"""What follows an error: another attempt after some time, or none."""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import DELAY_MS_MAX
from conveyor.model.verdict import Backoff

Delay: TypeAlias = Callable[[int, Exception], Duration | None]
"""From the number of the failed attempt, from 1, and its error to the delay before the next; None: there is none."""
Rule: TypeAlias = Backoff | Duration | Delay | None
"""What follows an error. None: it is permanent."""

USUAL: Final = Backoff.exponential("2s", most="1h")
_NUMBERS: Final = re.compile(r"0x[0-9a-fA-F]+|\d+")
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")


class RetryPolicy:
    """A job's rule for errors, and others for classes of them; the nearest class counts."""

    def __init__(self, usual: Rule, by_class: Mapping[type[BaseException], Rule]) -> None:
        self.usual = _read_rule("backoff", usual)
        self._by_class: dict[type[BaseException], Backoff | Delay | None] = {}
        for kind, rule in by_class.items():
            if not isinstance(kind, type) or not issubclass(kind, BaseException):
                raise InvalidSettingError("errors", kind, "is no class of exceptions")
            self._by_class[kind] = _read_rule(f"errors[{kind.__qualname__}]", rule)

    def delay_ms(self, attempt: int, error: Exception, chance: float) -> int | None:
        """Before the next attempt; None: the error is permanent."""
        rule = self.usual
        for kind in type(error).__mro__:
            if kind in self._by_class:
                rule = self._by_class[kind]
                break
        if rule is None:
            return None
        if isinstance(rule, Backoff):
            return rule.delay_ms(max(1, attempt), chance)
        delay = rule(max(1, attempt), error)
        return None if delay is None else read_duration_ms(delay, name="delay", most_ms=DELAY_MS_MAX)

    @property
    def backoff(self) -> Backoff:
        """After an end that raised nothing that could be judged: a timeout, a death."""
        return self.usual if isinstance(self.usual, Backoff) else USUAL


def _read_rule(name: str, rule: Rule) -> Backoff | Delay | None:
    if rule is None or isinstance(rule, Backoff):
        return rule
    if callable(rule):
        return rule
    return Backoff(base_ms=read_duration_ms(rule, name=name, most_ms=DELAY_MS_MAX))


def fingerprint(error: BaseException) -> str:
    """The same for errors of one kind, raised in the same function: numbers and quoted words do not count."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].name}" if frames else ""
    return mark(type(error).__qualname__, where, _words(error))


def mark(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=6).hexdigest()


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # a user's exception may fail to describe itself
        return ""
    return _NUMBERS.sub("#", _QUOTED.sub("'…'", text))[:200]
