"""The dialect's statements, with the numbered parameters that asyncpg wants, and the words that begin a transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from conveyor.store.queries import load_statements

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z]\w*)")  # not the second colon of a cast
_WRITES: Final = re.compile(r"\b(INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b")


def _numbered(text: str) -> str:
    """`:name` becomes `$n`, counted by first appearance; a name that comes again is the same parameter."""
    order: dict[str, int] = {}
    return _PARAMETER.sub(lambda found: f"${order.setdefault(found[1], len(order) + 1)}", text)


_TEXTS: Final = load_statements("postgres")
SQL: Final[Mapping[str, str]] = MappingProxyType({name: _numbered(text) for name, text in _TEXTS.items()})
WRITES: Final = frozenset(name for name, text in SQL.items() if _WRITES.search(text))
"""Names of the statements after which a transaction has something to lose."""


def quoted(name: str) -> str:
    """An identifier as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def in_schema(name: str, schema: str) -> str:
    """A statement that names its schema, which no parameter can."""
    return _TEXTS[name].replace(":schema", quoted(schema))


_CALLS: Final = ("append_plain", "append_many", "claim_plain", "ack_plain", "ack_jobs")


def calls_in(schema: str) -> Mapping[str, str]:
    """Calls of the schema's own functions, each a transaction of its own."""
    return MappingProxyType({name: _numbered(in_schema(name, schema)) for name in _CALLS})


class UserStatement(NamedTuple):
    """A statement for connections of the user's: it names its schema, and is written in both ways of drivers."""

    numbered: str
    """With `$n`."""
    named: str
    """With `%(name)s`."""
    names: list[str]

    def order(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """As the numbers want them."""
        return tuple(values[name] for name in self.names)


_FROM_TX: Final = ("knows_outbox", "look_from_tx", "put_outbox", "depth_from_tx", "dedupe_from_tx", "ack_from_tx")


def user_statements(schema: str) -> dict[str, UserStatement]:
    """Those that run inside users' transactions, by name."""
    return {name: _for_user(_TEXTS[name], quoted(schema)) for name in _FROM_TX}


def _for_user(text: str, schema: str) -> UserStatement:
    names = [name for name in dict.fromkeys(_PARAMETER.findall(text)) if name != "schema"]

    def write(parameter: Callable[[str], str], where: str) -> str:
        return _PARAMETER.sub(lambda found: where if found[1] == "schema" else parameter(found[1]), text)

    return UserStatement(
        numbered=write(lambda name: f"${names.index(name) + 1}", schema),
        named=write(lambda name: f"%({name})s", schema.replace("%", "%%")),
        names=names,
    )


class Beginnings:
    """What opens a transaction in one schema: one round trip, nothing that outlives it."""

    def __init__(self, schema: str) -> None:
        begin = in_schema("begin", schema)
        self._scripts = {
            (relaxed, exclusive): ";\n".join(
                [
                    begin,
                    *([_TEXTS["relax"]] if relaxed else []),
                    _TEXTS["hold_catalog"] if exclusive else _TEXTS["share_catalog"],
                ]
            )
            for relaxed in (False, True)
            for exclusive in (False, True)
        }

    def script(self, *, relaxed: bool, exclusive: bool) -> str:
        return self._scripts[relaxed, exclusive]
