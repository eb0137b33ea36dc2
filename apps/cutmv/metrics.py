"""How the belt does: depth, times, success, and who watches, for Prometheus; and the document's queue status."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from conveyor import ConveyorError

from .dispatch import Dispatch
from .hub import Hub
from .orders import Orders, State

Depth = Callable[[], Awaitable[int]]
"""How many messages lie in the queue, asked for where it lives."""

ASK_S_MAX: Final = 5.0


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The document's answer of `GET /api/queue-status`."""

    healthy: bool
    message: str
    configured: bool


class Gauges:
    """Asks the parts how they are."""

    def __init__(
        self, depth: Depth, orders: Orders, hub: Hub, dispatch: Dispatch, *, queue: str, is_configured: bool
    ) -> None:
        self._depth = depth
        self._orders = orders
        self._hub = hub
        self._dispatch = dispatch
        self._queue = queue
        self._is_configured = is_configured

    async def status(self) -> QueueStatus:
        """`configured` says whether it is Cloudflare's; the embedded queue needs nothing to be set."""
        _, problem = await self._ask()
        where = "" if self._is_configured else " (embedded)"
        said = f"Queue '{self._queue}' is operational{where}"
        if problem:
            said = f"Queue '{self._queue}' is not available{where}: {problem}; orders are processed directly"
        return QueueStatus(healthy=not problem, message=said, configured=self._is_configured)

    async def _ask(self) -> tuple[int | None, str]:
        try:
            async with asyncio.timeout(ASK_S_MAX):
                return await self._depth(), ""
        except TimeoutError:
            return None, "no answer"
        except (ConveyorError, OSError) as error:
            return None, str(error).partition("\n")[0]

    async def text(self) -> str:
        """Prometheus' text format."""
        depth, _ = await self._ask()
        ends, states = await self._orders.ends()
        total = sum(count for state, _, count, _ in ends if state != State.CANCELLED)
        good = sum(count for state, _, count, _ in ends if state == State.SUCCEEDED)
        lines = [
            *_head("queue_up", "gauge", "1 if the queue answers."), f"cutmv_queue_up {int(depth is not None)}",
            *_head("queue_depth", "gauge", "Messages in the queue, those that are worked on included."),
            *([] if depth is None else [f"cutmv_queue_depth {depth}"]),
            *_head("orders", "gauge", "Orders that are kept, by state."),
            *(f'cutmv_orders{{state="{state}"}} {states.get(state, 0)}' for state in State),
            *_head("orders_ended_total", "counter", "Orders that ended, by state and way."),
            *(f'cutmv_orders_ended_total{{state="{s}",way="{w}"}} {count}' for s, w, count, _ in ends),
            *_head("processing_seconds_total", "counter", "From the first start to the end, by state and way."),
            *(f'cutmv_processing_seconds_total{{state="{s}",way="{w}"}} {seconds:.3f}' for s, w, _, seconds in ends),
            *_head("success_ratio", "gauge", "Of the orders that succeeded or failed."),
            f"cutmv_success_ratio {good / total if total else 1:.6f}",
            *_head("fallbacks_total", "counter", "Orders that the queue could not take, since the start."),
            f"cutmv_fallbacks_total {self._dispatch.fallbacks}",
            *_head("websockets", "gauge", "Browsers that watch."), f"cutmv_websockets {len(self._hub)}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, means: str) -> list[str]:
    return [f"# HELP cutmv_{name} {means}", f"# TYPE cutmv_{name} {kind}"]
