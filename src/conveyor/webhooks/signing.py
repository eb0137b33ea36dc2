"""Secrets and signatures: `v1,` and the HMAC-SHA256 of `id.timestamp.body`, over the exact bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from conveyor.model.beside import WebhookRefusedError
from conveyor.model.duration import MINUTE_MS
from conveyor.model.errors import InvalidKeyError

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
TOLERANCE_MS: Final = 5 * MINUTE_MS
_ID: Final = re.compile(r"[!-~]{1,200}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_SIGNATURES_MAX: Final = 10


def make_secret() -> str:
    """A new one, as both sides keep it: `whsec_` and base64."""
    return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def read_secret(text: str) -> bytes:
    """The key of a secret. `InvalidKeyError`, which does not repeat it, unless it is base64 of 24 to 64 bytes."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise InvalidKeyError(
            "a webhook's secret is `whsec_` and 24 to 64 bytes in base64", hint="`conveyor.webhooks.make_secret()`"
        )
    return key


def sign(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret, as during a rotation."""
    signed = b"%s.%d.%s" % (webhook_id.encode(), timestamp, body)
    return " ".join("v1," + base64.b64encode(_digest(each, signed)).decode() for each in secrets)


def verify(
    secrets: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now_ms: int,
    tolerance_ms: int = TOLERANCE_MS,
) -> str:
    """The `webhook-id` of a request, whose raw body and headers these are. `WebhookRefusedError`, which does not say
    why, unless one of the secrets signed it and its timestamp is not older, nor newer, than `tolerance_ms`.
    `InvalidKeyError` for a secret that is none.

    The same request may come twice within that time: keep the id, or let `app.webhooks.receiver` do so.
    """
    keys = [secrets] if isinstance(secrets, str) else list(secrets)
    for each in keys:
        read_secret(each)
    given = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not keys or not _ID.fullmatch(webhook_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookRefusedError
    if abs(int(timestamp) * 1000 - now_ms) > tolerance_ms:
        raise WebhookRefusedError
    signed = b"%s.%s.%s" % (webhook_id.encode(), timestamp.encode(), body)
    presented = [_read_signature(each) for each in given.get("webhook-signature", "").split(" ")[:_SIGNATURES_MAX]]
    matches = [
        hmac.compare_digest(_digest(key, signed), each) for key in keys for each in presented
    ]  # all of them: how long it takes tells nothing
    if not any(matches):
        raise WebhookRefusedError
    return webhook_id


def _digest(secret: str, signed: bytes) -> bytes:
    return hmac.digest(read_secret(secret), signed, hashlib.sha256)


def _read_signature(text: str) -> bytes:
    """Empty for another version's, and for what is none."""
    version, _, value = text.partition(",")
    try:
        return base64.b64decode(value, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""
