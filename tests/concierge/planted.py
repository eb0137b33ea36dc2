"""A concierge whose one provider does whatever can go wrong, each time with the words of the message in its hands:
`conveyor work tests/concierge/planted.py:app`."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import warnings
from typing import Any

from conveyor_apps.concierge.errors import PermanentError, Reason, TemporaryError
from conveyor_apps.concierge.providers import Parcel, Taken
from conveyor_apps.concierge.safety import open_safety
from conveyor_apps.concierge.settings import Settings, read_settings
from conveyor_apps.concierge.wiring import Parts, build_concierge

FIRST = ["Ottoline", "Peregrin", "Quenby", "Zephyrine", "Ysolde", "Wolfrun", "Tancredi", "Sidonie", "Roswitha", "Philippus", "Oswin", "Nicodema", "Melusina", "Leocadia", "Kunigunde", "Jocasta", "Ignatia", "Hildegund", "Guntram", "Frideswide", "Engelbert", "Dorothea", "Cunobelin", "Balthasar", "Apollonia"]
LAST = ["Fernsby", "Thistlewood", "Ravenscroft", "Quillfeather", "Oakenshaw", "Nightingrove", "Marblethorpe", "Lindqvister", "Kestrelheim", "Juniperus", "Inglethwaite", "Hawkesmoor", "Gildersleeve", "Foxglover", "Elderwick", "Duskbury", "Crowhurst", "Brambleton", "Ashgrover", "Zimmerhold", "Yarrowfield", "Wintersham", "Velthoven", "Umberleigh", "Tattersfall"]
NAMES = [f"{first} {last}" for first, last in zip(FIRST, LAST, strict=True)]
ADDRESSES = [
    f"{first}.{last}@planted.example".lower() if number % 2 else f"+4915550{number:06}"
    for number, (first, last) in enumerate(zip(FIRST, LAST, strict=True))
]
PLANTED = [*NAMES, *ADDRESSES]
DEEDS = ("arrives", "refused", "fails once", "crashes", "never")


def deed_of(number: int) -> str:
    """What becomes of this one."""
    return DEEDS[number % len(DEEDS)]


class Clumsy:
    """Says all it knows, in every way there is."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def send_email(self, parcel: Parcel) -> Taken:
        return await self._send(parcel)

    async def send_sms(self, parcel: Parcel) -> Taken:
        return await self._send(parcel)

    async def _send(self, parcel: Parcel) -> Taken:
        recipient, content, whole = parcel.recipient, parcel.content, f"{parcel}"
        told = f"550 <{recipient}>: {content!r} ({parcel.subject}) {whole}"
        deed, is_first = parcel.message_id.split("-")[1], parcel.message_id not in self._seen
        self._seen.add(parcel.message_id)
        self._chatter(parcel, told)
        if deed == "refused":
            raise PermanentError(Reason.INVALID, told)
        if deed == "never" or (deed == "fails_once" and is_first):
            raise TemporaryError(told)
        if deed == "crashes":
            rows: list[dict[str, Any]] = [{"recipient": recipient, "content": content, "parcel": parcel}]
            raise RuntimeError(f"{rows} cannot be sent: {told}") from KeyError(recipient)
        return Taken(provider="clumsy", reference=f"ref-{parcel.message_id}")

    def _chatter(self, parcel: Parcel, told: str) -> None:
        """Libraries log, warn, and leave tasks and threads behind."""
        logging.getLogger("somelib").warning("sending to %s", parcel.recipient)
        logging.getLogger("somelib").error(told)
        logging.getLogger("concierge").warning(told)
        warnings.warn(told, stacklevel=1)
        lost = asyncio.get_running_loop().create_task(_fail(told))
        del lost
        thread = threading.Thread(target=_crash, args=(told,))
        thread.start()
        thread.join()

    async def status(self) -> list[dict[str, object]]:
        return [{"name": "clumsy", "channel": "email", "circuit": "closed"}]

    async def close(self) -> None:
        """Nothing is open."""


async def _fail(told: str) -> None:
    raise ValueError(told)


def _crash(told: str) -> None:
    raise ValueError(told)


async def open_clumsy(_settings: Settings, _limiter: object) -> Any:
    return Clumsy()


concierge = build_concierge(
    read_settings({**os.environ, "CONCIERGE_RETRY_MS": "20"}), parts=Parts(providers=open_clumsy, safety=open_safety)
)
app = concierge.app
