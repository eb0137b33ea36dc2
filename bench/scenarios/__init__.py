"""The scenarios in the order they are run; `--only` names them by these names."""

from __future__ import annotations

from collections.abc import Callable

from bench.field import Field
from bench.scenario import Options, Scenario
from bench.scenarios.age import age
from bench.scenarios.backlog import backlog
from bench.scenarios.drain import drain, pair
from bench.scenarios.enqueue import bulk, enqueue, single
from bench.scenarios.held import held
from bench.scenarios.idle import idle
from bench.scenarios.imports import imports
from bench.scenarios.latency import latency

SCENARIOS: dict[str, Callable[[Field, Options], Scenario]] = {
    "single": single,
    "enqueue": enqueue,
    "bulk": bulk,
    "drain": drain,
    "pair": pair,
    "latency": latency,
    "backlog": backlog,
    "held": held,
    "age": age,
    "idle": idle,
    "import": imports,
}
