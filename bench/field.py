"""Who takes part on a store: conveyor and each peer that can run here; for the others, why not."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peer_python import NoPeerPythonError, peer_python
from bench.places import Place, store_in
from bench.program import ConveyorProgram, Facts, MeasureError, Program, this_python


@dataclass
class Field:
    """The programs by name, and the reasons for the absent ones."""

    place: Place
    programs: dict[str, Program] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def conveyor(self) -> Program | None:
        return self.programs.get("conveyor")

    def named(self, *names: str) -> Iterator[Program]:
        return (program for name, program in self.programs.items() if name in names)

    def everybody(self) -> Iterator[Program]:
        return iter(self.programs.values())


def gather_field(place: Place, directory: Path, *, guests: Sequence[str], wanted: Sequence[str]) -> Field:
    """Ask each program once what it is; one that cannot answer is absent, not an error. `guests` are the reader's own
    peers, `wanted` the names of those who shall take part (all, if there are none)."""
    gathered = Field(place)
    for name, find in {**FINDERS[place.name], **_guests(guests)}.items():
        if wanted and name not in wanted and ":" not in name:
            continue
        try:
            program = _introduced(find(), place, directory)
        except (MeasureError, NoPeerPythonError) as error:
            gathered.absent[name] = str(error)
            continue
        if program.known.store == place.name and (not wanted or program.name in wanted):
            gathered.programs[program.name] = program
    return gathered


def _introduced(program: Program, place: Place, directory: Path) -> Program:
    with TemporaryDirectory(dir=directory) as room, store_in(place, Path(room)) as url:
        answer = program.call("describe", url)
    names = Facts.__dataclass_fields__
    return replace(program, facts=Facts(**{name: value for name, value in answer.items() if name in names}))


def _guests(targets: Sequence[str]) -> Mapping[str, Callable[[], Program]]:
    """Their modules are looked for where the bench was called, and their packages in its own environment."""
    here = (str(Path.cwd()),)
    return {target: lambda target=target: Program(target, this_python(), modules=here) for target in targets}  # type: ignore[misc]  # the default binds this turn's


def _huey() -> Program:
    if importlib.util.find_spec("huey") is None:
        raise MeasureError("not installed in this environment (it is in the dev requirements)")
    return Program("bench.peers.huey_peer:Huey", this_python())


FINDERS: dict[str, dict[str, Callable[[], Program]]] = {
    "sqlite": {
        "conveyor": lambda: ConveyorProgram("bench.peers.conveyor_peer:ConveyorOnSQLite", this_python()),
        "huey": _huey,
        "litequeue": lambda: Program("bench.peers.litequeue_peer:LiteQueue", peer_python("litequeue", (3, 12))),
    },
    "postgres": {
        "conveyor": lambda: ConveyorProgram("bench.peers.conveyor_peer:ConveyorOnPostgres", this_python()),
        "pgqueuer": lambda: Program("bench.peers.pgqueuer_peer:PgQueuer", peer_python("postgres")),
        "procrastinate": lambda: Program("bench.peers.procrastinate_peer:Procrastinate", peer_python("postgres")),
    },
}
