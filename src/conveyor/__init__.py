"""conveyor: Cloudflare Queues, Cron Triggers and durable timers for Python, on your own machine.

    from conveyor import Conveyor, Message

    app = Conveyor("shop")

    @app.consumer("orders")
    async def handle(message: Message[dict]) -> None: ...

    await app.queue("orders").send({"id": 1})
"""

from conveyor.app import Conveyor
from conveyor.cron.schedule import CronRun
from conveyor.kv import KV
from conveyor.model.errors import ConveyorError
from conveyor.model.message import Priority
from conveyor.model.settings import ConsumerSettings, QueueSettings
from conveyor.model.verdict import Ack, Backoff, RateLimited, Reject, Retry
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.producer import Outgoing, Queue, SentMessage

__all__ = [
    "KV",
    "Ack",
    "Backoff",
    "Batch",
    "ConsumerSettings",
    "Conveyor",
    "ConveyorError",
    "CronRun",
    "Message",
    "Outgoing",
    "Priority",
    "Queue",
    "QueueSettings",
    "RateLimited",
    "Reject",
    "Retry",
    "SentMessage",
]
