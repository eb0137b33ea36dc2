"""Import: CPU time of `import conveyor`, less that of an interpreter which imports nothing."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from statistics import median

from bench.field import Field
from bench.program import ROOT, MeasureError, Program
from bench.scenario import Contestant, Measured, Metric, Options, Scenario, Standings, Verdict

RUNS = 9


def imports(field: Field, options: Options) -> Scenario:
    return Scenario(
        name="import",
        store=field.place.name,
        title=f"CPU time of the import, median of {RUNS}",
        metrics=[Metric("cpu", "CPU, ms", 1)],
        contestants=[_contestant(program) for program in field.everybody()],
        judge=_judge,
        rounds=1,
    )


def _contestant(program: Program) -> Contestant:
    module = program.name

    def measure(room: Path) -> Measured:
        _cpu_ms(program, f"import {module}")  # the first run may compile
        pairs = [(_cpu_ms(program, f"import {module}"), _cpu_ms(program, "pass")) for _ in range(RUNS)]
        imported, bare = (median(column) for column in zip(*pairs, strict=True))
        return Measured({"cpu": imported - bare})

    return Contestant(module, module, f"python -c 'import {module}' less python -c pass", measure)


def _cpu_ms(program: Program, code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([program.python, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise MeasureError((done.stderr.splitlines() or ["it failed"])[-1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _judge(standings: Standings) -> list[Verdict]:
    return [Verdict("import", standings.best("conveyor", "cpu", highest=False), 120, " ms", at_least=False)]
