"""Cloudflare's wire: its paths, envelopes and codes. Each room has a list of endpoints."""

from __future__ import annotations

from msgspec.structs import replace

from conveyor.server.cloudflare import accounts, d1, r2, schedules, secrets, workers
from conveyor.server.cloudflare.accounts import of_account
from conveyor.server.cloudflare.consumers import ConsumerDesk
from conveyor.server.cloudflare.directory import Directory
from conveyor.server.cloudflare.kv import NamespaceDesk
from conveyor.server.cloudflare.messages import Messages
from conveyor.server.cloudflare.metrics import MetricsDesk
from conveyor.server.cloudflare.queues import QueueDesk
from conveyor.server.cloudflare.subscriptions import SubscriptionDesk
from conveyor.server.cloudflare.values import ValueDesk
from conveyor.server.endpoint import Endpoint


def endpoints() -> list[Endpoint]:
    """Those of an account, below `/client/v4/accounts/{account}`; the account is in `call.path`."""
    directory = Directory()
    subscriptions = SubscriptionDesk(directory)
    rooms = [
        QueueDesk(directory),
        ConsumerDesk(directory),
        Messages(directory),
        MetricsDesk(directory),
        subscriptions,
        NamespaceDesk(subscriptions),
        ValueDesk(),
        r2.BucketDesk(subscriptions),
    ]
    found = [each for room in rooms for each in room.endpoints()]
    found += [*workers.ENDPOINTS, *schedules.ENDPOINTS, *secrets.ENDPOINTS, *d1.ENDPOINTS]
    return [replace(each, handle=of_account(each.handle)) for each in found]


def root_endpoints() -> list[Endpoint]:
    """Those below `/client/v4` itself: who am I, and which accounts are there."""
    return [*accounts.endpoints(), *r2.ROOT_ENDPOINTS]
