"""Who takes part: conveyor and each peer that can run here; for the others, why not."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peer_python import NoPeerPythonError, peer_python
from bench.program import ConveyorProgram, MeasureError, Program, this_python


@dataclass
class Field:
    """The programs by name, and the reasons for the absent ones."""

    programs: dict[str, Program] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def conveyor(self) -> Program | None:
        return self.programs.get("conveyor")

    def peers(self) -> Iterator[Program]:
        return (program for program in self.programs.values() if program.name != "conveyor")

    def everybody(self) -> Iterator[Program]:
        return iter(self.programs.values())


def gather_field(directory: Path) -> Field:
    """Ask each program once what it is; one that cannot answer is absent, not an error."""
    gathered = Field()
    for name, find in FINDERS.items():
        try:
            gathered.programs[name] = _introduced(find(), directory)
        except (MeasureError, NoPeerPythonError) as error:
            gathered.absent[name] = str(error)
    return gathered


def _introduced(program: Program, directory: Path) -> Program:
    with TemporaryDirectory(dir=directory) as room:
        facts = program.call("describe", Path(room) / "queue.db")
    return type(program)(program.name, program.python, facts["versions"], facts["settings"])


def _conveyor() -> Program:
    return ConveyorProgram("conveyor", this_python())


def _huey() -> Program:
    if importlib.util.find_spec("huey") is None:
        raise MeasureError("not installed in this environment (it is in the dev requirements)")
    return Program("huey", this_python())


def _litequeue() -> Program:
    return Program("litequeue", peer_python())


FINDERS: dict[str, Callable[[], Program]] = {"conveyor": _conveyor, "huey": _huey, "litequeue": _litequeue}
