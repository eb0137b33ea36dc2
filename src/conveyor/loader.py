"""Finds the app that a command line names: `MODULE:VARIABLE`, or `path/to/file.py:VARIABLE`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from conveyor.model.errors import AppLoadError

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


def _load_module(name: str, target: str) -> ModuleType:
    if not name:
        raise AppLoadError(target, "it names no module")
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
