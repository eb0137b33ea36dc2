"""What `import conveyor` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import conveyor

NAMES = {
    "JobEnd",
    "JobEvent",
    "JobLog",
    "JobOutput",
    "JobProgress",
    "Alarm",
    "AlarmInfo",
    "AlarmNotFoundError",
    "AlarmRun",
    "AlarmState",
    "AlarmTakenError",
    "Blob",
    "BlobInfo",
    "BlobChecksumError",
    "BlobPage",
    "BlobStream",
    "Bucket",
    "KVEntry",
    "KVKey",
    "KVPage",
    "BodyDecodeError",
    "BodyTooLargeError",
    "ConflictError",
    "CronSyntaxError",
    "DeadLetterAlert",
    "Dispatch",
    "Group",
    "GroupGoneError",
    "GroupInfo",
    "GroupMember",
    "GroupNotFoundError",
    "GroupResult",
    "GroupState",
    "GroupTimeoutError",
    "InvalidError",
    "LeaseLostError",
    "Limiter",
    "NotFoundError",
    "QueueFullError",
    "QueueNotFoundError",
    "QueueUnavailableError",
    "ScheduleBusyError",
    "StartedGroup",
    "StoreError",
    "KV",
    "Ack",
    "Backoff",
    "Batch",
    "ConsumerSettings",
    "Conveyor",
    "ConveyorError",
    "CronRun",
    "Job",
    "JobCancelledError",
    "JobContext",
    "JobEndedError",
    "JobEventRefusedError",
    "JobEventTimeoutError",
    "JobErrors",
    "JobExistsError",
    "JobFailedError",
    "JobFunction",
    "JobInfo",
    "JobNotFoundError",
    "JobNotRetriableError",
    "JobResultExpiredError",
    "JobState",
    "JobStepError",
    "JobTimeoutError",
    "Snooze",
    "StepInfo",
    "Transition",
    "MemberState",
    "Message",
    "Outgoing",
    "Priority",
    "Queue",
    "QueueSettings",
    "RateLimited",
    "Reject",
    "Retry",
    "SentMessage",
}
HEAVY = {"apsw", "click", "cryptography", "cronsim", "httpx2", "rich", "sqlite3", "starlette", "structlog", "uvicorn", "uvloop"}


def test_the_front_door_has_exactly_these_names() -> None:
    assert set(conveyor.__all__) == NAMES
    assert conveyor.__all__ == sorted(conveyor.__all__, key=_as_ruff_sorts), "keep `__all__` sorted"


def test_every_name_of_the_front_door_is_there() -> None:
    assert all(hasattr(conveyor, name) for name in conveyor.__all__)


def test_the_front_door_leaves_the_libraries_outside() -> None:
    code = "import sys, conveyor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_declaring_an_app_leaves_the_servers_outside() -> None:
    code = "import sys\nfrom conveyor import Conveyor\nConveyor('shop', url='sqlite:///shop.db')\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (HEAVY - {"apsw"}) & set(done.stdout.split())


def _as_ruff_sorts(name: str) -> tuple[bool, str]:
    """CONSTANTS before Classes."""
    return not name.isupper(), name
