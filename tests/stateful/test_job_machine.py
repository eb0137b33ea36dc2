"""Random lives of jobs, played to the model and to each real store; `HYPOTHESIS_PROFILE=campaign` plays many more."""

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
from conveyor.testing.histories import JobMachine
from kit.postgres import the_server

IS_CAMPAIGN = os.environ.get("HYPOTHESIS_PROFILE") == "campaign"
PROFILE = settings(
    derandomize=not IS_CAMPAIGN,
    max_examples=1_000 if IS_CAMPAIGN else 25,
    stateful_step_count=40,
    deadline=None,
    print_blob=IS_CAMPAIGN,
    suppress_health_check=[HealthCheck.too_slow],
)


class MemoryJobs(JobMachine):
    """The model against itself: that the rules hold water."""

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        return MemoryStore(clock)


class SQLiteJobs(JobMachine):
    """SQLite on a file of its own."""

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        return SQLiteStore(folder / "store.db", clock=clock)


class PostgresJobs(JobMachine):
    """PostgreSQL, each history in a schema of its own."""

    @staticmethod
    def make_store(folder: Path, clock: ManualClock) -> Store:
        return PostgresStore(the_server().url(), clock=clock)


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("machine", [MemoryJobs, SQLiteJobs])
def test_a_store_and_the_model_tell_the_same_of_jobs(machine: type[JobMachine]) -> None:
    run_state_machine_as_test(machine, settings=PROFILE)


@pytest.mark.timeout(3_600)
def test_postgres_and_the_model_tell_the_same_of_jobs() -> None:
    the_server()  # skips here, not inside a history
    run_state_machine_as_test(PostgresJobs, settings=settings(PROFILE, max_examples=PROFILE.max_examples // 5))
