"""The command line in this process, on a store of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from conveyor.cli import main
from conveyor.store.protocol import Store
from conveyor.store.sqlite import SQLiteStore

T = TypeVar("T")


class Answer(msgspec.Struct, kw_only=True):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


class Terminal:
    """Runs commands, and asks the store what came of them."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.path = folder / "conveyor.db"
        self._capture = capture

    def run(self, *arguments: str) -> Answer:
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = self._capture.readouterr()
        code = ended.value.code
        return Answer(code=code if isinstance(code, int) else 0, out=said.out, err=said.err)

    def ok(self, *arguments: str) -> Answer:
        answer = self.run(*arguments)
        assert answer.code == 0, answer.err
        assert answer.err == ""
        return answer

    def store(self, question: Callable[[Store], Awaitable[T]]) -> T:
        async def use() -> T:
            store = SQLiteStore(self.path)
            await store.open()
            try:
                return await question(store)
            finally:
                await store.close()

        return asyncio.run(use())


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    for name in ("CONVEYOR_URL", "CONVEYOR_STORES", "CONVEYOR_ROUTES"):  # verbs set them for their children
        monkeypatch.setenv(name, "")  # so that what a verb sets is undone
        monkeypatch.delenv(name)
    return Terminal(tmp_path, capsys)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
