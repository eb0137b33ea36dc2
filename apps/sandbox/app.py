"""The whole sandbox as one ASGI application: the world, a gate before each provider, the side door."""

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .admin import Admin, answer_json, refuse_by_error
from .agent_platform import AgentPlatform
from .anthropic import Anthropic
from .brave import Brave
from .calls import CallLog
from .catalogue import Catalogue
from .clock import SandboxClock
from .errors import SandboxError
from .faults import FaultBook, Faults
from .gate import Gate, Sleep
from .gemini import Gemini
from .making import MakingRoom
from .omni import Omni
from .perplexity import Perplexity
from .post import Post
from .prose import Prose
from .provider import Provider, World
from .settings import ProviderName, SandboxSettings
from .studio import Studio
from .submissions import Submissions
from .tmdb import Tmdb
from .xai import Xai

PRIVATE_SUFFIXES: Final = (".localhost", ".test")


def create_sandbox(settings: SandboxSettings, *, sleep: Sleep = anyio.sleep) -> Starlette:
    """Build a sandbox; `sleep` is how latency faults wait, so a test can hand in one that does not."""
    clock = SandboxClock(first_day=settings.first_day, day=settings.day, is_running=settings.is_clock_running)
    catalogue = Catalogue(seed=settings.seed, movies=settings.movies, first_day=settings.first_day)
    world = World(seed=settings.seed, catalogue=catalogue, prose=Prose(seed=settings.seed), clock=clock)
    faults = FaultBook(_starting_faults(settings), seed=settings.seed)
    calls = CallLog()
    submissions = Submissions(clock)
    post = Post(settings, clock, sleep)
    gates = [
        Gate(provider=provider, faults=faults, calls=calls, sleep=sleep, body_bytes_max=settings.body_bytes_max)
        for provider in [*_providers(world, settings), *_video_makers(world, submissions, settings), *post.providers()]
    ]
    admin = Admin(settings=settings, world=world, faults=faults, calls=calls, submissions=submissions)
    return Starlette(
        routes=[*(gate.mount() for gate in gates), *post.routes(), *admin.routes()],
        lifespan=lambda _: post.open(),
        exception_handlers={SandboxError: refuse_by_error},
        middleware=[Middleware(HostGuard)],
    )


def _providers(world: World, settings: SandboxSettings) -> list[Provider]:
    anthropic = Anthropic(world, cache_tokens_min=settings.cache_tokens_min)
    return [Tmdb(world), Brave(world), anthropic, Xai(world), Perplexity(world)]


def _video_makers(world: World, submissions: Submissions, settings: SandboxSettings) -> list[Provider]:
    studio = Studio(seed=world.seed)
    names = (ProviderName.GEMINI, ProviderName.AGENT_PLATFORM, ProviderName.OMNI)
    rooms = [MakingRoom(name, world.clock, submissions, studio, generation_s=settings.generation_s) for name in names]
    return [Gemini(rooms[0]), AgentPlatform(rooms[1]), Omni(rooms[2])]


def _starting_faults(settings: SandboxSettings) -> Mapping[str, Faults]:
    tmdb = settings.faults.get(ProviderName.TMDB, Faults())
    gone = tuple(dict.fromkeys((*tmdb.gone_movie_ids, *settings.gone_movie_ids)))
    starting = {name.value: faults for name, faults in settings.faults.items()}
    return {**starting, ProviderName.TMDB.value: replace(tmdb, gone_movie_ids=gone)}


class HostGuard:
    """Refuses calls that name a public host: a web page must not reach the side door by rebinding its own name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let private names through."""
        if scope["type"] != "http" or _is_private(Headers(scope=scope).get("host", "localhost")):
            await self._app(scope, receive, send)
            return
        hint = "call it as 127.0.0.1, localhost, or a name without a dot"
        error = {"code": "sandbox_host_refused", "message": "the sandbox answers to private names only", "hint": hint}
        await answer_json({"error": error}, status=421)(scope, receive, send)


def _is_private(host: str) -> bool:
    """Public DNS can give an attacker neither a loopback address, nor a bare name, nor a reserved suffix."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return "." not in name or name.endswith(PRIVATE_SUFFIXES)
