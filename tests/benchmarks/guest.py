"""A reader's own queue, as the bench's contract wants it: a message is a file. It can lose one, or handle one twice."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.peers.contract import file_of

ODD = 7


class Guest:
    name, store, drained = "guest", "sqlite", 50
    ways: Mapping[str, Mapping[str, int]] = {"honest": {}, "twice": {"handles": 2}, "lost": {"handles": 0}}

    def open(self, url: str) -> None:
        self.folder = Path(file_of(url)).parent / "messages"
        self.folder.mkdir(exist_ok=True)

    def close(self) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {"versions": {"guest": "1"}, "settings": "a file each"}

    def send(self, body: dict[str, object]) -> None:
        hidden = self.folder / f".{uuid.uuid4()}"
        hidden.write_text(json.dumps(body))
        hidden.rename(self.folder / hidden.name[1:])

    def send_many(self, bodies: list[dict[str, object]]) -> None:
        for body in bodies:
            self.send(body)

    def left(self) -> int:
        return len(list(self.folder.glob("[!.]*")))

    def work(self, url: str, note: Any, settings: Mapping[str, int]) -> None:
        self.open(url)
        while True:
            for path in sorted(self.folder.glob("[!.]*")):
                number = json.loads(path.read_text())["number"]
                for _ in range(settings.get("handles", 1) if number == ODD else 1):
                    note(number)
                path.unlink()
            time.sleep(0.001)
