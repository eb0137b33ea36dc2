"""The app: of its lines, the import alone is another than with Celery."""

from __future__ import annotations

from conveyor.integrations.celery import Celery

app = Celery("shop", include=["tasks"])
app.conf.task_routes = {"tasks.fetch": {"queue": "web"}}

worker = app.conveyor  # conveyor work shop:worker
