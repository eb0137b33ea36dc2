"""The pytest plugin: `conveyor_kit` is `app.testing()` for one test, async or not, whoever runs its coroutines.

It stands outside of the package so that tests that do not use it do not import conveyor.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conveyor import Conveyor
    from conveyor.testing import Harness, Mode, SyncHarness


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("conveyor_app", "The app of the fixture `conveyor_kit`: MODULE:VARIABLE.", default="")


@pytest.fixture
def conveyor_app(request: pytest.FixtureRequest) -> Conveyor:
    """The app under test: the one that the ini option `conveyor_app` names. Override it to take another."""
    from conveyor.loader import load_app

    target = str(request.config.getini("conveyor_app"))
    if not target:
        raise pytest.UsageError(
            'no app is named: set `conveyor_app = "shop:app"` in pytest\'s options, or write a fixture `conveyor_app`'
        )
    return load_app(target)


@pytest.fixture
def conveyor_mode() -> Mode:
    """Override it: with `"inline"` what is enqueued runs at once."""
    return "manual"


@pytest.fixture
def conveyor_kit(
    request: pytest.FixtureRequest, conveyor_app: Conveyor, conveyor_mode: Mode
) -> Iterator[Harness | SyncHarness]:
    """The app in memory, on a clock that the test moves: a `Harness` in an async test, a `SyncHarness` in others."""
    kit = conveyor_app.testing(conveyor_mode)
    if not inspect.iscoroutinefunction(inspect.unwrap(request.function)):
        with kit as sync_kit:
            yield sync_kit
        return
    kit.begin()
    written = request.node.obj
    request.node.obj = _opened(written, kit)
    try:
        yield kit
    finally:
        request.node.obj = written
        kit.end()


def _opened(test: Any, kit: Harness) -> Any:
    """The test with the app open around it, in the event loop that runs the test, whichever that is."""

    @functools.wraps(test)
    async def run(*arguments: Any, **fixtures: Any) -> None:
        async with kit.app:
            await test(*arguments, **fixtures)

    return run
