"""The six scenarios in the order they are run; `--only` names them by these names."""

from __future__ import annotations

from collections.abc import Callable

from bench.field import Field
from bench.scenario import Options, Scenario
from bench.scenarios.backlog import backlog
from bench.scenarios.drain import drain
from bench.scenarios.enqueue import enqueue
from bench.scenarios.idle import idle
from bench.scenarios.imports import imports
from bench.scenarios.latency import latency

SCENARIOS: dict[str, Callable[[Field, Options], Scenario]] = {
    "enqueue": enqueue,
    "drain": drain,
    "latency": latency,
    "backlog": backlog,
    "idle": idle,
    "import": imports,
}
