"""What a worker and its child processes say to each other: length-prefixed msgpack of typed structs, and records of
17 bytes between a worker and the zygote that makes its runners."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

from conveyor.model.message import Lease
from conveyor.model.settings import ConsumerSettings
from conveyor.queue.outcome import Outcome

_LENGTH: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<cqq")
RECORD_BYTES: Final = _RECORD.size

FORK: Final = b"F"
"""worker to zygote: make a runner."""
RUNNER: Final = b"R"
"""zygote to worker: a runner is ready, here is its pid and (as ancillary data) the socket to it."""
DIED: Final = b"D"
"""zygote to worker: the runner of this pid is dead, here is its wait status."""
KILL: Final = b"K"
"""worker to zygote: kill the runner of this pid, if it is still one."""


class ChildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One handler call."""

    queue: str
    owner: int
    leases: list[Lease]
    settings: ConsumerSettings
    chance: float
    """For jitter; children draw no random numbers."""


class Crashed(msgspec.Struct, frozen=True):
    """The child died of the call."""

    detail: str
    """`killed by signal 9`."""


class ChildUnusable(msgspec.Struct, frozen=True):
    """No child could be started: not the message's fault."""

    detail: str


Answer: TypeAlias = Outcome | Crashed | ChildUnusable


class Isolation(Protocol):
    """Somewhere else to run handler calls, where their death harms nobody."""

    @property
    def size(self) -> int:
        """Calls at once."""
        ...

    async def run(self, request: ChildRequest) -> Answer:
        """One call; cancelling it kills its child."""
        ...

    async def close(self) -> None: ...


class Record(NamedTuple):
    kind: bytes
    pid: int = 0
    status: int = 0

    def encode(self) -> bytes:
        return _RECORD.pack(*self)

    @classmethod
    def decode(cls, raw: bytes) -> Record:
        return cls(*_RECORD.unpack(raw))


encode_request: Final = msgspec.msgpack.Encoder().encode
decode_request: Final = msgspec.msgpack.Decoder(ChildRequest).decode
encode_outcome: Final = msgspec.msgpack.Encoder().encode
decode_outcome: Final = msgspec.msgpack.Decoder(Outcome).decode

LENGTH_BYTES: Final = _LENGTH.size


def frame(payload: bytes) -> bytes:
    """The payload behind its length."""
    return _LENGTH.pack(len(payload)) + payload


def read_length(raw: bytes) -> int:
    length: int = _LENGTH.unpack(raw)[0]
    return length


def receive_frame(connection: socket.socket) -> bytes | None:
    """Wait for the next payload; None when the other side is gone."""
    head = _receive(connection, LENGTH_BYTES)
    return None if head is None else _receive(connection, read_length(head))


def _receive(connection: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
