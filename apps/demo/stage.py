"""The demo's world: the sandbox, and `conveyor serve` with plotburn in it; and the calls the demo makes to both."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx2

from .children import Child, Children, free_port
from .settings import SEED, DemoError, DemoSettings, orders

LISTENING: Final = re.compile(r"sandbox listening on (http://\S+)")
PROVIDERS: Final = {"TMDB": "tmdb", "BRAVE": "brave", "PERPLEXITY": "perplexity", "CLAUDE": "anthropic", "XAI": "xai"}
APPLICATION: Final = "conveyor_apps.plotburn:app"
OURS: Final = re.compile(
    r"(CONVEYOR_|PLOTBURN_|CRON_|(TMDB|BRAVE|PERPLEXITY|CLAUDE|XAI)_|KV_VERSION|LOG_RETENTION_DAYS)"
)


class Stage:
    """Both servers, up and ready."""

    def __init__(self, settings: DemoSettings, children: Children, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.api_key = secrets.token_urlsafe(18)
        self.token = "cvy_" + secrets.token_urlsafe(32)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.store_url = f"sqlite:///{folder / 'conveyor.db'}"
        self._children = children
        self._client = httpx2.Client(timeout=10, trust_env=False)
        self.sandbox_url = ""
        self.server_pid = 0
        self.gone_movie_id = 0

    def open(self) -> None:
        """Start both, in order, and wait until they answer."""
        self._open_sandbox()
        environment = self.environment()
        arguments = ["-m", "conveyor", "serve", APPLICATION, "--port", str(self.port)]
        arguments += ["--processes", str(self.settings.processes)]
        server = self._children.start(
            "conveyor serve", arguments, log=self.folder / "serve.log", environment=environment
        )
        self.server_pid = server.pid
        server.wait_until(self._is_ready)

    def close(self) -> None:
        """Let go of the connections; the processes belong to `Children`."""
        self._client.close()

    def check_alive(self) -> None:
        """`DemoError` if a server has died."""
        self._children.check_alive()

    def environment(self) -> Mapping[str, str]:
        """What the server is told: nothing of the user's own keys and settings reaches it."""
        inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
        hosts = {f"{name}_BASE_URL": f"{self.sandbox_url}/{prefix}" for name, prefix in PROVIDERS.items()}
        keys = {f"{name}_API_KEY": f"demo-{prefix}" for name, prefix in PROVIDERS.items()}
        return {
            **inherited,
            **hosts,
            **keys,
            "API_SECRET_KEY": self.api_key,
            "CONVEYOR_URL": self.store_url,
            "CONVEYOR_TOKEN": self.token,
            "CONVEYOR_LOG": "json",
            "CONVEYOR_PORT": str(self.port),
            "PLOTBURN_DB": str(self.folder / "plotburn.db"),
            "MOVIES_LIMIT": str(self.settings.movies),
            "RESEARCH_PROVIDER": "brave",
            "ROAST_PROVIDER": "claude",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def trigger(self) -> str:
        """Start a run; its correlation id."""
        return str(self._call("POST", "/cron/trigger", headers={"x-api-key": self.api_key})["correlation_id"])

    def debug(self, run: str) -> Any:
        """Everything plotburn knows about a run."""
        return self._call("GET", "/debug", params={"correlationId": run})

    def status(self) -> Any:
        """Plotburn's status document."""
        return self._call("GET", "/cron/status")

    def calls(self) -> dict[str, int]:
        """Calls per provider since the tally was last reset."""
        tallies = self._call("GET", "/admin/calls", base=self.sandbox_url)
        return {name: tally["total"] for name, tally in tallies.items()}

    def movie_ids(self) -> list[int]:
        """What is in the sandbox's cinemas today."""
        found = self._call("GET", "/admin/movies", base=self.sandbox_url)
        return [movie["id"] for movie in found["movies"]]

    def start_day(self, day: int) -> None:
        """Let time pass: new releases in the sandbox, an empty tally, and a list whose 23 hours are over."""
        self._call("POST", "/admin/day", base=self.sandbox_url, json={"day": day})
        self._call("DELETE", "/admin/calls", base=self.sandbox_url)
        self._call("DELETE", "/cache/clear/now-playing", headers={"x-api-key": self.api_key})

    def _open_sandbox(self) -> None:
        arguments = ["-m", "conveyor_apps.sandbox", "--port", "0", "--seed", str(SEED)]
        arguments += ["--movies", str(self.settings.movies)]
        log = self.folder / "sandbox.log"
        sandbox = self._children.start("the sandbox", arguments, log=log, environment=os.environ)
        sandbox.wait_until(lambda: self._hear(sandbox))
        ids = self.movie_ids()
        self.gone_movie_id = ids[len(ids) // 3]
        for provider, faults in orders(self.gone_movie_id).items():
            self._call("PUT", f"/admin/faults/{provider}", base=self.sandbox_url, json=dict(faults))

    def _hear(self, sandbox: Child) -> bool:
        said = LISTENING.search(sandbox.text())
        self.sandbox_url = said.group(1) if said else ""
        return bool(said)

    def _is_ready(self) -> bool:
        try:
            return self._client.get(f"{self.url}/readyz").status_code == 200
        except httpx2.HTTPError:
            return False

    def _call(self, method: str, path: str, *, base: str = "", **options: Any) -> Any:
        try:
            response = self._client.request(method, (base or self.url) + path, **options)
        except httpx2.HTTPError as error:
            raise DemoError(f"{method} {path} failed: {error}") from error
        if not response.is_success:
            raise DemoError(f"{method} {path} answered {response.status_code}: {response.text[:300]}")
        return response.json() if response.content else None
