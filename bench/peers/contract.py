"""What the bench asks of a queue. A class with these names can be measured, yours too (`--peer module:Class`).

Each method may be `async def` or `def`. Where `send` is a coroutine function, 50 callers are 50 coroutines on one event
loop (uvloop where it is installed); else they are 50 threads, which share what `open` made.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

Answer = dict[str, Any]
Body = dict[str, object]
Note = Callable[[Any], None]

SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


class Peer(Protocol):
    """A queue, made without arguments, in a process of its own for each thing that is measured."""

    name: str
    store: str
    """`sqlite` or `postgres`: beside whom it is measured, and what its URL names."""
    drained: int
    """How many messages one drain is: what one worker process handles in two to five seconds."""
    ways: Mapping[str, Mapping[str, int]]
    """Settings of the worker worth trying, by the label that the report gives them. The best of them counts."""

    def open(self, url: str) -> Any:
        """Connect to `sqlite:////file` or `postgresql://…/database`; make its tables unless they are there."""

    def close(self) -> Any:
        """Leave nothing behind that keeps the process alive."""

    def facts(self) -> Any:
        """Of the open queue: `versions` by name, and `settings` in a few words, as the queue itself tells them."""

    def send(self, body: Body) -> Any:
        """Enqueue one message; return when it is as safe as this queue makes it."""

    def send_many(self, bodies: list[Body]) -> Any:
        """Enqueue them all by the fastest documented call."""

    def left(self) -> Any:
        """How many messages were sent and not yet acknowledged."""

    def work(self, url: str, note: Note, settings: Mapping[str, int]) -> Any:
        """One worker process: a handler that does nothing but `note(body["number"])`, called once for each message,
        until SIGTERM ends it in good order. Nothing was opened before."""


def find_peer(target: str) -> Peer:
    """A peer by `module:Class`."""
    module, _, name = target.partition(":")
    return cast("Peer", getattr(importlib.import_module(module), name)())


def file_of(url: str) -> str:
    """The path in `sqlite:////path`."""
    return urlsplit(url).path[1:]


def python_version() -> str:
    return platform.python_version()
