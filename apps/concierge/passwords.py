"""Passwords: Argon2id as OWASP asks for (19 MiB, two passes), in the text form that other tools read too."""

import asyncio
import secrets
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from .errors import FieldError

LENGTH_MIN: Final = 12
LENGTH_MAX: Final = 200
MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
AT_ONCE: Final = 2
"""A hash costs memory and a tenth of a second: no more are made at a time."""


def check_password(password: str) -> None:
    """`FieldError`."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise FieldError("password", f"must have {LENGTH_MIN} to {LENGTH_MAX} characters")


def hash_password(password: str) -> str:
    """`$argon2id$…`."""
    argon = Argon2id(
        salt=secrets.token_bytes(16), length=32, iterations=PASSES, lanes=1, memory_cost=MEMORY_KIB
    )
    return argon.derive_phc_encoded(password.encode())


def is_password(password: str, hashed: str) -> bool:
    """Whether this is the one."""
    try:
        Argon2id.verify_phc_encoded(password[:LENGTH_MAX].encode(), hashed)
    except InvalidKey:
        return False
    return True


class Hasher:
    """Hashes in threads, a few at a time."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._nobody = ""

    async def hash(self, password: str) -> str:
        """`$argon2id$…`."""
        async with self._slots:
            return await asyncio.to_thread(hash_password, password)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether this is the one; it takes as long where there is nobody to compare with."""
        async with self._slots:
            if not self._nobody:
                self._nobody = await asyncio.to_thread(hash_password, secrets.token_hex(16))
            return await asyncio.to_thread(is_password, password, hashed or self._nobody) and hashed is not None
