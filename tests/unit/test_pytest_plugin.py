"""The pytest plugin, in a project of its own: plain tests, anyio's, pytest-asyncio's, and those that do not use it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from house.source import ROOT

PLUGIN = "pytest_conveyor"
SHOP = """
from conveyor import Conveyor

app = Conveyor("shop", url="sqlite:///never-made.db")
sent = []


@app.job(queue="mails")
async def send_mail(to: str) -> str:
    if to == "nobody":
        raise ConnectionError("no route")
    sent.append(to)
    return f"to {to}"
"""
TESTS = """
import pytest

import shop
from conveyor.testing import Harness, SyncHarness


def test_plain(conveyor_kit: SyncHarness) -> None:
    job = conveyor_kit.run(shop.send_mail.enqueue("ann"))
    conveyor_kit.assert_enqueued(shop.send_mail, payload="ann", count=1)
    assert conveyor_kit.result(job) == "to ann"


@pytest.mark.anyio
@pytest.mark.parametrize("to", ["bob", "cat"])
async def test_anyio(conveyor_kit: Harness, to: str) -> None:
    job = await shop.send_mail.enqueue(to)
    conveyor_kit.assert_enqueued(shop.send_mail, payload=to, count=1)
    assert await conveyor_kit.result(job) == f"to {to}"


class TestInline:
    @pytest.fixture
    def conveyor_mode(self) -> str:
        return "inline"

    @pytest.mark.anyio
    async def test_inline(self, conveyor_kit: Harness) -> None:
        with pytest.raises(ConnectionError):
            await shop.send_mail.enqueue("nobody")
        assert (await (await shop.send_mail.enqueue("dan")).result()) == "to dan"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_without() -> None:
    assert shop.app.loop is None
"""
ASYNCIO = """
import pytest
import pytest_asyncio

import shop
from conveyor.testing import Harness


@pytest_asyncio.fixture
async def job(conveyor_kit: Harness):
    return await shop.send_mail.enqueue("ann")


@pytest.mark.asyncio
async def test_asyncio(conveyor_kit: Harness, job) -> None:
    conveyor_kit.assert_enqueued(shop.send_mail, payload="ann", count=1)
    assert await conveyor_kit.result(job) == "to ann"


@pytest.mark.asyncio
async def test_another(conveyor_kit: Harness) -> None:
    conveyor_kit.assert_not_enqueued(shop.send_mail)
"""
OVERRIDDEN = """
import pytest

from conveyor import Conveyor


@pytest.fixture
def conveyor_app() -> Conveyor:
    return Conveyor("another")


def test_another_app(conveyor_kit) -> None:
    assert conveyor_kit.app.name == "another"
"""
UNUSED = """
import sys
import tomllib


def test_conveyor_is_not_even_imported() -> None:
    assert "conveyor" not in sys.modules
"""


def _run(folder: Path, *plugins: str, ini: str = 'conveyor_app = "shop:app"', **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    settings = '[tool.pytest.ini_options]\npythonpath = ["."]\nfilterwarnings = ["error"]\n'
    (folder / "pyproject.toml").write_text(settings + ini, encoding="utf-8")
    chosen = [word for plugin in (PLUGIN, *plugins) for word in ("-p", plugin)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen], cwd=folder, capture_output=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_kit_serves_plain_tests_and_anyio_s(tmp_path: Path) -> None:
    said = _run(tmp_path, "anyio", shop=SHOP, test_shop=TESTS, test_other=OVERRIDDEN)
    assert "6 passed" in said, said
    assert not (tmp_path / "never-made.db").exists()


@pytest.mark.skipif(importlib.util.find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
def test_the_kit_serves_pytest_asyncio_s(tmp_path: Path) -> None:
    ini = 'conveyor_app = "shop:app"\nasyncio_mode = "strict"\nasyncio_default_fixture_loop_scope = "function"'
    said = _run(tmp_path, "pytest_asyncio.plugin", ini=ini, shop=SHOP, test_shop=ASYNCIO)
    assert "2 passed" in said, said


def test_those_who_do_not_use_it_do_not_notice_it_and_a_missing_app_is_named(tmp_path: Path) -> None:
    said = _run(tmp_path, ini="", test_a=UNUSED, test_b="def test_it(conveyor_kit): ...")
    assert "1 passed, 1 error" in said, said
    assert "no app is named: set `conveyor_app" in said, said


def test_pytest_is_told_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
