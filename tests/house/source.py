"""The repository's own Python files, read once for all house tests."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "conveyor"
APPS = ROOT / "apps"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def modules() -> dict[str, ast.Module]:
    """What ships, by its path from the root."""
    paths = [*SRC.rglob("*.py"), *APPS.rglob("*.py")]
    return {shown(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(path: str) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def functions(module: ast.Module, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function with its dotted name, nested ones too."""
    yield from _functions(module, prefix)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def imported(module: ast.Module) -> set[str]:
    """The first part of every absolute import, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found
