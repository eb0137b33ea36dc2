"""Tells apps what became of a message, as the providers do: signed, by real HTTP, and again if nobody takes it."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode, urlsplit

import httpx2
import msgspec

from conveyor_apps.sandbox.clock import wall_s
from conveyor_apps.sandbox.gate import Sleep

WAITS_S: Final = (0.0, 0.5, 2.0, 5.0)
"""Before each attempt to tell it."""
TIMEOUT_S: Final = 10.0
KEPT_MAX: Final = 10_000
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what every secret begins with


class Telling(msgspec.Struct, kw_only=True):
    """One thing that was told, or tried to be."""

    url: str
    about: str
    """The message's id."""
    event: str
    statuses: list[int]
    """Of the attempts; 0 where nobody answered."""
    is_taken: bool = False
    """The last of them was 2xx."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One POST."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    about: str
    event: str


class Courier:
    """Posts to loopback alone."""

    def __init__(self, sleep: Sleep, *, delay_s: float) -> None:
        self._sleep = sleep
        self._delay_s = delay_s
        self._client: httpx2.AsyncClient | None = None
        self._rounds: set[asyncio.Task[None]] = set()
        self.told: deque[Telling] = deque(maxlen=KEPT_MAX)

    def tell(self, calls: Sequence[Call], *, delay_s: float | None = None) -> None:
        """Post these, one after the other, a little later."""
        task = asyncio.get_running_loop().create_task(self._go_round(calls, delay_s))
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)

    async def close(self) -> None:
        """Drop what was not told yet."""
        rounds = list(self._rounds)
        for task in rounds:
            task.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _go_round(self, calls: Sequence[Call], delay_s: float | None) -> None:
        await self._sleep(self._delay_s if delay_s is None else delay_s)
        for call in calls:
            telling = Telling(url=call.url, about=call.about, event=call.event, statuses=[])
            self.told.append(telling)
            for wait_s in WAITS_S:
                if wait_s:
                    await self._sleep(wait_s)
                status = await self._post(call)
                telling.statuses.append(status)
                telling.is_taken = 200 <= status < 300
                if telling.is_taken or status == 410:
                    break

    async def _post(self, call: Call) -> int:
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)
        try:
            return (await self._client.post(call.url, content=call.body, headers=dict(call.headers))).status_code
        except httpx2.HTTPError:
            return 0


def is_callable(url: str) -> bool:
    """Say whether the sandbox may post there: to this machine and nowhere else."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"} or parts.username is not None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sign_twilio(url: str, fields: Mapping[str, str], *, token: str) -> str:
    """Write `X-Twilio-Signature`: the URL, then names and values in the order of the names, HMAC-SHA1 by the token."""
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), hashlib.sha1)).decode()


def twilio_call(url: str, fields: Mapping[str, str], *, token: str) -> Call:
    """Build a status callback."""
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "user-agent": "TwilioProxy/1.1",
        "x-twilio-signature": sign_twilio(url, fields, token=token),
    }
    about, event = fields["MessageSid"], fields["MessageStatus"]
    return Call(url=url, headers=headers, body=urlencode(fields).encode(), about=about, event=event)


def svix_call(url: str, secret: str, *, call_id: str, event: str, about: str, body: bytes) -> Call:
    """Build a webhook as Svix signs it; its id stays the same at every attempt."""
    timestamp = str(wall_s())
    signed = f"{call_id}.{timestamp}.".encode() + body
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    headers = {
        "content-type": "application/json",
        "user-agent": "Svix-Webhooks/1.24",
        "svix-id": call_id,
        "svix-timestamp": timestamp,
        "svix-signature": f"v1,{signature}",
    }
    return Call(url=url, headers=headers, body=body, about=about, event=event)
