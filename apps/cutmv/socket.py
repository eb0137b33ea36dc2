"""The WebSocket: a browser names the orders that it watches and what it has seen of them, and is sent what follows.

It sends `{"watch": [{"order": ID, "after": SEQ}]}`, in messages of 4,096 bytes at most, as often as it
likes. It is sent events as `orders` writes them, each with `order` and `seq`; where events are no longer kept,
`{"snapshot": ORDER}`; for an order that is not there, `{"gone": ID}`.
"""

import asyncio
import contextlib
from typing import Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from .hub import WATCHED_MAX, Mailbox
from .room import Room

BEAT_S: Final = 15.0
"""Where nothing happens, a sign of life so often."""
TRY_AGAIN_LATER: Final = 1013
POLICY: Final = 1008


class Watched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One order, and the latest event that the browser has of it."""

    order: str
    after: int = 0


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a browser says."""

    watch: list[Watched]


async def watch(socket: WebSocket, room: Room) -> None:
    """One browser, until it leaves or falls behind."""
    origin = socket.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != socket.headers.get("host"):
        await socket.close(POLICY)  # before the handshake: 403
        return
    await socket.accept()
    mailbox = room.hub.open()
    talking = asyncio.create_task(_send(socket, mailbox))
    listening = asyncio.create_task(_listen(socket, room, mailbox))
    try:
        await asyncio.wait({talking, listening}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        room.hub.close(mailbox)
        for task in (talking, listening):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await asyncio.gather(talking, listening)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(TRY_AGAIN_LATER)


async def _listen(socket: WebSocket, room: Room, mailbox: Mailbox) -> None:
    while True:
        try:
            said = msgspec.json.decode(await socket.receive_text(), type=Watch)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            return
        for each in said.watch[:WATCHED_MAX]:
            if not room.hub.watch(mailbox, each.order):
                return
            missed = await room.orders.events_after(each.order, each.after)
            if not missed and await room.orders.view(each.order) is None:
                await socket.send_text(msgspec.json.encode({"gone": each.order}).decode())
            mailbox.release(each.order, [(each.order, seq, text) for seq, text in missed])


async def _send(socket: WebSocket, mailbox: Mailbox) -> None:
    seen: dict[str, int] = {}
    while True:
        try:
            async with asyncio.timeout(BEAT_S):
                letter = await mailbox.letters.get()
        except TimeoutError:
            await socket.send_text('{"beat": true}')
            continue
        if letter is None:
            return
        order, seq, text = letter
        if seq > seen.get(order, 0):  # what was missed and what is new may overlap
            seen[order] = seq
            await socket.send_text(text)
