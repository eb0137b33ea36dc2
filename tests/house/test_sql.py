"""SQL stands in `.sql` files, is all used, and is never put together from pieces."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from conveyor.store.queries import load_statements
from house.source import SRC, imported, modules

DIALECTS = sorted(path.name for path in (SRC / "store" / "sql").iterdir() if path.is_dir())
# Runs its schema, one file, between BEGIN and COMMIT.
PUTS_TOGETHER = {"apps/plotburn/database.py"}
VERBS = ("row", "rows", "run", "run_many")
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|DROP|ALTER|REPLACE)\b[^`]*\s", re.IGNORECASE)

# These speak before there is a schema to have statements of.
SPEAKS_SQL = {"src/conveyor/store/sqlite/opening.py"}


def _store_modules(dialect: str) -> list[ast.Module]:
    prefix = f"src/conveyor/store/{dialect}/"
    return [module for path, module in modules().items() if path.startswith(prefix)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_is_used(dialect: str) -> None:
    spoken = {
        node.value
        for module in _store_modules(dialect)
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not load_statements(dialect).keys() - spoken


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_used_statement_is_there(dialect: str) -> None:
    used = {name for module in _store_modules(dialect) for name in _used(module)}
    assert used, "the way of calling statements has changed: this test must follow"
    assert not used - load_statements(dialect).keys()


def _used(module: ast.Module) -> Iterator[str]:
    """`tx.rows("name", ...)` and `SQL["name"]`."""
    for node in ast.walk(module):
        first: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
            first = node.args[0] if node.args else None
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "SQL":
            first = node.slice
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def test_no_statement_is_put_together_from_pieces() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, module in modules().items()
        if path not in PUTS_TOGETHER
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("execute", "executemany", "executescript")
        and node.args
        and isinstance(node.args[0], (ast.JoinedStr, ast.BinOp))
        and not _is_pragma(node.args[0])
    ]
    assert not found


def _is_pragma(text: ast.expr) -> bool:
    """A pragma takes no bound values."""
    first = text.values[0] if isinstance(text, ast.JoinedStr) and text.values else None
    return isinstance(first, ast.Constant) and str(first.value).startswith("PRAGMA ")


def test_no_python_file_speaks_sql() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, module in modules().items()
        if path.startswith("src/") and path not in SPEAKS_SQL
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value)
        if node.value.isupper() or re.search(r"\b(FROM|INTO|SET|TABLE|VALUES)\b", node.value)
    ]
    assert not found


@pytest.mark.parametrize("path", modules())
def test_nothing_imports_a_second_sqlite_library(path: str) -> None:
    assert "sqlite3" not in imported(modules()[path])
