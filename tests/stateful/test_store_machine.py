"""Random histories, played to the model and to each real store; `HYPOTHESIS_PROFILE=campaign` plays many more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from conveyor.store.memory import MemoryStore
from conveyor.store.postgres import PostgresStore
from conveyor.store.protocol import Store
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.clock import ManualClock
from conveyor.testing.histories import StoreMachine
from kit.postgres import the_server

CI = settings(
    derandomize=True,
    max_examples=50,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", CI)
settings.register_profile("campaign", CI, derandomize=False, max_examples=2_000, print_blob=True)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


class MemoryMachine(StoreMachine):
    """The model against itself: that the rules and the ledger hold water."""

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        return MemoryStore(clock)


class SQLiteMachine(StoreMachine):
    """SQLite on a file of its own."""

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        return SQLiteStore(folder / "store.db", clock=clock)


class PostgresMachine(StoreMachine):
    """PostgreSQL, each history in a schema of its own."""

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        return PostgresStore(the_server().url(), clock=clock)


@pytest.mark.timeout(3_600)
def test_postgres_and_the_model_tell_the_same_story() -> None:
    the_server()  # skips here, not inside a history
    run_state_machine_as_test(PostgresMachine, settings=settings(PROFILE, max_examples=PROFILE.max_examples // 5))


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("machine", [MemoryMachine, SQLiteMachine])
def test_a_store_and_the_model_tell_the_same_story(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(machine, settings=PROFILE)
