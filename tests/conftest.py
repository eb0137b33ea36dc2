"""Settings of all tests: where temporary files go, compiled modules, who goes first, Hypothesis."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from kit.scratch import settle_in

if "PYTEST_XDIST_WORKER" not in os.environ:  # which has all this from the process that started it
    settle_in()
    # Hundreds of processes are started: each would compile everything anew, where the environment forbids to keep it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False

# A machine that does other things too is slow, and that is no fault of what is tested.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

LONG: Final = ["simulation", "stateful", "wire", "workers", "faults"]
"""Folders whose tests take seconds each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that at the end the processes share short ones, and none waits for another's last."""
    here = Path(__file__).parent
    ranks = {here / folder: rank for rank, folder in enumerate(LONG)}
    items.sort(key=lambda item: next((ranks[each] for each in item.path.parents if each in ranks), len(LONG)))
