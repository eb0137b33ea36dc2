"""What a store gives an answer to where nobody waits in a task."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class Promise(Protocol):
    """As a future; only on its loop's thread."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Any, /) -> None: ...

    def get_loop(self) -> asyncio.AbstractEventLoop: ...
