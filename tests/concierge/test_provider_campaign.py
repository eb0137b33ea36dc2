"""A campaign: many messages through routes while providers refuse, drop, dawdle and are cut off, and attempts die.

`pytest tests/concierge/test_provider_campaign.py -m campaign -s`
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from conveyor_apps.concierge.errors import DeliveryError, PermanentError, TemporaryError, UnknownError
from conveyor_apps.concierge.providers import DeliveryService, Parcel, Taken
from conveyor_apps.concierge.providers.opening import open_providers
from conveyor_apps.concierge.words import Channel

from .posting import PostOffice, email_to, no_limiter, open_post_office, text_to

pytestmark = [pytest.mark.anyio, pytest.mark.campaign]

MESSAGES = 1_000
AT_ONCE = 20
ATTEMPTS_MAX = 60
KILLED = 0.05
"""Of the attempts."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def trouble(office: PostOffice) -> None:
    """A day on which much goes wrong."""
    office.strike(
        "smtp",
        {"recipient": "nobody*", "refuse": 550},
        {"refuse": 421, "every": 17}, {"refuse": 451, "every": 11}, {"drop": True, "every": 13},
        {"delay_ms": 2_500, "every": 90},
    )  # fmt: skip
    office.strike(
        "resend", {"recipient": "nobody*", "refuse": 422, "name": "validation_error"}, {"drop": True, "every": 7},
        {"refuse": 500, "name": "application_error", "every": 9},
    )  # fmt: skip
    office.strike(
        "twilio", {"recipient": "+4900*", "refuse": 21610}, {"drop": True, "every": 13}, {"refuse": 20429, "every": 15},
        {"refuse": 30003, "every": 12},
    )  # fmt: skip


def messages() -> list[Parcel]:
    found = []
    for number in range(MESSAGES):
        key, once, wrong = f"m{number}.1", number % 3 == 0, number % 20 == 1
        if number % 2:
            found.append(email_to(f"{'nobody' if wrong else 'b'}{number}@x.test", key, once=once))
        else:
            wrong = number % 20 == 2
            phone = f"+49{'00' if wrong else '17'}{number:07}"
            found.append(text_to(phone, key, once=once, content=f"Bis morgen, {number}."))
    return found


class Sender:
    """Tries one message until it comes to an end, as a queue does, some attempts being killed."""

    def __init__(self, service: DeliveryService, seed: int) -> None:
        self._service = service
        self._dice = random.Random(seed)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.ends: dict[str, list[str]] = {}
        self.attempts = 0
        self.killed = 0

    async def send(self, parcel: Parcel) -> None:
        for _ in range(ATTEMPTS_MAX):
            async with self._turns:
                end = await self._attempt(parcel)
            if end:
                self.ends.setdefault(parcel.key, []).append(end)
                return
            await asyncio.sleep(self._dice.uniform(0.2, 0.6))
        self.ends.setdefault(parcel.key, []).append("given up")

    async def _attempt(self, parcel: Parcel) -> str | None:
        self.attempts += 1
        send = self._service.send_sms if parcel.channel is Channel.SMS else self._service.send_email
        task = asyncio.create_task(send(parcel))
        if self._dice.random() < KILLED:
            self.killed += 1
            await asyncio.sleep(self._dice.uniform(0, 0.05))
            task.cancel()
        try:
            taken: Taken = await task
        except asyncio.CancelledError:
            return "unknown" if parcel.once else None  # as a queue that finds `sending`, and a mark
        except PermanentError as error:
            return f"never: {error.reason}"
        except UnknownError:
            return "unknown" if parcel.once else None
        except TemporaryError:
            return None
        return f"taken by {taken.provider}"


async def test_nothing_that_goes_at_most_once_comes_twice(tmp_path: Path) -> None:
    with open_post_office(tmp_path) as office:
        trouble(office)
        service = await open_providers(office.but(timeout_s=2, circuit_failures=8, circuit_open_s=1), no_limiter)
        sender, parcels, began = Sender(service, seed=7), messages(), time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for parcel in parcels:
                    group.create_task(sender.send(parcel))
        finally:
            with contextlib.suppress(DeliveryError):
                await service.close()
        took_s = time.perf_counter() - began
        came = count_by_recipient(office)
        duplicates = office.duplicates()
    ends = Counter(end for [end] in sender.ends.values())
    print(f"\n{MESSAGES} messages, {sender.attempts} attempts, {sender.killed} killed, {took_s:.1f} s: {dict(ends)}")  # noqa: T201  # the figures
    print(f"twice or more: { {name: len(each) for name, each in duplicates.items()} }")  # noqa: T201  # the figures
    assert len(sender.ends) == MESSAGES
    check(parcels, sender.ends, came)
    assert duplicates["resend"] == {}


def count_by_recipient(office: PostOffice) -> Counter[str]:
    found = [each for name in ("smtp", "resend", "twilio") for each in office.accepted(name)]
    return Counter(recipient for each in found for recipient in each["recipients"])


def check(parcels: Sequence[Parcel], ends: dict[str, list[str]], came: Counter[str]) -> None:
    for parcel in parcels:
        [end] = ends[parcel.key]
        count = came[parcel.recipient]
        assert end != "given up", parcel
        if end.startswith("taken"):
            assert count >= 1, (parcel, end)
        if end.startswith("never"):
            assert count == 0, (parcel, end)
        if parcel.once:
            assert count <= 1, (parcel, end, count)
