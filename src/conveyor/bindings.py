"""What an app reaches by name beside its queues: kv namespaces, buckets, limiters, secrets. The names are its own, or
those that a wrangler file binds."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from conveyor.blobs.bucket import Bucket
from conveyor.blobs.chosen import make_remote
from conveyor.blobs.files import FileBackend
from conveyor.blobs.links import Links
from conveyor.blobs.model import Backend
from conveyor.kv import KV, NAMESPACES
from conveyor.limiter import Limiter
from conveyor.model.rate import read_rate
from conveyor.model.settings import check_name
from conveyor.queue.handler import Handler
from conveyor.queue.sealing import NO_KEYS, Sealer
from conveyor.secrets import Keys, Secrets, is_of_one_machine
from conveyor.store.chosen import choose_buckets, choose_encrypted, choose_files, choose_public_url
from conveyor.store.protocol import Store
from conveyor.store.routing import Routing
from conveyor.wrangler import Worker

_NAMESPACES_MAX: Final = 1_000


class _Namespace(msgspec.Struct):
    id: str


class Bindings:
    """The handles that one app gave out."""

    def __init__(
        self,
        routing: Routing,
        worker: Worker,
        store: Store,
        ensure_open: Callable[[], Awaitable[None]],
        app: str,
        buckets: Mapping[str, str] | None = None,
    ) -> None:
        """`buckets` are the URLs of some, as Python gives them."""
        self._routing = routing
        self._worker = worker
        self._store = self._own = store
        self._ensure_open = ensure_open
        self._kvs: dict[str, KV] = {}
        self._titles: dict[str, str] = {}
        self._buckets: dict[str, Bucket] = {}
        self._given = buckets
        self._urls: dict[str, str] | None = None
        self.links = Links(Keys(self.folder), choose_public_url)
        self._folder: Path | None = None
        self._passing: weakref.finalize[..., Bindings] | None = None
        self.secrets = Secrets(store, app, self.folder)
        self._sealer = NO_KEYS

    def kv(self, namespace: str) -> KV:
        """A namespace by its binding, or by its own name."""
        if namespace not in self._kvs:
            check_name("namespace", namespace)
            self._kvs[namespace] = KV(self._store, self._ensure_open, self._name_of(namespace))
        return self._kvs[namespace]

    def _name_of(self, namespace: str) -> str:
        number = self._worker.namespaces.get(namespace, namespace)
        return self._titles.get(number, number)

    def limiter(self, name: str, rate: str) -> Limiter:
        """A limiter by its name. `InvalidSettingError`."""
        check_name("limiter", name)
        read = read_rate(rate, name="rate")
        assert read is not None
        return Limiter(lambda: self._store, self._ensure_open, name, read)

    def bucket(self, name: str) -> Bucket:
        """A bucket by its binding, or by its own name. `InvalidSettingError`."""
        return self.bucket_named(self._worker.buckets.get(name, name))

    def bucket_named(self, name: str) -> Bucket:
        """A bucket by its own name."""
        if name not in self._buckets:
            check_name("bucket", name)
            self._buckets[name] = Bucket(self._backend_of(name), self._ensure_open, name)
        return self._buckets[name]

    def bucket_urls(self) -> Mapping[str, str]:
        """Of those that do not lie on local files, by their own names; they may hold credentials."""
        if self._urls is None:
            found = choose_buckets(self._given)
            self._urls = {self._worker.buckets.get(name, name): url for name, url in found.items()}
        return self._urls

    def _backend_of(self, name: str) -> Backend:
        """A kit's buckets lie on files, whatever the settings say."""
        url = self.bucket_urls().get(name) if self._store is self._own else None
        if url is not None:
            return make_remote(name, url, lambda: self._store.clock)
        return FileBackend(self._store, self.folder, self.links, name)

    def renew(self, store: Store) -> None:
        """The handles work on this store from now on."""
        if store is not self._store:
            self._forget_folder()
            self._sealer.forget()
            self.links = Links(Keys(self.folder), choose_public_url)
        self._store = store
        for namespace, kv in self._kvs.items():
            KV.__init__(kv, store, self._ensure_open, self._name_of(namespace))
        for bucket in self._buckets.values():
            Bucket.__init__(bucket, self._backend_of(bucket.name), self._ensure_open, bucket.name)
        self.secrets.use_store(store)

    async def refresh(self) -> None:
        """Once the store is open: what it has of secrets, and of ids that the file names."""
        await self.secrets.refresh()
        if self._worker.namespaces:
            found = await self._store.list_documents(NAMESPACES, limit=_NAMESPACES_MAX)
            self._titles = {msgspec.json.decode(each.body, type=_Namespace).id: each.name for each in found}
            for namespace, kv in self._kvs.items():
                kv.namespace = self._name_of(namespace)

    def make_sealer(self, encrypted: Sequence[str] | None, handlers: Callable[[], Sequence[Handler]]) -> Sealer:
        """Of what goes into encrypted queues: `encrypted` are their patterns, as Python gives them, and `handlers` say
        where the app's dead letters go. `InvalidSettingError`."""

        def leads_to(origin: str, queue: str) -> bool:
            return any(each.queue == origin and each.settings.dead_letter_queue == queue for each in handlers())

        self._sealer = Sealer(choose_encrypted(encrypted), self._payload_keys, leads_to)
        return self._sealer

    def _payload_keys(self) -> Mapping[str, bytes]:
        """Made here where no other machine needs the same."""
        folder = self.folder()
        urls = (self._routing.url, *self._routing.stores.values())
        return Keys(lambda: folder).for_payloads(make=self._passing is not None or all(map(is_of_one_machine, urls)))

    def folder(self) -> Path:
        """Where files are kept; those of a store in memory are gone with the process."""
        if self._folder is None:
            if self._store is not self._own or self._routing.url.startswith("memory:"):
                self._folder = Path(tempfile.mkdtemp(prefix="conveyor-"))
                self._passing = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            else:
                self._folder = choose_files(self._routing.url)
        return self._folder

    def _forget_folder(self) -> None:
        if self._passing is not None:
            self._passing()
        self._folder, self._passing = None, None
