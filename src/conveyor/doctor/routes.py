"""Of several stores: does every queue lie where its route leads?"""

from __future__ import annotations

from conveyor.doctor.finding import Finding, fine, warn
from conveyor.store.facts import Facts
from conveyor.store.routing import Routing


def check_routes(name: str, routing: Routing, facts: Facts) -> Finding | None:
    """A queue with messages in a store that its route does not name has no workers there."""
    if facts.belt is None:
        return None
    routed = {each.info.name: routing.store_of(each.info.name) for each in facts.belt.queues}
    strays = [
        f"`{each.info.name}` ({each.metrics.backlog_messages:,} messages, routed to `{routed[each.info.name]}`)"
        for each in facts.belt.queues
        if each.metrics.backlog_messages and routed[each.info.name] != name
    ]
    if not strays:
        return fine("routes", "every message lies where its route leads")
    return warn(
        "routes",
        f"nobody works on {', '.join(strays)}",
        "work them off by the routes of before: `CONVEYOR_ROUTES=... conveyor work MODULE:APP --queues NAME`",
    )
