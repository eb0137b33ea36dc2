"""`python -m bench.plot` (`make plots`): draw the docs' figures and write their tables from what the bench wrote.

Of several files of results each one's scenarios replace those of the files before it, so that a long run of one
scenario can stand beside a run of all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figures import age, backlog, held, latency, throughput
from bench.page import rewrite
from bench.program import ROOT

RESULTS = ROOT / "bench" / "results"
DOCS = ROOT / "docs"
PAGE = Path("reference") / "performance.md"
FIGURES = {"throughput": throughput, "latency": latency, "backlog": backlog, "held": held, "age": age}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="JSON of the bench (default: bench/results/*.json)")
    told = parser.parse_args()
    for path, text in documents(told.results or sorted(RESULTS.glob("*.json"))).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


def documents(results: Sequence[Path]) -> dict[Path, str]:
    """What the docs are to hold, by path."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in results]
    stores = _by_store(runs)
    drawn = {
        DOCS / "figures" / f"{name}-{store}.svg": figure(store, found)
        for store, found in stores.items()
        for name, figure in FIGURES.items()
    }
    figures = {path: canvas.render() for path, canvas in drawn.items() if canvas is not None}
    page = rewrite((DOCS / PAGE).read_text(encoding="utf-8"), stores, runs)
    return figures | {DOCS / PAGE: page}


def _by_store(runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    stores: dict[str, dict[str, Mapping[str, Any]]] = {}
    for run in runs:
        for scenario in run["scenarios"]:
            if any(each["rounds"] for each in scenario["contestants"]):
                stores.setdefault(scenario["store"], {})[scenario["name"]] = scenario
    return stores


if __name__ == "__main__":
    main()
