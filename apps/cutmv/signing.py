"""Signed webhooks between worker and server, as Standard Webhooks has them: `v1,` and the HMAC-SHA256 of
`id.timestamp.body`."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from . import clock
from .errors import SettingError

PREFIX: Final = "whsec_"
TOLERANCE_S: Final = 300


def read_secret(text: str) -> bytes:
    """The key of `whsec_...`. `SettingError`, which does not repeat it."""
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise SettingError("environment: `CUTMV_WEBHOOK_SECRET` must be `whsec_` and 24 to 64 bytes in base64")
    return key


def kept_secret(path: Path) -> bytes:
    """The secret that the processes of one machine share; the first to come makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        made = path.with_suffix(f".{secrets.token_hex(4)}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(PREFIX.encode() + base64.b64encode(secrets.token_bytes(32)))
        try:
            os.link(made, path)  # whole, and only if nobody was faster
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return read_secret(path.read_text(encoding="ascii"))


def sign(secret: bytes, body: bytes) -> dict[str, str]:
    """The headers of a request with this body, sent now."""
    webhook_id, timestamp = f"msg_{secrets.token_hex(12)}", str(clock.now_ms() // 1000)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(_digest(secret, webhook_id, timestamp, body)).decode(),
    }


def is_signed(secret: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether whoever knows the secret wrote this, within the last five minutes."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (webhook_id.isascii() and timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(int(timestamp) - clock.now_ms() / 1000) > TOLERANCE_S:
        return False
    wanted = _digest(secret, webhook_id, timestamp, body)
    found = False
    for each in headers.get("webhook-signature", "").split(" ")[:5]:
        version, _, value = each.partition(",")
        try:
            given = base64.b64decode(value, validate=True) if version == "v1" else b""
        except (binascii.Error, ValueError):
            given = b""
        found |= hmac.compare_digest(given, wanted)
    return found


def _digest(secret: bytes, webhook_id: str, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(secret, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
