"""The table of faults names tests that exist, and every row of the catalogue that this machine's stores concern."""

from __future__ import annotations

import ast
import re

import pytest

from house.source import ROOT, functions

PAGE = (ROOT / "docs" / "concepts" / "faults.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests|src)/[\w/]+\.py)::(test_\w+)`", PAGE)))
ROWS = {f"F{number:02}" for number in range(1, 59)} - {"F26", "F28", "F29", "F30", "F32", "F33"}


def test_every_row_is_in_the_table() -> None:
    told = {row for line in PAGE.splitlines() if line.startswith("| F") for row in re.findall(r"F\d\d", line.split("|")[1])}
    assert told >= ROWS


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {found.rpartition(".")[2] for found, _ in functions(module)}
