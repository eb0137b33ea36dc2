"""A test of the tests: bugs on purpose, each of which the simulation sees within a few worlds that could show it."""

from __future__ import annotations

import pytest

from conveyor.sim.plan import make_plan
from conveyor.sim.world import run_seed
from simulation.mutants import MUTANTS, Mutant

WORLDS_MAX = 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_bug_is_caught(mutant: Mutant) -> None:
    seeds = [seed for seed in range(1, 400) if mutant.may_show(make_plan(seed))][:WORLDS_MAX]
    with mutant.at_work():
        assert any(run_seed(seed).violations for seed in seeds), f"{mutant.name}: not seen in {WORLDS_MAX} worlds"
