"""All providers together: a route for each channel."""

from collections.abc import Mapping
from typing import Protocol

from conveyor_apps.concierge.errors import TemporaryError
from conveyor_apps.concierge.words import Channel

from .parcel import Parcel, Taken
from .route import Route, Stop


class DeliveryService(Protocol):
    """All providers together: fail-over and circuit breakers are behind it."""

    async def send_email(self, parcel: Parcel) -> Taken:
        """`PermanentError`, `TemporaryError`, `UnknownError`; `RestingError` and `ProviderBusyError` are temporary
        ones that should cost no attempt."""
        ...

    async def send_sms(self, parcel: Parcel) -> Taken:
        """As `send_email`."""
        ...

    async def status(self) -> list[dict[str, object]]:
        """Each provider, for `/debug/queue-status`: name, channel, how its circuit stands."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Routes:
    """A `DeliveryService` of routes; `keeping` closes what their marks lie in."""

    def __init__(self, routes: Mapping[Channel, Route], *, keeping: "Keeping | None" = None) -> None:
        self._routes = dict(routes)
        self._keeping = keeping

    async def send_email(self, parcel: Parcel) -> Taken:
        """`PermanentError`, `TemporaryError`, `UnknownError`."""
        return await self._route(Channel.EMAIL).send(parcel)

    async def send_sms(self, parcel: Parcel) -> Taken:
        """`PermanentError`, `TemporaryError`, `UnknownError`."""
        return await self._route(Channel.SMS).send(parcel)

    async def status(self) -> list[dict[str, object]]:
        """Each provider, in the order in which they are asked."""
        return [await _shown(channel, stop) for channel, route in self._routes.items() for stop in route.stops]

    async def close(self) -> None:
        """Let go of connections, and close the marks."""
        try:
            for route in self._routes.values():
                await route.close()
        finally:
            if self._keeping is not None:
                await self._keeping.close()

    def _route(self, channel: Channel) -> Route:
        route = self._routes.get(channel)
        if route is None or not route.stops:
            raise TemporaryError(f"no provider carries messages by {channel}: see the settings")
        return route


async def _shown(channel: Channel, stop: Stop) -> dict[str, object]:
    standing, wait_s = await stop.circuit.look()
    return {
        "name": stop.provider.name, "channel": channel.value, "circuit": standing.value, "wait_s": round(wait_s, 1),
    }  # fmt: skip


class Keeping(Protocol):
    """Where marks lie."""

    async def close(self) -> None:
        """Close it."""
        ...
