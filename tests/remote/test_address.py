"""What a `cloudflare://` URL may say, and what it must not."""

from __future__ import annotations

import pytest

from conveyor.model.errors import InvalidDurationError, InvalidSettingError
from conveyor.remote.address import read_address, read_token

ACCOUNT = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLOUDFLARE_API_TOKEN", "CONVEYOR_TOKEN", "CLOUDFLARE_API_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_cloudflare_is_what_is_meant() -> None:
    address = read_address(f"cloudflare://{ACCOUNT}/orders")
    assert (address.account_id, address.queue) == (ACCOUNT, "orders")
    assert address.base == "https://api.cloudflare.com/client/v4"
    assert address.shown == f"cloudflare://{ACCOUNT}/orders"


def test_another_conveyor_takes_any_account_and_options() -> None:
    address = read_address("cloudflare://far?api=https://queues.example.com&lease=10m&patience=5")
    assert address.base == "https://queues.example.com/client/v4"
    assert (address.queue, address.lease_ms, address.patience_s) == (None, 600_000, 5.0)
    assert len(address.account_id) == 32
    assert address.shown == "cloudflare://far?api=https://queues.example.com"


def test_the_base_comes_from_wranglers_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_BASE_URL", "http://127.0.0.1:8787/client/v4")
    assert read_address("cloudflare://far/orders").base == "http://127.0.0.1:8787/client/v4"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("cloudflare://", "names no account"),
        ("cloudflare://a b/orders", "names no account"),
        (f"cloudflare://{ACCOUNT}/one/two", "no queue that can be"),
        ("cloudflare://short/orders", "32 hex digits"),
        (f"cloudflare://{ACCOUNT}?leese=5m", "`leese` is no option"),
        (f"cloudflare://{ACCOUNT}?api=ftp://x", "no address of an API"),
        (f"cloudflare://{ACCOUNT}?api=http://queues.example.com", "whole network"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, words: str) -> None:
    with pytest.raises(InvalidSettingError, match=words):
        read_address(url)


def test_plain_http_must_be_said() -> None:
    address = read_address("cloudflare://far?api=http://conveyor:8787&plain=yes")
    assert address.base == "http://conveyor:8787/client/v4"


@pytest.mark.parametrize("lease", ["0", "13h", "soon"])
def test_a_lease_has_bounds(lease: str) -> None:
    with pytest.raises(InvalidDurationError):
        read_address(f"cloudflare://{ACCOUNT}?lease={lease}")


def test_a_token_does_not_belong_into_the_url() -> None:
    with pytest.raises(InvalidSettingError) as caught:
        read_address(f"cloudflare://secret-token@{ACCOUNT}/orders")
    assert "secret-token" not in str(caught.value)


def test_a_conveyors_token_is_never_shown_to_cloudflare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_TOKEN", "ours")
    cloudflare, far = read_address(f"cloudflare://{ACCOUNT}"), read_address("cloudflare://far?api=https://q.example.com")
    assert read_token(far) == "ours"
    with pytest.raises(InvalidSettingError, match="CLOUDFLARE_API_TOKEN"):
        read_token(cloudflare)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "theirs")
    assert (read_token(cloudflare), read_token(far)) == ("theirs", "ours")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "with\nbreak")
    with pytest.raises(InvalidSettingError) as caught:
        read_token(cloudflare)
    assert "break" not in str(caught.value)
