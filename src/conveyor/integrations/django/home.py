"""A backend's app: each task of the project is a job of it, by its dotted path, in each of the backend's queues."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import Any, Final

import django
from django.db import close_old_connections
from django.utils.module_loading import autodiscover_modules

from conveyor.app import Conveyor
from conveyor.integrations.django.api import Task, TaskContext, task_backends, task_finished, task_started
from conveyor.integrations.django.options import Options
from conveyor.integrations.django.results import ended, running
from conveyor.integrations.foreign import Call, check_due, job_name_of
from conveyor.jobs.context import JobContext
from conveyor.jobs.function import JobFunction
from conveyor.loader import load_app
from conveyor.model.errors import InvalidSettingError

CRASH_RETRIES: Final = 3
"""A worker's death is no fault of the task: it is tried again all the same."""
_LOCK: Final = threading.RLock()
_TASKS: Final[dict[str, dict[str, Task[Any, Any]]]] = {}
"""By backend and path; filled where tasks are declared, so that no name from a message is ever imported."""
_HOMES: Final[dict[str, Home]] = {}


def register(alias: str, task: Task[Any, Any]) -> None:
    """A task was declared; copies that `using` makes of it stand behind the first."""
    with _LOCK:
        _TASKS.setdefault(alias, {}).setdefault(task.module_path, task)


def home_of(alias: str, options: Mapping[str, Any], queues: set[str], backend: type) -> Home:
    """Django makes a backend for each thread; what they share is made once."""
    with _LOCK:
        settings = (sorted(queues), sorted((name, repr(value)) for name, value in options.items()))
        home = _HOMES.get(alias)
        if home is None or home.settings != settings:
            home = _HOMES[alias] = Home(alias, Options.read(options), settings, backend)
        return home


def load_project_app() -> Conveyor:
    """The app of the default backend, with Django set up. `InvalidSettingError` if that is another's."""
    django.setup()
    for each in task_backends.all():
        getattr(each, "home", None)  # backends that share an app have all their tasks in it
    backend: Any = task_backends["default"]
    if not hasattr(backend, "home"):
        raise InvalidSettingError("TASKS", type(backend).__name__, "is the default, and no ConveyorBackend")
    app: Conveyor = backend.home.app
    return app


class Home:
    """The app, and the job of each task and queue."""

    def __init__(self, alias: str, options: Options, settings: tuple[list[str], Any], backend: type) -> None:
        self.alias = alias
        self.options = options
        self.settings = settings
        self.joins: bool | None = None
        """Whether the project's database is the store's too; None: not known yet."""
        self._backend = backend
        self._jobs: dict[tuple[str, str], JobFunction[Call, Any]] = {}
        self.app = load_app(options.app) if options.app is not None else Conveyor(options.name, url=options.url)
        for queue in settings[0]:
            self.app.declare_queue(queue)
        self.app.jobs.on_declare(self._declare_all)

    def job(self, task: Task[Any, Any]) -> JobFunction[Call, Any]:
        """The job that runs this task in its queue."""
        register(self.alias, task)
        with _LOCK:
            if (task.module_path, task.queue_name) not in self._jobs:
                self._declare(task.module_path, {*self.settings[0], task.queue_name})
            return self._jobs[task.module_path, task.queue_name]

    def find_task(self, name: str) -> Task[Any, Any] | None:
        """The one that a job of this name runs."""
        known = _TASKS.get(self.alias, {})
        return next((task for path, task in known.items() if job_name_of(path) == name), None)

    def _declare_all(self) -> None:
        autodiscover_modules("tasks")
        for module in self.options.modules:
            importlib.import_module(module)
        with _LOCK:
            for path in list(_TASKS.get(self.alias, {})):
                self._declare(path, set(self.settings[0]))

    def _declare(self, path: str, queues: set[str]) -> None:
        task = _TASKS[self.alias][path]
        known = {queue: job for (of, queue), job in self._jobs.items() if of == path}
        for queue in sorted(queues - known.keys()):
            if not known:
                job = self._declare_first(task, queue)
            else:
                job = self.app.jobs.also_in(queue, next(iter(known.values())))
            known[queue] = self._jobs[path, queue] = job

    def _declare_first(self, task: Task[Any, Any], queue: str) -> JobFunction[Call, Any]:
        options = self.options
        declare = self.app.job(
            name=job_name_of(task.module_path), queue=queue, max_retries=max(CRASH_RETRIES, options.max_retries),
            backoff=lambda attempt, _error: options.backoff if attempt <= options.max_retries else None,
            timeout=options.timeout, result_ttl=options.result_ttl,
        )  # fmt: skip
        is_async = iscoroutinefunction(task.func)
        job: JobFunction[Call, Any] = declare(self._run_async(task) if is_async else self._run(task))
        return job

    def _run(self, task: Task[Any, Any]) -> Any:
        def run(call: Call, context: JobContext) -> dict[str, Any]:
            close_old_connections()
            try:
                arguments = self._begin(task, call, context)
                try:
                    returned = task.func(*arguments, **call.kwargs)
                except Exception as error:
                    self._end(task, call, context, error=error)
                    raise
                return self._end(task, call, context, returned=returned)
            finally:
                close_old_connections()

        return run

    def _run_async(self, task: Task[Any, Any]) -> Any:
        async def run(call: Call, context: JobContext) -> dict[str, Any]:
            arguments = self._begin(task, call, context)
            try:
                returned = await task.func(*arguments, **call.kwargs)
            except Exception as error:
                self._end(task, call, context, error=error)
                raise
            return self._end(task, call, context, returned=returned)

        return run

    def _begin(self, task: Task[Any, Any], call: Call, context: JobContext) -> list[Any]:
        check_due(call, self.app.store.clock.now_ms())
        result = running(task, call, context, self.alias)
        task_started.send(sender=self._backend, task_result=result)
        return [TaskContext(task_result=result), *call.args] if task.takes_context else call.args

    def _end(
        self, task: Task[Any, Any], call: Call, context: JobContext, *, returned: object = None,
        error: Exception | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """What is kept: a job's message is gone when it has succeeded, and its arguments with it."""
        if error is None or context.attempt > self.options.max_retries:
            result = ended(task, call, context, self.alias, returned, error, self.app.store.clock.now_ms())
            task_finished.send(sender=self._backend, task_result=result)
            returned = None if error is not None else result.return_value
        return {"value": returned, "args": call.args, "kwargs": call.kwargs}
