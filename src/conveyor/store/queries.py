"""Reads the named statements of a dialect from its `.sql` files, once, at import of that store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_statements(dialect: str) -> Mapping[str, str]:
    """Statement text by name, without its comments; a name that stands twice is an error."""
    statements: dict[str, str] = {}
    for path in sorted(files("conveyor.store").joinpath("sql", dialect).iterdir(), key=lambda entry: entry.name):
        if path.name.endswith(".sql"):
            for name, text in _split(path.read_text(encoding="utf-8")):
                if name in statements:
                    raise ValueError(f"statement `{name}` stands twice in dialect `{dialect}`")
                statements[name] = text
    return MappingProxyType(statements)


def load_migrations(dialect: str) -> list[tuple[int, str, str]]:
    """(number, name, text) of every migration, in order."""
    folder = files("conveyor.store").joinpath("sql", dialect, "migrations")
    found = [(path.name, path.read_text(encoding="utf-8")) for path in folder.iterdir() if path.name.endswith(".sql")]
    return sorted((int(name[:4]), name.removesuffix(".sql"), text) for name, text in found)


def _split(text: str) -> list[tuple[str, str]]:
    parts = _NAME.split(text)[1:]
    return [(name, _without_comments(body)) for name, body in zip(parts[::2], parts[1::2], strict=True)]


def _without_comments(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip().rstrip(";")
