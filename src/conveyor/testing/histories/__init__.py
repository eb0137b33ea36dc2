"""Random histories of T1 to T12, and of jobs, played to the memory store and to a store of yours side by side. Needs
Hypothesis.

Subclass `StoreMachine` and `JobMachine`, say in `make_store` how yours is made, and hand `YourMachine.TestCase` to
pytest.
"""

from __future__ import annotations

from conveyor.testing.histories.job_machine import JobMachine
from conveyor.testing.histories.machine import StoreMachine

__all__ = ["JobMachine", "StoreMachine"]
