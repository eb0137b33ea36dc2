"""Concierge as `conveyor serve` and `conveyor work` take it: `conveyor_apps.concierge.served:app`, told by its
environment."""

from .wiring import build_concierge

app = build_concierge().app
