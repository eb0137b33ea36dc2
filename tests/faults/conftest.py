"""Faults on purpose: real processes, killed and poisoned. The sizes are CI's; `make faults` runs the campaign's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.stop()
