"""Small programs as a user would write them, on each store: by the front door alone, and judged by what they see."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from conveyor import Conveyor
from kit.fleet import Fleet
from kit.postgres import the_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts real workers does so on SQLite in every run, and on PostgreSQL in campaigns."""
    for item in items:
        if Path(__file__).parent in item.path.parents and "[postgres]" in item.name and "fleet" in fixtures_of(item):
            item.add_marker(pytest.mark.campaign)


def fixtures_of(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CONVEYOR_FILES", str(tmp_path / "files"))
    with the_server().emptied() if request.param == "postgres" else contextlib.nullcontext(f"sqlite:///{tmp_path}/store.db") as url:
        yield url


@pytest.fixture
def app(url: str) -> Conveyor:
    return Conveyor("shop", url=url)


@pytest.fixture
def fleet(url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Real `conveyor work` trees."""
    fleet = Fleet(tmp_path, url)
    yield fleet
    fleet.close()
