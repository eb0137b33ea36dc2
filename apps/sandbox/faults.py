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
SUBMISSIONS_MAX: Final = 100_000
GENERATION_S_MAX: Final = 86_400
RPC_CODE_MAX: Final = 16


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
    """`*_every: n` means every n-th call that came with an accepted key; None means never. Those of the last lines are
    for the makers of videos: there n counts submissions that were taken."""

    endpoint: str = ""
    """The one whose calls are counted and struck; empty: all."""
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
    submissions_per_minute: int | None = None
    generation_s: int | None = None
    filter_every: int | None = None
    fail_every: int | None = None
    fail_code: int = 13
    """gRPC's; 3 is INVALID_ARGUMENT, 13 INTERNAL, 14 UNAVAILABLE."""

    def __post_init__(self) -> None:
        """Hold the values against their limits."""
        _check("latency_ms", self.latency_ms, lowest=0, highest=LATENCY_MS_MAX)
        _check("latency_jitter_ms", self.latency_jitter_ms, lowest=0, highest=LATENCY_MS_MAX)
        _check("rate_limit_every", self.rate_limit_every, lowest=1, highest=EVERY_MAX)
        _check("retry_after_s", self.retry_after_s, lowest=0, highest=RETRY_AFTER_S_MAX)
        _check("error_every", self.error_every, lowest=1, highest=EVERY_MAX)
        _check("error_status", self.error_status, lowest=STATUS_MIN, highest=STATUS_MAX)
        _check("malformed_every", self.malformed_every, lowest=1, highest=EVERY_MAX)
        _check("submissions_per_minute", self.submissions_per_minute, lowest=1, highest=SUBMISSIONS_MAX)
        _check("generation_s", self.generation_s, lowest=0, highest=GENERATION_S_MAX)
        _check("filter_every", self.filter_every, lowest=1, highest=EVERY_MAX)
        _check("fail_every", self.fail_every, lowest=1, highest=EVERY_MAX)
        _check("fail_code", self.fail_code, lowest=1, highest=RPC_CODE_MAX)
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

    def take_turn(self, provider: str, endpoint: str) -> "Turn":
        """Count one call and say what befalls it."""
        faults = self.of(provider)
        if faults.endpoint not in ("", endpoint):
            return Turn(number=0, faults=faults, delay_s=0.0)
        number = self._turns.get(provider, 0) + 1
        self._turns[provider] = number
        return Turn(number=number, faults=faults, delay_s=self._delay_s(provider, faults, number))

    def _delay_s(self, provider: str, faults: Faults, number: int) -> float:
        jitter = random.Random(f"{self._seed}:{provider}:{number}").uniform(0, faults.latency_jitter_ms)
        return (faults.latency_ms + jitter) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One call's place in the provider's count, and what that brings; 0 for a call that is not counted."""

    number: int
    faults: Faults
    delay_s: float

    @property
    def is_rate_limited(self) -> bool:
        """Is this the n-th call that is turned away?"""
        return falls_on(self.number, self.faults.rate_limit_every)

    @property
    def is_failed(self) -> bool:
        """Is this the n-th call that breaks?"""
        return falls_on(self.number, self.faults.error_every)

    @property
    def malformation(self) -> Malformation | None:
        """Say how this answer is spoiled, the two ways in turn."""
        every = self.faults.malformed_every
        if every is None or not falls_on(self.number, every):
            return None
        return Malformation.TRUNCATED if (self.number // every) % 2 else Malformation.WRONG_SHAPE


def falls_on(number: int, every: int | None) -> bool:
    """Is this the n-th, counted from 1?"""
    return every is not None and number > 0 and number % every == 0
