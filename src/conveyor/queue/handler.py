"""A user's function as a handler: which queue, what it takes, how it is to be run. Read once, when it is declared."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from types import SimpleNamespace
from typing import Annotated, Any, Final, Protocol, TypeVar, get_args, get_origin, get_type_hints

from conveyor.model.errors import InvalidSettingError
from conveyor.model.message import Lease
from conveyor.model.settings import ConsumerSettings, check_name
from conveyor.model.verdict import Settlement
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.encoding import BodyReader
from conveyor.queue.sealing import NO_KEYS, Sealer

F = TypeVar("F", bound=Callable[..., Any])

_HINT: Final = "write `async def handle(message: Message[Order])`, or `Batch[Order]` for several at a time"


class Takes(StrEnum):
    """What one call is given."""

    MESSAGE = "message"
    BATCH = "batch"


class RunIn(StrEnum):
    """Where a call runs."""

    LOOP = "loop"
    """On the worker's event loop: `async def`."""
    THREAD = "thread"
    """In a thread of the worker: plain `def`."""
    PROCESS = "process"
    """In a child process, which may be killed at a timeout: either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function, and all that was declared with it. While it runs, the store's row of the consumer operates."""

    queue: str
    function: Callable[[Any], Any]
    takes: Takes
    reader: BodyReader
    run_in: RunIn
    is_async: bool
    settings: ConsumerSettings
    parts: Parts | None = None
    """Where each message is handled by a function of its own: the handler of that."""

    def pick(self, lease: Lease) -> Handler:
        """The handler of this very message."""
        return self if self.parts is None else self.parts.pick(lease)

    def settings_over(self, operating: ConsumerSettings, lease: Lease) -> ConsumerSettings:
        """What a call goes by, where the queue's consumer operates as this says."""
        return operating if self.parts is None else self.parts.settings_over(self, operating, lease)

    def close(self, lease: Lease, settlement: Settlement, running_ms: int) -> Settlement:
        """The settlement of a call that is over, with all that is to be kept of it."""
        return settlement if self.parts is None else self.parts.close(self, lease, settlement, running_ms)


class Parts(Protocol):
    """A room that shares one queue among several functions."""

    def pick(self, lease: Lease) -> Handler: ...

    def settings_over(self, handler: Handler, operating: ConsumerSettings, lease: Lease) -> ConsumerSettings: ...

    def close(self, handler: Handler, lease: Lease, settlement: Settlement, running_ms: int) -> Settlement: ...


def read_handler(
    queue: str,
    function: Callable[[Any], Any],
    settings: ConsumerSettings,
    *,
    run_in: str | None = None,
    localns: Mapping[str, Any] | None = None,
    sealer: Sealer = NO_KEYS,
) -> Handler:
    """The handler that `function` is; `InvalidSettingError` says what is wrong with it. `localns` resolves names of
    types that are local to the place of the declaration."""
    check_name("queue", queue)
    settings.check()
    takes, body = _read_parameter(function, localns)
    is_async = is_async_function(function)
    return Handler(
        queue=queue,
        function=function,
        takes=takes,
        reader=BodyReader(queue, body, sealer),
        run_in=read_run_in(function, run_in, RunIn.LOOP if is_async else RunIn.THREAD),
        is_async=is_async,
        settings=settings,
    )


def declarer(
    handlers: MutableMapping[str, Handler],
    queue: str,
    settings: ConsumerSettings,
    run_in: str | None,
    sealer: Sealer = NO_KEYS,
) -> Callable[[F], F]:
    """The decorator that makes a function the one handler of a queue. `InvalidSettingError`."""

    def declare(function: F) -> F:
        caller = sys._getframe(1).f_locals  # types that are local to the place of the declaration
        handler = read_handler(queue, function, settings, run_in=run_in, localns=caller, sealer=sealer)
        if queue in handlers:
            hint = "a queue has one handler: give the other function a queue of its own"
            raise InvalidSettingError("queue", queue, "has a consumer in this app already", hint=hint)
        handlers[queue] = handler
        return function

    return declare


def _read_parameter(function: Callable[[Any], Any], localns: Mapping[str, Any] | None) -> tuple[Takes, Any]:
    shown = name_of_function(function)
    name, annotation = _first_parameter(function)
    if isinstance(annotation, str) or annotation is not inspect.Parameter.empty:
        annotation = resolve_annotation(function, name, annotation, localns)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin = get_origin(annotation) or annotation
    if origin is not Message and origin is not Batch:
        problem = "has no annotation" if annotation is inspect.Parameter.empty else f"is annotated {annotation!r}"
        raise InvalidSettingError("handler", shown, f"its parameter `{name}` {problem}", hint=_HINT)
    arguments = get_args(annotation)
    return (Takes.MESSAGE if origin is Message else Takes.BATCH), (arguments[0] if arguments else Any)


def _first_parameter(function: Callable[[Any], Any]) -> tuple[str, Any]:
    shown = name_of_function(function)
    if not callable(function):
        raise InvalidSettingError("handler", shown, "cannot be called", hint=_HINT)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (parameters[0].POSITIONAL_ONLY, parameters[0].POSITIONAL_OR_KEYWORD):
        raise InvalidSettingError("handler", shown, "it takes no message", hint=_HINT)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each.name for each in parameters[1:] if each.default is each.empty and each.kind not in variable]
    if needed:
        raise InvalidSettingError("handler", shown, f"nobody would give it `{needed[0]}`", hint=_HINT)
    return parameters[0].name, parameters[0].annotation


def resolve_annotation(
    function: Callable[..., Any], name: str, annotation: Any, localns: Mapping[str, Any] | None
) -> Any:
    """Only the first annotation is resolved: others may name what is imported for type checkers alone."""
    innermost = _innermost(function)
    globalns = getattr(innermost, "__globals__", {})
    holder = SimpleNamespace(__annotations__={name: annotation})
    try:
        return get_type_hints(holder, globalns, dict(localns or {}), include_extras=True)[name]
    except NameError as error:
        raise InvalidSettingError(
            "handler", name_of_function(function),
            f"the annotation of `{name}` names `{error.name}`, which is not known there",
            hint="define or import the body's type at the top level of the module, outside `if TYPE_CHECKING`",
        ) from error  # fmt: skip
    except (TypeError, SyntaxError) as error:
        raise InvalidSettingError(
            "handler", name_of_function(function), f"the annotation of `{name}`: {error}", hint=_HINT
        ) from error


def _innermost(function: Any) -> Any:
    """The function that was written, under partials, methods, decorators and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        function = type(function).__call__
    return inspect.unwrap(getattr(function, "__func__", function))


def is_async_function(function: Callable[[Any], Any]) -> bool:
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isfunction(inner) and not inspect.ismethod(inner):
        inner = type(inner).__call__
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        shown = name_of_function(function)
        raise InvalidSettingError("handler", shown, "it is a generator", hint="return, do not yield")
    return inspect.iscoroutinefunction(inner)


def read_run_in(function: Callable[[Any], Any], wanted: str | None, usual: RunIn) -> RunIn:
    if wanted is None:
        return usual
    if wanted not in (usual, RunIn.PROCESS):
        kind = "`async def`" if usual is RunIn.LOOP else "plain `def`"
        hint = f"leave it out, or give `{RunIn.PROCESS}`: {kind} runs in the {usual} or in a process of its own"
        raise InvalidSettingError("run_in", wanted, f"does not fit `{name_of_function(function)}`", hint=hint)
    return RunIn(wanted)


def name_of_function(function: object) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__
