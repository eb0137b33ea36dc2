"""One server for all of these tests in a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from generation.served import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """generation in the mode `queue`, two at a time."""
    with Served(tmp_path_factory.mktemp("generation") / "served") as running:
        yield running
