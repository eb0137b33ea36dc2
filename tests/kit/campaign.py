"""The sizes of a campaign of faults, its dice, and where it says what it has seen."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

Report = Callable[..., None]
"""Publishes a row's figures: its number, and what was measured."""
KILLS: Final = int(os.environ.get("KILLS", "20"))
"""Of the 1,000 that the catalogue asks for; every row shrinks with it."""
SEED: Final = int(os.environ.get("SEED", "11"))


def sizes(ci: int, full: int, *, minutes: float = 20.0) -> list[Any]:
    """Parameters of a row: its size in the default run, and in a campaign of `KILLS`; `full` is the catalogue's."""
    campaign = max(ci, full * KILLS // 1_000)
    marks = [pytest.mark.campaign, pytest.mark.timeout(minutes * 60)]
    return [pytest.param(ci, id="ci"), pytest.param(campaign, id="campaign", marks=marks)]


def write_result(row: str, figures: dict[str, Any]) -> str:
    """One line, also at the end of the file that the Makefile names."""
    said = " ".join(f"{name}={_shown(value)}" for name, value in figures.items())
    line = f"{row} {said} seed={SEED}"
    if path := os.environ.get("FAULTS_RESULTS"):
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M')} {done.stdout.strip() or '-'} {line}\n")
    return line


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{each}" for name, each in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value).replace(" ", "_")
