"""Tasks as they were written for Celery: nothing here knows conveyor."""

from __future__ import annotations

from celery import shared_task


@shared_task
def add(a: int, b: int) -> int:
    """The first task of every tutorial."""
    return a + b


@shared_task(bind=True, autoretry_for=(ConnectionError,), retry_backoff=1, retry_jitter=False, max_retries=3)
def fetch(self, url: str) -> str:
    """Fails once, and is tried again by itself."""
    if self.request.retries < 1:
        raise ConnectionError(f"{url} is away")
    return f"{url} after {self.request.retries} retry"


@shared_task(bind=True, max_retries=1)
def refund(self, order: int) -> None:
    """Asks for its retries itself, and gives up."""
    try:
        raise LookupError(f"no order {order}")
    except LookupError as error:
        raise self.retry(exc=error, countdown=1) from error
