"""generation as its one command starts it: server, workers and sandbox, without a key, and without FFmpeg on the PATH."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cutmv.kit import Served as AnyServed
from cutmv.kit import wait_until

FINAL = ("completed", "failed", "cancelled")
USER_RATE = 8


class Served(AnyServed):
    """A server in a folder of its own; the sandbox takes a second for a video."""

    def __init__(self, folder: Path, **settings: str) -> None:
        nowhere = folder / "bin"
        nowhere.mkdir(parents=True)
        usual = {
            "PATH": str(nowhere), "HOME": str(folder), "SANDBOX_GENERATION_S": "1", "GENERATION_WORKERS": "2",
            "GENERATION_USER_RATE": str(USER_RATE), "GENERATION_PROVIDER_RATE": "1000/m", "NEXTJS_URL": "",
        }  # fmt: skip
        super().__init__(folder, command=("conveyor_apps.generation",), **usual | settings)

    def create(self, prompt: str, *, user: str = "ann", status: int = 201, key: str | None = None, **wish: Any) -> Any:
        """Ask for a video."""
        headers = {} if key is None else {"idempotency-key": key}
        body = {"userId": user, "prompt": prompt, **wish}
        return self.ask("POST", "/api/generations", status, json=body, headers=headers)

    def get(self, id: str) -> dict[str, Any]:
        return self.ask("GET", f"/api/generations/{id}", 200)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is begun in the meantime: the line is empty at first, and who comes stays in it."""
        wait_until(lambda: self.ask("GET", "/api/queue/status", 200)["waiting"] == 0)
        token = {"authorization": f"Bearer {self.environment['CONVEYOR_TOKEN']}"}
        self.ask("POST", "/api/v1/queues/generation-queue/pause", 200, headers=token, json={})
        try:
            yield
        finally:
            self.ask("POST", "/api/v1/queues/generation-queue/resume", 200, headers=token, json={})

    def finished(self, id: str) -> dict[str, Any]:
        """Once it is over."""
        return dict(wait_until(lambda: (found := self.get(id))["state"] in FINAL and found, every=0.2))
