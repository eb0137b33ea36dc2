"""The providers of one channel, in order, each behind its circuit: who is asked, and who after him.

The rule for an attempt whose end nobody knows (the connection broke, or the process died, after all was said):

- first the provider is asked whether it has the message, if it can say so: at once, and before each other attempt;
- what goes at most once is never tried again: `UnknownError`, every time;
- anything else is tried again with the same provider and the same key, and with no other, however long that one is
  down. With `Unknown.FAIL_OVER` the next provider is tried at once; then a recipient may get it twice.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from conveyor_apps.concierge import clock
from conveyor_apps.concierge.errors import DeliveryError, PermanentError, TemporaryError, UnknownError
from conveyor_apps.concierge.words import Unknown

from .circuit import Circuit, Pass
from .marks import Mark, Marks
from .parcel import Parcel, Provider, Taken
from .trouble import ProviderBusyError, ProviderDownError, RestingError, say

PATIENCE_S: Final = 2.0
"""For so long an attempt stands in line for a turn of its provider's rate; then it makes room for others."""
AWAY_S: Final = 5.0
"""How long it stays away then."""
Take = Callable[[], Awaitable[float]]
"""One turn of a rate: 0, or how many seconds until there is one."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A provider, its circuit, and its rate if it has one."""

    provider: Provider
    circuit: Circuit
    take: Take | None = None


class Route:
    """Sends parcels of one channel."""

    def __init__(self, stops: Sequence[Stop], marks: Marks, *, unknown: Unknown = Unknown.SAME) -> None:
        self.stops = tuple(stops)
        self._marks = marks
        self._unknown = unknown

    async def send(self, parcel: Parcel) -> Taken:
        """`PermanentError`, `TemporaryError`, `UnknownError`."""
        mark = await self._marks.find(parcel.key)
        if mark is not None and (taken := mark.taken()) is not None:
            return taken  # the provider's answer was kept, and what came after it was lost
        stops = self.stops
        if mark is not None and mark.is_open:
            if (found := await self._ask_for(parcel, mark)) is not None:
                return found
            stops = self._after_unknown(parcel, mark)
        return await self._go_along(parcel, stops, mark)

    async def close(self) -> None:
        """Let go of connections."""
        for stop in self.stops:
            await stop.provider.close()

    async def _ask_for(self, parcel: Parcel, mark: Mark) -> Taken | None:
        """What the provider of an unknown end knows of it. What it said to another message is not this one."""
        stop = self._stop_of(mark)
        if stop is None:
            return None
        try:
            found = await stop.provider.find(parcel, mark.began_at)
        except DeliveryError:
            return None
        for taken in found:
            if not await self._marks.is_known(taken):
                await self._marks.end(mark, taken)
                return taken
        return None

    def _after_unknown(self, parcel: Parcel, mark: Mark) -> tuple[Stop, ...]:
        if parcel.once:
            raise UnknownError(say(mark.provider, "an earlier attempt may have been taken"))
        same = self._stop_of(mark)
        if same is None:
            return self.stops
        if self._unknown is Unknown.SAME:
            return (same,)
        return (same, *(each for each in self.stops if each is not same))

    def _stop_of(self, mark: Mark) -> Stop | None:
        return next((each for each in self.stops if each.provider.name == mark.provider), None)

    async def _go_along(self, parcel: Parcel, stops: Sequence[Stop], mark: Mark | None) -> Taken:
        failures: list[DeliveryError] = []
        waits: list[float] = []
        for stop in stops:
            leave = await self._enter(stop)
            if not isinstance(leave, Pass):
                waits.append(leave)
                continue
            try:
                mark = await self._begin(parcel, stop, leave, mark)
                return await self._try(parcel, stop, leave, mark)
            except (ProviderDownError, ProviderBusyError) as error:
                failures.append(error)
            except UnknownError as error:
                if parcel.once or self._unknown is Unknown.SAME:
                    raise
                failures.append(error)
            mark = await self._marks.find(parcel.key)
        raise _worst(failures, waits)

    async def _enter(self, stop: Stop) -> Pass | float:
        """Leave for one call: of the circuit first, so that a turn is taken only by who goes. Else the seconds to
        wait."""
        leave = await stop.circuit.enter()
        if not isinstance(leave, Pass) or stop.take is None:
            return leave
        try:
            wait_s = await _stand_in_line(stop.take)
        except BaseException:
            await stop.circuit.let_go(leave)
            raise
        if wait_s == 0:
            return leave
        await stop.circuit.let_go(leave)
        return max(wait_s, AWAY_S)

    async def _begin(self, parcel: Parcel, stop: Stop, leave: Pass, mark: Mark | None) -> Mark:
        try:
            begun = await self._marks.begin(parcel.key, stop.provider.name, mark)
        except BaseException:
            await stop.circuit.let_go(leave)
            raise
        if begun is None:
            await stop.circuit.let_go(leave)
            raise UnknownError(say(stop.provider.name, "somebody else has begun to send it"))
        return begun

    async def _try(self, parcel: Parcel, stop: Stop, leave: Pass, mark: Mark) -> Taken:
        """One call. Whatever leaves the mark open leaves it to be found."""
        circuit = stop.circuit
        try:
            taken = await stop.provider.send(parcel)
        except UnknownError:
            await circuit.failed(leave)
            found = await self._ask_for(parcel, mark)
            if found is None:
                raise
            return found
        except (PermanentError, TemporaryError) as error:
            if isinstance(error, ProviderDownError):
                await circuit.failed(leave)
            elif isinstance(error, ProviderBusyError):
                await circuit.rest(leave, error.after_s or 1.0)
            else:
                await circuit.worked(leave)
            await self._marks.end(mark, None)
            raise
        except BaseException:
            await circuit.let_go(leave)
            raise
        await circuit.worked(leave)
        await self._marks.end(mark, taken)
        return taken


async def _stand_in_line(take: Take) -> float:
    """0 with a turn; else the seconds until there may be one, after as much patience as there is."""
    until_s = clock.monotonic_s() + PATIENCE_S
    while (wait_s := await take()) > 0:
        if clock.monotonic_s() + wait_s > until_s:
            return wait_s
        await clock.pause(wait_s)
    return 0.0


def _worst(failures: Sequence[DeliveryError], waits: Sequence[float]) -> DeliveryError:
    """What the caller is told: what nobody knows, before what failed, before that nobody was asked. The wait is the
    shortest of all, since any of them may be the one that takes it."""
    for failure in failures:
        if isinstance(failure, UnknownError):
            return failure
    if not failures:
        return RestingError(max(1.0, min(waits, default=60.0)))
    last = failures[-1]
    known = [each.after_s for each in failures if isinstance(each, TemporaryError) and each.after_s is not None]
    if isinstance(last, TemporaryError):
        last.after_s = min([*known, *waits]) if len(known) == len(failures) else None
    return last
