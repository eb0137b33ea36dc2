"""Endpoints: who is told of what. Documents of the store, with their secrets sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec
from msgspec.structs import replace

from conveyor.model.beside import EndpointExistsError, EndpointNotFoundError
from conveyor.model.duration import DAY_MS
from conveyor.model.errors import ConflictError, InvalidSettingError, VersionConflictError
from conveyor.secrets import Keys, Sealed
from conveyor.store.protocol import Store
from conveyor.webhooks.signing import make_secret, read_secret
from conveyor.webhooks.targets import Policy, check_url

KIND: Final = "webhook"
OVERLAP_MS: Final = DAY_MS
"""How long a former secret signs beside its successor."""
OVERLAP_MS_MAX: Final = 30 * DAY_MS
DISABLE_MS: Final = 5 * DAY_MS
EVENT_CHARS_MAX: Final = 128
FILTERS_MAX: Final = 100
ENDPOINTS_MAX: Final = 10_000
"""That may be made by hand; those of apps count, too."""
_PAGE: Final = 1_000


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as it is kept."""

    sealed: Sealed
    until: int | None = None
    """A former one signs until then."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A URL of somebody else's, and what it is told."""

    id: str
    app: str
    url: str
    events: tuple[str, ...]
    """Patterns: `order.*`."""
    description: str
    secrets: tuple[Kept, ...]
    """The present one first."""
    created_at: int
    failing_since: int | None = None
    """Since then no delivery was taken."""
    disabled: str | None = None
    """Why it is called no more."""
    disabled_at: int | None = None

    def wants(self, event: str) -> bool:
        """Whether it is told of such an event."""
        return any(fnmatchcase(event, pattern) for pattern in self.events)


Change = Callable[[Endpoint], Endpoint]


class Endpoints:
    """Those of a store. `keys` seal and open their secrets."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def add(
        self,
        app: str,
        url: str,
        *,
        policy: Policy,
        events: Sequence[str] = ("*",),
        secret: str | None = None,
        description: str = "",
    ) -> Endpoint:
        """A new one. `EndpointExistsError`, `WebhookTargetError`, `InvalidKeyError`."""
        endpoint_id = id_of(app, check_url(url, policy))
        endpoint = Endpoint(
            id=endpoint_id,
            app=app,
            url=url,
            events=check_events(events),
            description=description,
            secrets=(self._seal(endpoint_id, secret),),
            created_at=self._store.clock.now_ms(),
        )
        try:
            await self._store.put_document(KIND, endpoint_id, msgspec.json.encode(endpoint), version=0)
        except VersionConflictError:
            raise EndpointExistsError(endpoint_id) from None
        return endpoint

    async def check_room(self) -> None:
        """Before one is made by hand. `ConflictError` if there are `ENDPOINTS_MAX`."""
        if len(await self._store.list_documents(KIND, limit=ENDPOINTS_MAX)) >= ENDPOINTS_MAX:
            raise ConflictError(
                f"there are {ENDPOINTS_MAX:,} endpoints already", hint="remove some: `conveyor webhooks list`"
            )

    async def find(self, endpoint_id: str) -> Endpoint | None:
        found = await self._store.get_document(KIND, endpoint_id)
        return None if found is None else msgspec.json.decode(found.body, type=Endpoint)

    async def get(self, endpoint_id: str) -> Endpoint:
        """`EndpointNotFoundError`."""
        found = await self.find(endpoint_id)
        if found is None:
            raise EndpointNotFoundError(endpoint_id)
        return found

    async def page(self, *, limit: int, after: str | None = None) -> list[Endpoint]:
        """By id, of all apps."""
        found = await self._store.list_documents(KIND, limit=limit, after=after)
        return [msgspec.json.decode(each.body, type=Endpoint) for each in found]

    async def list_of(self, app: str) -> list[Endpoint]:
        """All of one app."""
        found: list[Endpoint] = []
        after: str | None = None
        while page := await self.page(limit=_PAGE, after=after):
            found += [each for each in page if each.app == app]
            after = page[-1].id
        return found

    async def remove(self, endpoint_id: str) -> None:
        """`EndpointNotFoundError`. What is still to be delivered there fails."""
        if not await self._store.delete_document(KIND, endpoint_id):
            raise EndpointNotFoundError(endpoint_id)

    async def filter(self, endpoint_id: str, events: Sequence[str]) -> Endpoint:
        """Tell it of other events from now on."""
        checked = check_events(events)
        return await self.change(endpoint_id, lambda each: replace(each, events=checked))

    async def rotate(
        self, endpoint_id: str, *, secret: str | None = None, overlap_ms: int = OVERLAP_MS
    ) -> Endpoint:
        """A new secret; the former ones sign beside it for `overlap_ms`."""
        fresh = self._seal(endpoint_id, secret)
        now = self._store.clock.now_ms()
        until = now + overlap_ms

        def change(each: Endpoint) -> Endpoint:
            former = [replace(kept, until=until if kept.until is None else kept.until) for kept in each.secrets]
            return replace(each, secrets=(fresh, *(kept for kept in former if (kept.until or 0) > now)))

        return await self.change(endpoint_id, change)

    async def enable(self, endpoint_id: str) -> Endpoint:
        """Call it again."""
        return await self.change(
            endpoint_id, lambda each: replace(each, disabled=None, disabled_at=None, failing_since=None)
        )

    async def disable(self, endpoint_id: str, reason: str) -> Endpoint:
        """Call it no more."""
        now = self._store.clock.now_ms()
        return await self.change(endpoint_id, lambda each: replace(each, disabled=reason, disabled_at=now))

    async def change(self, endpoint_id: str, change: Change) -> Endpoint:
        """What becomes of it, whoever else changes it meanwhile. `EndpointNotFoundError`."""
        while True:
            found = await self._store.get_document(KIND, endpoint_id)
            if found is None:
                raise EndpointNotFoundError(endpoint_id)
            present = msgspec.json.decode(found.body, type=Endpoint)
            changed = change(present)
            if changed == present:
                return present
            try:
                body = msgspec.json.encode(changed)
                await self._store.put_document(KIND, endpoint_id, body, version=found.version)
            except VersionConflictError:
                continue
            return changed

    def secrets_of(self, endpoint: Endpoint) -> list[str]:
        """Those that sign now, the present one first. `InvalidSettingError` if their key is not here."""
        now = self._store.clock.now_ms()
        live = [kept for kept in endpoint.secrets if kept.until is None or kept.until > now]
        return [self._keys.open(_place(endpoint.id), kept.sealed) for kept in live]

    def resealed(self, endpoint: Endpoint) -> Endpoint:
        """With its secrets under the first key. `InvalidSettingError` if one does not open."""
        place = _place(endpoint.id)
        opened = [(kept, self._keys.open(place, kept.sealed)) for kept in endpoint.secrets]
        return replace(
            endpoint, secrets=tuple(replace(kept, sealed=self._keys.seal(place, text)) for kept, text in opened)
        )

    def _seal(self, endpoint_id: str, secret: str | None) -> Kept:
        given = make_secret() if secret is None else secret
        read_secret(given)
        return Kept(sealed=self._keys.seal(_place(endpoint_id), given))


def id_of(app: str, url: str) -> str:
    """An app has one endpoint for a URL."""
    return hashlib.sha256(f"{app}\0{url}".encode()).hexdigest()[:24]


def check_event(event: str) -> str:
    """`InvalidSettingError` unless it can be an event's name."""
    if not isinstance(event, str) or not 1 <= len(event) <= EVENT_CHARS_MAX or not event.isprintable():
        raise InvalidSettingError("event", event, f"is no name of 1 to {EVENT_CHARS_MAX} printable signs")
    return event


def check_events(events: Sequence[str]) -> tuple[str, ...]:
    """Filters: patterns of names."""
    if isinstance(events, str) or not 1 <= len(events) <= FILTERS_MAX:
        raise InvalidSettingError("events", events, f"is no list of 1 to {FILTERS_MAX} patterns", hint='`["order.*"]`')
    return tuple(check_event(each) for each in events)


def _place(endpoint_id: str) -> str:
    """What its secrets are bound to."""
    return f"{KIND}/{endpoint_id}"
