"""What can be made to go wrong: one set of faults per provider, and the deterministic count of whose turn it is."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

import msgspec

from .errors import SandboxSettingError

LATENCY_MS_MAX: Final = 600_000
EVERY_MAX: Final = 1_000_000
RETRY_AFTER_S_MAX: Final = 86_400
STATUS_MIN: Final = 400
STATUS_MAX: Final = 599
MOVIE_IDS_MAX: Final = 1_000


class RateLimitKind(StrEnum):
    """What a 429 means: wait a moment, or the plan's quota is used up (Brave tells them apart)."""

    RATE = "rate"
    QUOTA = "quota"


class Malformation(StrEnum):
    """The two ways an answer with status 200 can still be useless."""

    TRUNCATED = "truncated"
    WRONG_SHAPE = "wrong_shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """`*_every: n` means every n-th call that came with an accepted key; None means never."""

    latency_ms: int = 0
    latency_jitter_ms: int = 0
    rate_limit_every: int | None = None
    rate_limit_kind: RateLimitKind = RateLimitKind.RATE
    retry_after_s: int = 1
    error_every: int | None = None
    error_status: int = 500
    malformed_every: int | None = None
    fail_movie_ids: tuple[int, ...] = ()
    gone_movie_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Hold the values against their limits."""
        _check("latency_ms", self.latency_ms, lowest=0, highest=LATENCY_MS_MAX)
        _check("latency_jitter_ms", self.latency_jitter_ms, lowest=0, highest=LATENCY_MS_MAX)
        _check("rate_limit_every", self.rate_limit_every, lowest=1, highest=EVERY_MAX)
        _check("retry_after_s", self.retry_after_s, lowest=0, highest=RETRY_AFTER_S_MAX)
        _check("error_every", self.error_every, lowest=1, highest=EVERY_MAX)
        _check("error_status", self.error_status, lowest=STATUS_MIN, highest=STATUS_MAX)
        _check("malformed_every", self.malformed_every, lowest=1, highest=EVERY_MAX)
        for name in ("fail_movie_ids", "gone_movie_ids"):
            _check(f"len({name})", len(getattr(self, name)), lowest=0, highest=MOVIE_IDS_MAX)


def _check(name: str, value: int | None, *, lowest: int, highest: int) -> None:
    if value is not None and not lowest <= value <= highest:
        raise SandboxSettingError(name, problem=f"is {value}", hint=f"give a number from {lowest} to {highest}")


def read_faults(body: bytes | str) -> Faults:
    """Read faults from JSON; a name nobody knows is an error, so that a typing slip is not a silent calm."""
    try:
        raw = msgspec.json.decode(body, type=dict[str, object])
        return faults_of(raw)
    except msgspec.DecodeError as error:
        raise SandboxSettingError("faults", problem=f"cannot be read: {error}") from error


def faults_of(raw: Mapping[str, object]) -> Faults:
    """Build faults from plain values."""
    known = [field.name for field in fields(Faults)]
    for name in raw:
        if name not in known:
            raise SandboxSettingError(name, problem="is no fault", hint="faults are: " + ", ".join(known))
    try:
        return msgspec.convert(raw, Faults)
    except msgspec.ValidationError as error:
        raise SandboxSettingError("faults", problem=f"cannot be read: {error}") from error


class FaultBook:
    """Holds each provider's faults and counts its turns; new faults start the count anew."""

    def __init__(self, start: Mapping[str, Faults], *, seed: int) -> None:
        self._start = dict(start)
        self._seed = seed
        self._faults = dict(start)
        self._turns: dict[str, int] = {}

    def of(self, provider: str) -> Faults:
        """Look up the faults in force."""
        return self._faults.get(provider, Faults())

    def put(self, provider: str, faults: Faults) -> None:
        """Replace the provider's faults as a whole."""
        self._faults[provider] = faults
        self._turns[provider] = 0

    def clear(self, provider: str) -> None:
        """Calm the provider: no faults at all, also none of those given at start."""
        self.put(provider, Faults())

    def take_turn(self, provider: str) -> "Turn":
        """Count one call and say what befalls it."""
        number = self._turns.get(provider, 0) + 1
        self._turns[provider] = number
        faults = self.of(provider)
        return Turn(number=number, faults=faults, delay_s=self._delay_s(provider, faults, number))

    def _delay_s(self, provider: str, faults: Faults, number: int) -> float:
        jitter = random.Random(f"{self._seed}:{provider}:{number}").uniform(0, faults.latency_jitter_ms)
        return (faults.latency_ms + jitter) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One call's place in the provider's count, and what that brings."""

    number: int
    faults: Faults
    delay_s: float

    @property
    def is_rate_limited(self) -> bool:
        """Is this the n-th call that is turned away?"""
        return _falls_on(self.number, self.faults.rate_limit_every)

    @property
    def is_failed(self) -> bool:
        """Is this the n-th call that breaks?"""
        return _falls_on(self.number, self.faults.error_every)

    @property
    def malformation(self) -> Malformation | None:
        """Say how this answer is spoiled, the two ways in turn."""
        every = self.faults.malformed_every
        if every is None or self.number % every:
            return None
        return Malformation.TRUNCATED if (self.number // every) % 2 else Malformation.WRONG_SHAPE


def _falls_on(number: int, every: int | None) -> bool:
    return every is not None and number % every == 0
