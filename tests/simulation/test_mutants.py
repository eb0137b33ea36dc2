"""A test of the tests: bugs on purpose, each of which the simulation sees within a few worlds that could show it.

A sample in every run; all of them in a campaign.
"""

from __future__ import annotations

import pytest

from conveyor.sim.plan import make_plan
from conveyor.sim.world import run_seed
from simulation.mutants import MUTANTS, Mutant

WORLDS_MAX = 60
SAMPLE = {
    "retry guard off by one", "released counted as attempt", "reap ignores evidence", "dedupe ignored", "a cancelled job is tried again",
    "one slot too many", "delay ignored", "SQLite: retry guard off by one", "SQLite: expired messages delivered",
    "poll off", "settlement dropped on store error", "a lost claim is forgotten", "duplicate settle", "lease not renewed",
}  # fmt: skip


def _worlds(mutant: Mutant) -> list[int]:
    return [seed for seed in range(1, 1_000) if mutant.may_show(make_plan(seed))][:WORLDS_MAX]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant",
    [pytest.param(m, id=m.name, marks=[] if m.name in SAMPLE else pytest.mark.campaign) for m in MUTANTS],
)
def test_a_seeded_bug_is_caught(mutant: Mutant) -> None:
    with mutant.at_work():
        caught = any(run_seed(seed).violations for seed in _worlds(mutant))
    assert caught, f"not seen in {WORLDS_MAX} worlds"


def test_the_sample_is_on_the_list() -> None:
    assert {mutant.name for mutant in MUTANTS} >= SAMPLE
