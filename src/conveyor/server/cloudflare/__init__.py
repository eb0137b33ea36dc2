"""Cloudflare's wire: its paths, envelopes and codes. Each room has a list of endpoints."""

from __future__ import annotations

import os
from typing import Final

from msgspec.structs import replace

from conveyor.model.errors import InvalidSettingError
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

PULLED_JSON: Final = "CONVEYOR_PULLED_JSON"
"""`text` or `base64`: how those who pull get JSON bodies."""


def endpoints() -> list[Endpoint]:
    """Those of an account, below `/client/v4/accounts/{account}`; the account is in `call.path`."""
    directory = Directory()
    subscriptions = SubscriptionDesk(directory)
    found = [
        *QueueDesk(directory).endpoints(),
        *ConsumerDesk(directory).endpoints(),
        *Messages(directory, encodes_json=_encodes_json()).endpoints(),
        *MetricsDesk(directory).endpoints(),
        *subscriptions.endpoints(),
        *NamespaceDesk(subscriptions).endpoints(),
        *ValueDesk().endpoints(),
        *workers.ENDPOINTS,
        *schedules.ENDPOINTS,
        *secrets.ENDPOINTS,
        *d1.ENDPOINTS,
        *r2.BucketDesk(subscriptions).endpoints(),
    ]
    return [replace(each, handle=of_account(each.handle)) for each in found]


def root_endpoints() -> list[Endpoint]:
    """Those below `/client/v4` itself: who am I, and which accounts are there."""
    return [*accounts.endpoints(), *r2.ROOT_ENDPOINTS]


def _encodes_json() -> bool:
    wanted = os.environ.get(PULLED_JSON) or "text"
    if wanted not in ("text", "base64"):
        raise InvalidSettingError(PULLED_JSON, wanted, "is neither `text` nor `base64`")
    return wanted == "base64"
