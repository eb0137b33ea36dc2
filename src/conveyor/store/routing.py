"""Which stores there are, and in which of them a queue lives: the table that settings give, checked."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from conveyor.model.errors import InvalidSettingError
from conveyor.model.settings import ConsumerSettings, check_name

HOME: Final = "home"
"""The store of kv, and of every queue that no route names."""
DEAD_LETTERS: Final = "-dlq"
"""A queue of this ending lies where the queue without it does, so that a death is one transaction."""
PLACES: Final = 2**14
"""Numbers for stores; see `routed.numbers`."""

_PATTERN: Final = re.compile(r"[a-zA-Z0-9_.:*?-]{1,63}")


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """The home store, other stores by name, and routes: patterns of queue names to names of stores, the first match
    wins."""

    url: str
    stores: Mapping[str, str] = {}
    routes: Mapping[str, str] = {}

    def check(self) -> None:
        """`InvalidSettingError`."""
        for name, url in self.stores.items():
            check_name("stores", name)
            if name == HOME:
                raise InvalidSettingError("stores", name, "is the store of `url`", hint="give this one another name")
            if not isinstance(url, str):
                raise InvalidSettingError(f"stores.{name}", url, "is no URL")
        self._check_places()
        for pattern, name in self.routes.items():
            self._check_route(pattern, name)

    def _check_places(self) -> None:
        taken: dict[int, str] = {}
        for name in self.stores:
            other = taken.setdefault(place_of(name), name)
            if other != name:
                problem = f"has the same number as `{other}`"
                raise InvalidSettingError("stores", name, problem, hint="rename one of them")

    def _check_route(self, pattern: str, name: str) -> None:
        if _PATTERN.fullmatch(pattern) is None:
            raise InvalidSettingError("routes", pattern, "is no pattern", hint="a queue's name, or part of it and `*`")
        if pattern.endswith(DEAD_LETTERS):
            queue = pattern.removesuffix(DEAD_LETTERS)
            raise InvalidSettingError(
                "routes", pattern, "dead letters lie in the store of their queue", hint=f"route `{queue}` instead"
            )
        if name != HOME and name not in self.stores:
            known = ", ".join([HOME, *self.stores])
            raise InvalidSettingError("routes", name, f"no store has this name: there is {known}")

    def store_of(self, queue: str) -> str:
        """The name of the store in which a queue lives."""
        while queue.endswith(DEAD_LETTERS):
            queue = queue.removesuffix(DEAD_LETTERS)
        return next((name for pattern, name in self.routes.items() if fnmatchcase(queue, pattern)), HOME)

    def check_consumer(self, queue: str, settings: ConsumerSettings) -> None:
        """`InvalidSettingError` if a death would need two stores in one transaction."""
        home = self.store_of(queue)
        for what, other in (("dead_letter_queue", settings.dead_letter_queue), ("alert_queue", settings.alert_queue)):
            if other is None or self.store_of(other) == home:
                continue
            raise InvalidSettingError(
                what,
                other,
                f"it lives in store `{self.store_of(other)}`, and queue `{queue}` in `{home}`",
                hint=f'add the route "{_without_ending(other)}" = "{home}" before those it has',
            )

    def check_rename(self, queue: str, new: str) -> None:
        """`InvalidSettingError` if the new name leads to another store: a rename carries no messages."""
        home, other = self.store_of(queue), self.store_of(new)
        if home != other:
            problem = f"a queue of this name lives in store `{other}`, and `{queue}` in `{home}`"
            hint = f'add the route "{_without_ending(new)}" = "{home}" before those it has'
            raise InvalidSettingError("queue", new, problem, hint=hint)

    @property
    def is_in_memory(self) -> bool:
        """One of them cannot be opened twice."""
        return any(url.startswith("memory:") for url in self.urls.values())

    @property
    def urls(self) -> Mapping[str, str]:
        """All stores, the home store first."""
        return {HOME: self.url, **self.stores}


def place_of(name: str) -> int:
    """A store's number, made of its name: the same in every process, whatever else the table says. The home store's
    is 0."""
    return 0 if name == HOME else zlib.crc32(name.encode()) % (PLACES - 1) + 1


def _without_ending(queue: str) -> str:
    return queue.removesuffix(DEAD_LETTERS)
