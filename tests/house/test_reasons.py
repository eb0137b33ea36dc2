"""Whoever tells a checker to look away says why, beside it."""

from __future__ import annotations

import re

from house.source import ROOT, shown

FOLDERS = ("src/conveyor", "apps", "tests", "bench", "examples")
AWAY = re.compile(r"# (?:noqa|type: ignore|pyright: ignore)\b")
WITH_A_REASON = re.compile(
    r"# (?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|(?:type|pyright): ignore\[[\w, -]+\])(?: +#)? +[\w`'\"].{2,}"
)


def is_bare(line: str) -> bool:
    """Of two, the reason may stand behind the last."""
    found = list(AWAY.finditer(line))
    return bool(found) and WITH_A_REASON.match(line, found[-1].start()) is None


def test_a_checker_looks_away_for_a_reason() -> None:
    found = [
        f"{shown(path)}:{number}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "test_reasons.py" and "node_modules" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if is_bare(line)
    ]
    assert found == [], "say why, as in `# noqa: S105  # the test's own`"


def test_what_is_no_reason() -> None:
    bare = ("x  # noqa", "x  # noqa: S105", "x  # type: ignore", "x  # type: ignore[misc]", "x  # noqa: S105, B023  #")
    assert all(map(is_bare, bare))
    assert is_bare("x  # type: ignore[misc]  # why  # noqa: S105")
    assert not is_bare("x  # type: ignore[misc]  # noqa: S105  # why")
    for line in ("x  # noqa: S105  # why", "x  # noqa: BLE001 why so", "x  # pyright: ignore[reportX]  # `why`", "x"):
        assert not is_bare(line), line
