"""Signatures, held to the reference library of Standard Webhooks."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from conveyor.model.beside import WebhookRefusedError
from conveyor.model.errors import InvalidKeyError
from conveyor.webhooks import make_secret, verify
from conveyor.webhooks.signing import sign

NOW_MS = 1_767_268_800_000
BODY = b'{"type":"order.paid","data":{"n":1}}'


def signed(secret: str, *, webhook_id: str = "msg_1", at_s: int = NOW_MS // 1000, body: bytes = BODY) -> dict[str, str]:
    """As the reference library signs."""
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(at_s, UTC), body.decode())
    return {"Webhook-Id": webhook_id, "webhook-timestamp": str(at_s), "webhook-signature": signature}


def test_what_the_reference_signs_is_verified() -> None:
    secret = make_secret()
    assert verify(secret, signed(secret), BODY, now_ms=NOW_MS) == "msg_1"


@pytest.mark.parametrize("size", [24, 64])
def test_we_sign_as_the_reference_does(size: int) -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(size))).decode()
    assert sign([secret], "msg_1", NOW_MS // 1000, BODY) == signed(secret)["webhook-signature"]


def test_during_a_rotation_either_secret_verifies() -> None:
    old, new = make_secret(), make_secret()
    headers = signed(old) | {"webhook-signature": sign([new, old], "msg_1", NOW_MS // 1000, BODY)}
    for kept in (old, new, [new, old]):
        assert verify(kept, headers, BODY, now_ms=NOW_MS) == "msg_1"
    assert verify([new, old], signed(old), BODY, now_ms=NOW_MS) == "msg_1"


@pytest.mark.parametrize("seconds", [-300, 300])
def test_the_window_goes_both_ways(seconds: int) -> None:
    secret = make_secret()
    at_s = NOW_MS // 1000 + seconds
    assert verify(secret, signed(secret, at_s=at_s), BODY, now_ms=NOW_MS)
    with pytest.raises(WebhookRefusedError):
        verify(secret, signed(secret, at_s=at_s + (1 if seconds > 0 else -1)), BODY, now_ms=NOW_MS)


SECRET = make_secret()


@pytest.mark.parametrize(
    "changed",
    [
        {"Webhook-Id": "msg_2"},
        {"Webhook-Id": ""},
        {"Webhook-Id": "msg 1"},
        {"Webhook-Id": "m" * 201},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "-1767268800"},
        {"webhook-timestamp": "1767268800.5"},
        {"webhook-timestamp": "９"},  # noqa: RUF001 a digit to `str.isdigit`
        {"webhook-timestamp": "9" * 5_000},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,!"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v2," + signed(SECRET)["webhook-signature"][3:]},
        {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        {"webhook-signature": signed(make_secret())["webhook-signature"]},
    ],
)
def test_anything_else_is_refused_without_a_word(changed: dict[str, str]) -> None:
    with pytest.raises(WebhookRefusedError) as caught:
        verify(SECRET, signed(SECRET) | changed, BODY, now_ms=NOW_MS)
    assert str(caught.value) == str(WebhookRefusedError())


def test_the_exact_bytes_are_signed() -> None:
    for body in (BODY + b" ", b'{"data":{"n":1},"type":"order.paid"}', b""):
        with pytest.raises(WebhookRefusedError):
            verify(SECRET, signed(SECRET), body, now_ms=NOW_MS)
    with pytest.raises(WebhookRefusedError):
        verify(SECRET, {}, BODY, now_ms=NOW_MS)
    with pytest.raises(WebhookRefusedError):
        verify([], signed(SECRET), BODY, now_ms=NOW_MS)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "whsec_" + base64.b64encode(bytes(23)).decode(), "whsec_" + base64.b64encode(bytes(65)).decode()])
def test_a_weak_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        verify(secret, signed(SECRET), BODY, now_ms=NOW_MS)
    assert secret in ("", "whsec_") or secret not in str(caught.value)


@pytest.mark.parametrize(("others", "is_good"), [(9, True), (10, False)])
def test_of_many_signatures_ten_are_looked_at(others: int, is_good: bool) -> None:
    headers = signed(SECRET)
    headers["webhook-signature"] = "v1,AAAA " * others + headers["webhook-signature"]
    if is_good:
        assert verify(SECRET, headers, BODY, now_ms=NOW_MS)
    else:
        with pytest.raises(WebhookRefusedError):
            verify(SECRET, headers, BODY, now_ms=NOW_MS)
