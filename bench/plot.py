"""`python -m bench.plot RESULTS.json ... --to FOLDER`: draw the figures of the docs from what the bench wrote.

Of several files each one's scenarios replace those of the files before it, so that a long run of one scenario can
stand beside a run of all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.figures import backlog, held, latency, throughput
from bench.program import ROOT

FIGURES = {"throughput": throughput, "latency": latency, "backlog": backlog, "held": held}
RESULTS = ROOT / "bench" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="JSON of the bench (default: bench/results/*.json)")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "figures", help="where the figures go")
    told = parser.parse_args()
    told.to.mkdir(parents=True, exist_ok=True)
    for name, drawing in draw(_read(told.results or sorted(RESULTS.glob("*.json")))).items():
        (told.to / name).write_text(drawing, encoding="utf-8")
        print(told.to / name)


def draw(runs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """SVG by file name."""
    stores: dict[str, dict[str, Mapping[str, Any]]] = {}
    for run in runs:
        for scenario in run["scenarios"]:
            if any(each["rounds"] for each in scenario["contestants"]):
                stores.setdefault(scenario["store"], {})[scenario["name"]] = scenario
    drawn = {
        f"{name}-{store}.svg": figure(store, found)
        for store, found in stores.items()
        for name, figure in FIGURES.items()
    }
    return {name: canvas.render() for name, canvas in drawn.items() if canvas is not None}


def _read(paths: Iterable[Path]) -> list[Mapping[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


if __name__ == "__main__":
    main()
