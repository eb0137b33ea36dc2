"""What is done later; on Django 6 the import is `from django.tasks import task`."""

try:
    from django.tasks import TaskContext, task
except ImportError:
    from django_tasks import TaskContext, task


@task(queue_name="mails", priority=10)
def send_mail(to: str, subject: str = "your order") -> str:
    """A plain function: it runs in a thread of the worker."""
    return f"{subject!r} is on its way to {to}"


@task(takes_context=True)
async def price(context: TaskContext, item: str) -> dict[str, object]:
    """A coroutine: it runs on the worker's event loop."""
    return {"item": item, "cents": 100 * len(item), "attempt": context.attempt}


@task()
def break_it(item: str) -> None:
    """Never works."""
    raise LookupError(f"no {item} in stock")
