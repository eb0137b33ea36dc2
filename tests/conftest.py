"""Settings of all tests: where temporary files go, compiled modules, Hypothesis."""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings

from kit.scratch import settle_in

if "PYTEST_XDIST_WORKER" not in os.environ:  # which has all this from the process that started it
    settle_in()
    # Hundreds of processes are started: each would compile everything anew, where the environment forbids to keep it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False

# A machine that does other things too is slow, and that is no fault of what is tested.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
