"""Finds the app that a command line names: `MODULE:VARIABLE`, or `path/to/file.py:VARIABLE`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import unquote

from conveyor.model.errors import AppLoadError
from conveyor.store.routing import Routing

if TYPE_CHECKING:
    from conveyor.app import Conveyor


def load_app(target: str) -> Conveyor:
    """Import the module and return its app. `AppLoadError`; whatever the module itself raises comes through."""
    from conveyor.app import Conveyor

    place, _, variable = target.partition(":")
    module = _load_file(place) if place.endswith(".py") else _load_module(place, target)
    found = getattr(module, variable or "app", None)
    if not isinstance(found, Conveyor):
        raise AppLoadError(target, f"`{variable or 'app'}` in `{place}` is not a Conveyor app")
    found.target = target
    return found


def check_store(app: Conveyor, wanted: Routing) -> None:
    """`AppLoadError` unless the app keeps its messages where its supervisor renews leases."""
    given = app.routing
    if given.url != wanted.url and _place(given.url) != _place(wanted.url):
        here, there = show_url(given.url), show_url(wanted.url)
        raise AppLoadError(
            app.target or app.name,
            f"it keeps its messages in `{here}`, and its workers were to be run on `{there}`",
            hint=f"give `--url {here}`, or leave `url=` out of `Conveyor(...)`",
        )
    if _table(given) != _table(wanted):
        raise AppLoadError(
            app.target or app.name,
            "it spreads its queues over other stores, or by other routes, than its workers were to be run on",
            hint="leave `url=`, `stores=` and `routes=` out of `Conveyor(...)`: put them into `pyproject.toml`",
        )


def _table(routing: Routing) -> object:
    """What decides where a queue lives; routes in their order."""
    stores = {name: _place(url) for name, url in routing.stores.items()}
    return stores, list(routing.routes.items()) if stores else []


def show_url(url: str) -> str:
    """A store's URL without its credentials."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rsplit('@', 1)[-1]}"


def _place(url: str) -> str:
    """The file behind the URL of an SQLite store, as one of its names."""
    scheme, _, rest = url.partition(":///")
    return f"{scheme}:///{os.path.realpath(unquote(rest))}" if scheme == "sqlite" else url


def _load_module(name: str, target: str) -> ModuleType:
    if not name:
        raise AppLoadError(target, "it names no module")
    if name.startswith("."):
        raise AppLoadError(target, "a module is named in full, without a leading dot")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: the app lies where the command is given
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # it is the app's own import that fails
        raise AppLoadError(target, f"there is no module `{name}`") from error


def _load_file(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise AppLoadError(path, "there is no such file")
    name = Path(path).stem
    if str(Path(path).parent) not in sys.path:
        sys.path.insert(0, str(Path(path).parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AppLoadError(path, "it cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
