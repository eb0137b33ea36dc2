"""The suite that every store must pass: `from conveyor.testing.conformance import *` in a test module of yours.

Beside it lie two fixtures: `clock`, a `ManualClock`, and `store`, a fresh and open store that goes by it; and an
`anyio_backend` fixture that says "asyncio". Before the import, `pytest.register_assert_rewrite` with this package's
name lets pytest explain what failed.
"""

from __future__ import annotations

from conveyor.testing.conformance.ageing import TestAgeing
from conveyor.testing.conformance.alarms import TestAlarms
from conveyor.testing.conformance.changes import TestChanges
from conveyor.testing.conformance.claiming import TestBatches, TestClaiming
from conveyor.testing.conformance.dead_letters import TestAlerts, TestDeadLetters, TestExpiry, TestRedrive
from conveyor.testing.conformance.deliveries import TestDeliveries
from conveyor.testing.conformance.discarding import TestDiscards
from conveyor.testing.conformance.dispatching import (
    TestChangesOfDispatch,
    TestClocks,
    TestDispatchByAlarm,
    TestSendsThatClaim,
)
from conveyor.testing.conformance.documents import TestDocuments, TestTrails
from conveyor.testing.conformance.editing import TestEdits
from conveyor.testing.conformance.fairness import TestFairness
from conveyor.testing.conformance.group_order import TestGroupOrder, TestGroupStarts
from conveyor.testing.conformance.groups import TestGroupCounts, TestGroupEnds, TestGroupLosses, circle
from conveyor.testing.conformance.jobs import TestJobControl, TestJobLists, TestJobs, TestPuttingsOff, desk
from conveyor.testing.conformance.key_values import TestKeyValues
from conveyor.testing.conformance.keys import TestKeyConcurrency, TestOrderedKeys
from conveyor.testing.conformance.life import TestLife, TestWakes
from conveyor.testing.conformance.limits import TestConcurrency
from conveyor.testing.conformance.lives import TestLeasesOfLives, TestLimitsOfLives
from conveyor.testing.conformance.owners import TestEndings, TestOwners
from conveyor.testing.conformance.pulling import TestPulling
from conveyor.testing.conformance.queues import TestConsumers, TestPause, TestPurge, TestQueues
from conveyor.testing.conformance.rates import TestKeyRates, TestRates, TestRestingKeys
from conveyor.testing.conformance.reconciling import TestReconciling
from conveyor.testing.conformance.renaming import TestRenames
from conveyor.testing.conformance.reports import TestNotices, TestReportLimits, TestReports
from conveyor.testing.conformance.resting import TestClockSetBack
from conveyor.testing.conformance.retaining import TestRetention
from conveyor.testing.conformance.schedules import TestRuns, TestSchedules
from conveyor.testing.conformance.sending import TestDedupe, TestSending
from conveyor.testing.conformance.settling import TestRetries, TestSettling
from conveyor.testing.conformance.stepping import TestEvents, TestSteps

__all__ = [
    "TestAgeing",
    "TestAlarms",
    "TestAlerts",
    "TestBatches",
    "TestChanges",
    "TestChangesOfDispatch",
    "TestClaiming",
    "TestClockSetBack",
    "TestClocks",
    "TestConcurrency",
    "TestConsumers",
    "TestDeadLetters",
    "TestDedupe",
    "TestDeliveries",
    "TestDiscards",
    "TestDispatchByAlarm",
    "TestDocuments",
    "TestEdits",
    "TestEndings",
    "TestEvents",
    "TestExpiry",
    "TestFairness",
    "TestGroupCounts",
    "TestGroupEnds",
    "TestGroupLosses",
    "TestGroupOrder",
    "TestGroupStarts",
    "TestJobControl",
    "TestJobLists",
    "TestJobs",
    "TestKeyConcurrency",
    "TestKeyRates",
    "TestKeyValues",
    "TestLeasesOfLives",
    "TestLife",
    "TestLimitsOfLives",
    "TestNotices",
    "TestOrderedKeys",
    "TestOwners",
    "TestPause",
    "TestPulling",
    "TestPurge",
    "TestPuttingsOff",
    "TestQueues",
    "TestRates",
    "TestReconciling",
    "TestRedrive",
    "TestRenames",
    "TestReportLimits",
    "TestReports",
    "TestRestingKeys",
    "TestRetention",
    "TestRetries",
    "TestRuns",
    "TestSchedules",
    "TestSending",
    "TestSendsThatClaim",
    "TestSettling",
    "TestSteps",
    "TestTrails",
    "TestWakes",
    "circle",
    "desk",
]
