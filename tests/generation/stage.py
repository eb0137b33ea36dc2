"""generation in this process: on a real store, before the sandbox, telling a real receiver, on a clock that the test
moves."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx2
import msgspec

from conveyor import BlobInfo, Bucket
from conveyor.store.memory import MemoryStore
from conveyor.store.postgres import PostgresStore
from conveyor.store.protocol import Store
from conveyor.store.sqlite import SQLiteStore
from conveyor.testing.clock import ManualClock
from conveyor.working import work_embedded
from conveyor_apps.generation import GenerationApp, Settings, build_generation
from conveyor_apps.generation.records import Generation, GenerationRequest, State
from conveyor_apps.generation.room import Room
from conveyor_apps.generation.settings import BUCKET, DispatchMode, read_settings
from conveyor_apps.sandbox import SandboxSettings, create_sandbox, studio
from generation.nextjs import NextJs, receiving
from kit.postgres import the_server

ENVIRONMENT = {
    **{f"{name}_API_KEY": "key" for name in ("VEO3", "OMNI")},
    "AGENT_PLATFORM_TOKEN": "token", "GOOGLE_CLOUD_PROJECT": "film",
    "VEO3_BASE_URL": "http://sandbox.test/gemini",
    "OMNI_BASE_URL": "http://sandbox.test/omni",
    "AGENT_PLATFORM_BASE_URL": "http://sandbox.test/agent-platform",
    "GENERATION_PROVIDER_RATE": "1000/m",
    "GENERATION_LOG_LEVEL": "debug", "CONVEYOR_LOG": "json",
}  # fmt: skip
STEP_S = 1.0
ROUNDS = 3
TURNS = 10
_render = functools.cache(studio._render)
"""The films are real, and the same for all tests."""


class StageClock(ManualClock):
    """Does not let the loop turn as long as a test would whose time does not go on by itself."""

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)


def make_store(kind: str, folder: Path, clock: ManualClock) -> Store:
    if kind == "memory":
        return MemoryStore(clock)
    if kind == "postgres":
        return PostgresStore(the_server().url(), clock=clock)
    return SQLiteStore(folder / "store.db", clock=clock)


class World(httpx2.AsyncBaseTransport):
    """The sandbox as the app's network; knows whether a call is under way, since films take real time."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._sandbox = httpx2.ASGITransport(app=create_sandbox(settings))
        self._idle = asyncio.Event()
        self._idle.set()
        self._calls = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        with self.busy():
            return await self._sandbox.handle_async_request(request)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Something takes real time, and the clock stands still for it."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    def wait_for_files(self, bucket: Bucket) -> None:
        """What is put into this bucket takes real time."""
        put = bucket.put

        async def slowly(*args: Any, **kwargs: Any) -> BlobInfo:
            with self.busy():
                return await put(*args, **kwargs)

        bucket.put = slowly  # type: ignore[method-assign]  # slower than it is

    async def rest(self) -> None:
        """Until no call is under way."""
        await asyncio.wait_for(self._idle.wait(), timeout=120)


@dataclass
class Stage:
    """A generation at work."""

    made: GenerationApp
    clock: ManualClock
    nextjs: NextJs
    world: World
    sandbox: httpx2.AsyncClient
    lines: list[str] = field(default_factory=list)

    @property
    def room(self) -> Room:
        return self.made.doorway.room()

    async def create(
        self, prompt: str = "a paper boat", *, user: str = "ann", key: str | None = None, **wish: Any
    ) -> Generation:
        return await self.room.desk.create(GenerationRequest(user_id=user, prompt=prompt, **wish), key)

    async def create_many(self, count: int, prompt: str = "a paper boat") -> list[Generation]:
        return [await self.create(f"{prompt}, take {number}") for number in range(count)]

    async def get(self, id: str) -> Generation:
        found = await self.room.desk.get(id)
        assert found is not None
        return found

    async def states(self, ids: list[str]) -> list[State]:
        return [(await self.get(id)).state for id in ids]

    async def run(self, seconds: float, *, step_s: float = STEP_S) -> None:
        """Move time on, a second at a time, and let what is under way in threads and sockets come to its end."""
        for _ in range(round(seconds / step_s)):
            await self._let_act()
            await self.clock.advance(step_s)
            await self.sandbox.post("/admin/clock", json={"advance_s": step_s})
        await self._let_act()

    async def run_until(self, is_so: Callable[[], Any], *, within: float = 900.0, step_s: float = STEP_S) -> float:
        """Move time on until it is so: after how many seconds. AssertionError."""
        for passed in range(round(within / step_s)):
            found = is_so()
            if await found if asyncio.iscoroutine(found) else found:
                return passed * step_s
            await self.run(step_s, step_s=step_s)
        raise AssertionError(f"not so after {within} s:\n" + "\n".join(self.lines[-40:]))

    async def run_until_final(self, made: list[Generation], *, within: float = 900.0) -> list[Generation]:
        ids = [each.id for each in made]

        async def are_final() -> bool:
            return all(state.is_final for state in await self.states(ids))

        await self.run_until(are_final, within=within)
        return [await self.get(id) for id in ids]

    async def run_until_told(self, count: int, *, within: float = 300.0, step_s: float = STEP_S) -> None:
        """Until Next.js has so many events."""
        await self.run_until(lambda: len(self.nextjs.events) >= count, within=within, step_s=step_s)

    async def submissions(self) -> list[dict[str, Any]]:
        """Every order that came to the sandbox."""
        found: list[dict[str, Any]] = (await self.sandbox.get("/admin/submissions")).json()["submissions"]
        return found

    async def faults(self, provider: str, **faults: Any) -> None:
        response = await self.sandbox.put(f"/admin/faults/{provider}", json=faults)
        assert response.status_code == 200, response.text

    def logged(self, action: str) -> list[dict[str, Any]]:
        """The fields of the lines with this action."""
        found = [msgspec.json.decode(line) for line in self.lines]
        return [each for each in found if each["action"] == action]

    async def _let_act(self) -> None:
        for _ in range(ROUNDS):
            await self.clock.settle()
            await self.world.rest()
            await self.made.app.store.get_queue("generation-queue")
            await self.room.ledger.get("")


@contextlib.asynccontextmanager
async def stage(
    folder: Path, *, mode: DispatchMode | str = DispatchMode.QUEUE, store: str = "memory", works: bool = True,
    environment: dict[str, str] | None = None, generation_s: int = 7, **sandbox: Any,
) -> AsyncIterator[Stage]:  # fmt: skip
    """Open everything; the world ends with the block."""
    clock = StageClock()
    async with receiving(clock.now_ms) as nextjs:
        world = World(SandboxSettings(generation_s=generation_s, **sandbox))
        settings = settings_for(folder, mode, nextjs, environment or {})
        lines: list[str] = []
        made = build_generation(settings, url="memory://", transport=world, write=lines.append, wrangler=None)
        made.app.use_store(make_store(store, folder, clock))
        world.wait_for_files(made.app.bucket(BUCKET))
        async with made.app, httpx2.AsyncClient(transport=world, base_url="http://sandbox.test") as side:
            playing = Stage(made, clock, nextjs, world, side, lines)
            worker = asyncio.create_task(work_on(made)) if works else None
            try:
                with mock.patch.object(studio, "_render", _render):
                    yield playing
            finally:
                if worker is not None:
                    worker.cancel()
                    await asyncio.wait([worker])


def settings_for(folder: Path, mode: str, nextjs: NextJs, environment: dict[str, str]) -> Settings:
    return read_settings({
        **ENVIRONMENT, "GENERATION_DATA": str(folder / "data"), "GENERATION_DISPATCH": str(mode),
        "NEXTJS_URL": nextjs.url, "GENERATION_WEBHOOK_SECRET": nextjs.secret, **environment,
    })  # fmt: skip


async def work_on(made: GenerationApp) -> None:
    """A worker and the schedules, kept alive on the test's clock."""
    app = made.app
    await work_embedded(
        app.store, app.handlers(), app.scheduler(), app=app.name, target=None, concurrency=100, emit=app.emit,
        another_store=None, here=app.here,
    )  # fmt: skip
