"""What all of cutmv's tests share: one server and one film for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cutmv.kit import Served, make_media


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A cutmv with the embedded queue."""
    with Served(tmp_path_factory.mktemp("cutmv")) as running:
        yield running


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute with picture and sound."""
    return make_media(tmp_path_factory.mktemp("media") / "film.mp4")
