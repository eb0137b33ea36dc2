"""conveyor: Cloudflare Queues, Cron Triggers and durable timers for Python, on your own machine.

from conveyor import Conveyor, Message

app = Conveyor("shop")

@app.consumer("orders")
async def handle(message: Message[dict]) -> None: ...

await app.queue("orders").send({"id": 1})
"""

from conveyor.alarms import Alarm, AlarmInfo, AlarmRun
from conveyor.app import Conveyor
from conveyor.blobs.bucket import Bucket
from conveyor.blobs.model import Blob, BlobInfo, BlobPage, BlobStream
from conveyor.cron.schedule import CronRun
from conveyor.jobs.context import JobContext
from conveyor.jobs.following import JobEnd, JobEvent, JobLog, JobOutput, JobProgress
from conveyor.jobs.function import JobFunction
from conveyor.jobs.groups import Group
from conveyor.jobs.job import Job, JobInfo, Transition
from conveyor.jobs.looking import JobErrors
from conveyor.jobs.started import GroupInfo, GroupMember, StartedGroup
from conveyor.jobs.stepping import StepInfo
from conveyor.kv import KV, KVEntry, KVKey, KVPage
from conveyor.limiter import Limiter
from conveyor.model.alert import DeadLetterAlert
from conveyor.model.beside import (
    AlarmNotFoundError,
    AlarmTakenError,
    BlobChecksumError,
    CronSyntaxError,
    GroupGoneError,
    GroupNotFoundError,
    GroupTimeoutError,
    ScheduleBusyError,
)
from conveyor.model.dispatch import Dispatch
from conveyor.model.errors import (
    BodyDecodeError,
    BodyTooLargeError,
    ConflictError,
    ConveyorError,
    InvalidError,
    LeaseLostError,
    NotFoundError,
    QueueFullError,
    QueueNotFoundError,
    QueueUnavailableError,
    StoreError,
)
from conveyor.model.group import GroupResult, GroupState, MemberState
from conveyor.model.job import JobState
from conveyor.model.job_errors import (
    JobCancelledError,
    JobEndedError,
    JobEventRefusedError,
    JobEventTimeoutError,
    JobExistsError,
    JobFailedError,
    JobNotFoundError,
    JobNotRetriableError,
    JobResultExpiredError,
    JobStepError,
    JobTimeoutError,
)
from conveyor.model.message import Priority
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Ack, Backoff, RateLimited, Reject, Retry, Snooze
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.producer import Outgoing, Queue, SentMessage
from conveyor.store.records import AlarmState

__all__ = [
    "KV",
    "Ack",
    "Alarm",
    "AlarmInfo",
    "AlarmNotFoundError",
    "AlarmRun",
    "AlarmState",
    "AlarmTakenError",
    "Backoff",
    "Batch",
    "Blob",
    "BlobChecksumError",
    "BlobInfo",
    "BlobPage",
    "BlobStream",
    "BodyDecodeError",
    "BodyTooLargeError",
    "Bucket",
    "ConflictError",
    "ConsumerSettings",
    "Conveyor",
    "ConveyorError",
    "CronRun",
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
    "Job",
    "JobCancelledError",
    "JobContext",
    "JobEnd",
    "JobEndedError",
    "JobErrors",
    "JobEvent",
    "JobEventRefusedError",
    "JobEventTimeoutError",
    "JobExistsError",
    "JobFailedError",
    "JobFunction",
    "JobInfo",
    "JobLog",
    "JobNotFoundError",
    "JobNotRetriableError",
    "JobOutput",
    "JobProgress",
    "JobResultExpiredError",
    "JobState",
    "JobStepError",
    "JobTimeoutError",
    "KVEntry",
    "KVKey",
    "KVPage",
    "LeaseLostError",
    "Limiter",
    "MemberState",
    "Message",
    "NotFoundError",
    "Outgoing",
    "Priority",
    "Queue",
    "QueueFullError",
    "QueueNotFoundError",
    "QueueSettings",
    "QueueUnavailableError",
    "RateLimited",
    "Reject",
    "Retry",
    "ScheduleBusyError",
    "SentMessage",
    "Snooze",
    "StartedGroup",
    "StepInfo",
    "StoreError",
    "Transition",
]
