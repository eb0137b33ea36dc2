"""The real workers, schedulers and supervisors in invented worlds: no seed breaks an invariant."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conveyor.sim.__main__ import show
from conveyor.sim.plan import Feature, make_plan
from conveyor.sim.world import run_seed
from simulation.mutants import MUTANTS

CHUNK = 10
KEPT = [int(line.split()[0]) for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines() if line[0] != "#"]


def _run(seed: int) -> None:
    report = run_seed(seed)
    again = f"python -m conveyor.sim --seed {seed} --trace"
    assert not report.violations, f"{report.violations[:3]}; see it again with `{again}`"
    assert report.messages


WORLDS = 40
"""Of the default run; the campaign plays on, and `make simulate` as long as you like."""


@pytest.mark.parametrize(
    "first",
    [*range(1, WORLDS, CHUNK), *(pytest.param(each, marks=pytest.mark.campaign) for each in range(WORLDS + 1, 1_000, CHUNK))],
)
def test_worlds_keep_the_invariants(first: int) -> None:
    for seed in range(first, first + CHUNK):
        _run(seed)


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_failed_does_not_fail_again(seed: int) -> None:
    _run(seed)


@pytest.mark.parametrize("seed", [2, 11])
def test_a_seed_is_one_history_byte_for_byte_in_every_process(seed: int) -> None:
    here = run_seed(seed).digest
    command = [sys.executable, "-m", "conveyor.sim", "--seed", str(seed)]
    there = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "12345"}
    )
    assert re.findall(r"trace (\w+)", there.stdout) == [here] == [run_seed(seed).digest]


def test_every_feature_is_left_out_about_half_of_the_time() -> None:
    plans = [make_plan(seed) for seed in range(200)]
    for feature in Feature:
        assert 60 < sum(feature in plan.features for plan in plans) < 140


def test_a_failing_seed_is_shown_with_the_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    settled_twice = next(mutant for mutant in MUTANTS if mutant.name == "duplicate settle")
    with settled_twice.at_work():
        show(run_seed(1))
    assert "\n  at " in (said := capsys.readouterr().out)
    assert said.endswith("again: python -m conveyor.sim --seed 1 --trace\n")
