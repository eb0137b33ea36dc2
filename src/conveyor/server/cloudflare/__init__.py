"""Cloudflare's wire: its paths, envelopes and codes. Each room has a list of endpoints."""

from __future__ import annotations

from conveyor.server.cloudflare import d1, r2, schedules, secrets, workers
from conveyor.server.endpoint import Endpoint


def endpoints() -> list[Endpoint]:
    """Those of an account, below `/client/v4/accounts/{account}`; the account is in `call.path`."""
    return [*workers.ENDPOINTS, *schedules.ENDPOINTS, *secrets.ENDPOINTS, *d1.ENDPOINTS, *r2.ENDPOINTS]


def root_endpoints() -> list[Endpoint]:
    """Those below `/client/v4` itself: who am I, and which accounts are there."""
    return [*r2.ROOT_ENDPOINTS]
