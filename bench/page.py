"""The measured part of docs/reference/performance.md: tables from the bench's JSON, between two comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

BEGIN = "<!-- measured: written by `make plots` -->\n"
END = "<!-- end of what was measured -->\n"
STORES = {"postgres": "PostgreSQL", "sqlite": "SQLite"}
FIGURES = {
    "throughput": "messages a second, by peer",
    "latency": "from a send to its handler, by peer",
    "backlog": "rate of a drain by how many messages wait",
    "held": "rate over time while a transaction is held open",
    "age": "rate and sizes by how many messages one store has handled",
}
SHORT = (
    "**Some of these figures are of a short run on a busy machine, to see that everything runs. Quote none of a run "
    "whose conditions, below, say `short` of its lengths.** A later run's stand in place of an earlier one's."
)
PASSES = {True: "yes", False: "no", None: "not compared"}

Scenario = Mapping[str, Any]


def rewrite(page: str, stores: Mapping[str, Mapping[str, Scenario]], runs: Sequence[Mapping[str, Any]]) -> str:
    """The page with its measured part anew."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{measured(stores, runs)}\n{END}{after}"


def measured(stores: Mapping[str, Mapping[str, Scenario]], runs: Sequence[Mapping[str, Any]]) -> str:
    short = [SHORT] if any(run["conditions"]["lengths"] != "full" for run in runs) else []
    sections = [_store(name, stores[name]) for name in STORES if name in stores]
    return "\n\n".join([*short, *sections, *(_conditions(number, run) for number, run in enumerate(runs, 1))]) + "\n"


def _store(store: str, found: Mapping[str, Scenario]) -> str:
    drawn = {"throughput": ["single", "enqueue", "bulk", "drain", "pair"]}
    figures = [
        f"![{STORES[store]}: {words}](../figures/{name}-{store}.svg)"
        for name, words in FIGURES.items()
        if any(each in found for each in drawn.get(name, [name]))
    ]
    judged = [verdict for scenario in found.values() for verdict in scenario["verdicts"]]
    gates = _table(
        ("conveyor / peer, or of itself", "measured", "gate", "reached", "goal"),
        [(each["what"], each["measured"], each["gate"], PASSES[each["passes"]], each["goal"]) for each in judged],
    )
    tables = [_scenario(scenario) for scenario in found.values()]
    return "\n\n".join([f"## {STORES[store]}", *figures, gates, "### Every setting", *tables])


def _scenario(scenario: Scenario) -> str:
    contestants = [each for each in scenario["contestants"] if each["rounds"]]
    names = list(contestants[0]["medians"])
    rows = [(each["label"], *(_cell(each, name) for name in names)) for each in contestants]
    return f"**{scenario['name']}.** {scenario['title']}\n\n{_table(('', *names), rows)}"


def _cell(contestant: Mapping[str, Any], name: str) -> str:
    middle = contestant["medians"][name]
    if middle is None:
        return "–"
    samples = [taken[name] for taken in contestant["rounds"] if name in taken]
    return _number(middle) + (f" ({_number(min(samples))}–{_number(max(samples))})" if len(samples) > 1 else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _conditions(number: int, run: Mapping[str, Any]) -> str:
    facts = [(name, value) for name, value in run["conditions"].items()]
    absent = [(f"{name}: not compared", reason) for name, reason in run["absent"].items()]
    names = ", ".join(_scenarios(run))
    return f"## Conditions of run {number}\n\nIt gave {names}.\n\n{_table(('what', 'how'), facts + absent)}"


def _scenarios(run: Mapping[str, Any]) -> Iterator[str]:
    stores = dict.fromkeys(each["store"] for each in run["scenarios"])
    for store in stores:
        names = [each["name"] for each in run["scenarios"] if each["store"] == store]
        yield f"{STORES[store]}'s {', '.join(names)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
