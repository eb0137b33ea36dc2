"""From what a command line names to an app, or to a line that says what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from conveyor import Conveyor
from conveyor.loader import check_store, load_app, show_url
from conveyor.model.errors import AppLoadError
from conveyor.store.routing import Routing


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder, of which nothing stays behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, name: str, text: str = "from conveyor import Conveyor\napp = Conveyor('shop', url='memory://')\n") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_module_package_and_file_are_found(folder: Path) -> None:
    write(folder, "loaded_one.py")
    write(folder, "loaded_two/jobs.py", "from conveyor import Conveyor\nbelt = Conveyor('belt', url='memory://')\n")
    write(folder, "deep/loaded_three.py")
    assert load_app("loaded_one:app").target == "loaded_one:app"
    assert load_app("loaded_one").name == "shop"
    assert load_app("loaded_two.jobs:belt").name == "belt"
    assert load_app("deep/loaded_three.py:app").name == "shop"


def test_file_may_import_its_neighbours(folder: Path) -> None:
    write(folder, "deep/loaded_words.py", "NAME = 'shop'\n")
    write(folder, "deep/loaded_main.py", "from loaded_words import NAME\nfrom conveyor import Conveyor\napp = Conveyor(NAME)\n")
    assert load_app("deep/loaded_main.py:app").name == "shop"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("loaded_none:app", "there is no module `loaded_none`"),
        ("loaded_none.deeper:app", "there is no module"),
        ("loaded_here:other", "`other` in `loaded_here` is not a Conveyor app"),
        ("loaded_here:number", "is not a Conveyor app"),
        (":app", "names no module"),
        ("", "names no module"),
        ("..up:app", "without a leading dot"),
        ("none.py:app", "there is no such file"),
        ("my-app:app", "there is no module `my-app`"),
    ],
)
def test_bad_target_is_named(folder: Path, target: str, words: str) -> None:
    write(folder, "loaded_here.py", "from conveyor import Conveyor\napp = Conveyor('shop', url='memory://')\nnumber = 1\n")
    with pytest.raises(AppLoadError) as caught:
        load_app(target)
    assert words in str(caught.value)
    assert caught.value.hint


def test_app_s_own_errors_come_through(folder: Path) -> None:
    write(folder, "loaded_bad.py", "import no_such_library\n")
    write(folder, "loaded_worse.py", "1 / 0\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load_app("loaded_bad:app")
    with pytest.raises(ZeroDivisionError):
        load_app("loaded_worse:app")


def test_store_of_app_and_supervisor_must_be_one(folder: Path) -> None:
    app = Conveyor("shop", url="sqlite:///shop.db")
    for same in ("sqlite:///shop.db", f"sqlite:///{folder}/shop.db", "sqlite:///./shop.db"):
        check_store(app, Routing(url=same))
    with pytest.raises(AppLoadError, match="other.db") as caught:
        check_store(app, Routing(url="sqlite:///other.db"))
    assert "--url sqlite:///shop.db" in caught.value.hint


def test_other_stores_and_the_order_of_routes_must_be_the_same_too(folder: Path) -> None:
    stores = {"media": "sqlite:///media.db"}
    app = Conveyor("shop", url="sqlite:///shop.db", stores=stores, routes={"v-*": "media", "*": "home"})
    same = Routing(url="sqlite:///shop.db", stores=stores, routes={"v-*": "media", "*": "home"})
    check_store(app, same)
    one = Routing(url="sqlite:///shop.db")
    turned = replace(same, routes={"*": "home", "v-*": "media"})
    elsewhere = replace(same, stores={"media": "sqlite:///x.db"})
    for other in (one, turned, elsewhere):
        with pytest.raises(AppLoadError, match="spreads its queues"):
            check_store(app, other)


def test_url_is_shown_without_its_secrets() -> None:
    assert show_url("postgresql://me:secret@host/db") == "postgresql://host/db"
    assert show_url("sqlite:///a.db") == "sqlite:///a.db"
