"""The shipped test kit: what `app.testing()` gives, a clock that a test moves, factories, and the suite that every
store must pass."""

from conveyor.testing.calls import Run
from conveyor.testing.clock import ManualClock
from conveyor.testing.harness import Harness, Mode
from conveyor.testing.sync import SyncHarness

__all__ = ["Harness", "ManualClock", "Mode", "Run", "SyncHarness"]
