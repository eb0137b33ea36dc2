"""Webhooks, out and in, as Standard Webhooks says (https://www.standardwebhooks.com).

    room      `app.webhooks`: send, publish, receive
    carrier   handles the queue's messages: one try after another, and what each came to
    endpoints who is told of what: URLs, filters, secrets, and whether they are disabled
    log       deliveries and their tries
    receiver  an ASGI application that verifies what comes in, and sends it to a queue
    courier   one request, to an address that was looked at before it was dialled
    targets   which URLs and addresses may be called
    signing   secrets and signatures
"""

from conveyor.model.beside import (
    DeliveryNotFoundError,
    EndpointDisabledError,
    EndpointExistsError,
    EndpointNotFoundError,
    WebhookTargetError,
)
from conveyor.webhooks.log import DeliveryInfo, DeliveryState, Try
from conveyor.webhooks.signing import make_secret, verify

__all__ = [
    "DeliveryInfo",
    "DeliveryNotFoundError",
    "DeliveryState",
    "EndpointDisabledError",
    "EndpointExistsError",
    "EndpointNotFoundError",
    "Try",
    "WebhookTargetError",
    "make_secret",
    "verify",
]
