"""Celery's tasks on conveyor: `Celery` is imported from here in the place of `from celery import Celery`.

Modules of tasks stay as they are, `@shared_task` and `@app.task` alike. `conveyor work proj:worker` runs them, where
`worker = app.conveyor`.
"""

from conveyor.integrations.celery.app import Celery
from conveyor.integrations.celery.bridged import NotBridgedError

__all__ = ["Celery", "NotBridgedError"]
