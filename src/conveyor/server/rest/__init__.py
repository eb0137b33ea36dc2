"""Our own wire, `/api/v1`. Each room has a table of operations, from which the OpenAPI document is made as well."""

from __future__ import annotations

import random

from conveyor.audit.trail import Audit
from conveyor.server.endpoint import Endpoint
from conveyor.server.rest import alarms, dead_letters, groups, jobs, kv, queues, retention, schedules, stats, webhooks
from conveyor.server.rest.audit import AuditRoom
from conveyor.server.rest.messages import MessageRoom
from conveyor.server.rest.openapi import make_document, serve_document
from conveyor.server.rest.operation import Operation
from conveyor.server.rest.streams import Streams
from conveyor.server.rest.tokens import TokenRoom
from conveyor.server.tokens import Tokens


def operations(tokens: Tokens, audit: Audit, streams: Streams) -> list[Operation]:
    """All of them, but for the document and the WebSocket."""
    return [
        *queues.OPERATIONS,
        *MessageRoom(random.Random()).operations(),  # noqa: S311 spreads retries, guards nothing
        *dead_letters.OPERATIONS,
        *schedules.OPERATIONS,
        *jobs.OPERATIONS,
        *streams.of_jobs.operations(),
        *groups.OPERATIONS,
        *alarms.OPERATIONS,
        *webhooks.OPERATIONS,
        *kv.OPERATIONS,
        *retention.OPERATIONS,
        *TokenRoom(tokens).operations(),
        *AuditRoom(audit).operations(),
        *stats.OPERATIONS,
        *streams.operations(),
    ]


def endpoints(tokens: Tokens, audit: Audit, streams: Streams) -> list[Endpoint]:
    """All of them, below `/api/v1`."""
    known = operations(tokens, audit, streams)
    return [*(each.endpoint for each in known), serve_document(make_document(known))]
