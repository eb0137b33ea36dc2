"""Faults on purpose: real processes, killed and poisoned, on each store. The sizes are CI's; `make faults` runs the
campaign's, on a PostgreSQL that syncs as it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.campaign import Report, write_result
from kit.checker import Verdict
from kit.fleet import Fleet
from kit.postgres import the_durable_server, the_server


@pytest.fixture
def is_campaign(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("campaign") is not None


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, is_campaign: bool) -> str:
    """A store of each kind that several processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return (the_durable_server() if is_campaign else the_server()).url()


@pytest.fixture
def fleet(tmp_path: Path, url: str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, url)
    yield fleet
    fleet.close()


@pytest.fixture
def say(is_campaign: bool, capsys: pytest.CaptureFixture[str]) -> Report:
    """Publish a row's figures, in a campaign."""

    def say(row: str, **figures: Any) -> None:
        if is_campaign:
            line = write_result(row, figures)
            with capsys.disabled():
                print(f"\n{line}")  # noqa: T201 figures are for whoever watches

    return say


@pytest.fixture
def report(url: str, say: Report) -> Report:
    """The same, with the store and the verdict on a history."""

    def report(row: str, verdict: Verdict | None = None, **figures: Any) -> None:
        say(row, store=url.partition(":")[0], **(verdict.figures() if verdict is not None else {}), **figures)

    return report
