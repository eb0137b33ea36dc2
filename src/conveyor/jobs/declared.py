"""A user's function as a job: its name, what it takes and gives, and by which rules it runs. Read once, when it is
declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin

from conveyor.jobs.context import JobContext
from conveyor.jobs.policy import RetryPolicy
from conveyor.model.duration import Duration, read_duration_ms
from conveyor.model.errors import BodyDecodeError, InvalidSettingError
from conveyor.model.job import RESULT_MS_MAX
from conveyor.model.message import ContentType
from conveyor.model.settings import RETRIES_MAX, TIMEOUT_MS_MAX, check_name
from conveyor.queue.encoding import BodyReader, encode_json
from conveyor.queue.handler import (
    RunIn,
    is_async_function,
    name_of_function,
    read_run_in,
    resolve_annotation,
)
from conveyor.queue.sealing import NO_KEYS, Sealer

Upcast = Callable[[Any], Any]
"""From a payload of one version, as JSON values, to the next."""

VERSION_MAX: Final = 1_000_000
_HINT: Final = "write `async def send_mail(mail: Mail) -> Receipt`, with `context: JobContext` second if you need it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A function, and all that was declared with it."""

    name: str
    queue: str
    function: Callable[..., Any]
    takes_context: bool
    payload: BodyReader
    result: BodyReader
    run_in: RunIn
    is_async: bool
    policy: RetryPolicy
    max_retries: int
    timeout_ms: int
    result_ms: int
    version: int
    upcasts: Mapping[int, Upcast]

    def read_payload(self, body: Any, version: int) -> Any:
        """The payload from one of an older version, as JSON values. `BodyDecodeError`."""
        for each in range(version, self.version):
            try:
                body = self.upcasts[each](body)
            except Exception as error:
                problem = f"the upcast from version {each} failed: {type(error).__name__}: {error}"
                raise BodyDecodeError(self.queue, self.name, problem) from error
        return self.payload.read(encode_json(body), ContentType.JSON)


def read_job(
    function: Callable[..., Any],
    *,
    name: str | None,
    queue: str,
    policy: RetryPolicy,
    max_retries: int,
    timeout: Duration,
    result_ttl: Duration,
    version: int,
    upcasts: Mapping[int, Upcast],
    run_in: str | None,
    localns: Mapping[str, Any],
    sealer: Sealer = NO_KEYS,
) -> Declared:
    """What a declaration says; `InvalidSettingError` names what is wrong with it."""
    chosen = name or str(getattr(function, "__name__", "job"))
    check_name("job", chosen)
    check_name("queue", queue)
    if not 0 <= max_retries <= RETRIES_MAX:
        raise InvalidSettingError("max_retries", max_retries, f"must lie between 0 and {RETRIES_MAX}")
    _check_versions(version, upcasts)
    is_async = is_async_function(function)
    payload, takes_context = _read_parameters(function, localns)
    return Declared(
        name=chosen,
        queue=queue,
        function=function,
        takes_context=takes_context,
        payload=BodyReader(queue, payload, sealer),
        result=BodyReader(queue, _read_result(function, localns), sealer),
        run_in=read_run_in(function, run_in, RunIn.LOOP if is_async else RunIn.THREAD),
        is_async=is_async,
        policy=policy,
        max_retries=max_retries,
        timeout_ms=read_duration_ms(timeout, name="timeout", least_ms=1, most_ms=TIMEOUT_MS_MAX),
        result_ms=read_duration_ms(result_ttl, name="result_ttl", most_ms=RESULT_MS_MAX),
        version=version,
        upcasts=upcasts,
    )


def _check_versions(version: int, upcasts: Mapping[int, Upcast]) -> None:
    if not 1 <= version <= VERSION_MAX:
        raise InvalidSettingError("version", version, "must be a whole number from 1 on")
    missing = [each for each in range(min(upcasts, default=version), version) if each not in upcasts]
    if missing or any(each >= version for each in upcasts):
        problem = f"lacks the step from version {missing[0]}" if missing else f"goes beyond version {version}"
        raise InvalidSettingError("upcasts", sorted(upcasts), problem, hint="one for each version before this one")


def _read_parameters(function: Callable[..., Any], localns: Mapping[str, Any]) -> tuple[Any, bool]:
    """The payload's type, and whether a context is wanted."""
    shown = name_of_function(function)
    parameters = list(inspect.signature(function).parameters.values())
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if not positional:
        raise InvalidSettingError("job", shown, "it takes no payload", hint=_HINT)
    types = [_type_of(function, each, localns) for each in positional[:2]]
    takes_context = len(types) > 1 and types[1] is JobContext
    given = positional[: 2 if takes_context else 1]
    needed = [
        each.name
        for each in parameters
        if each not in given and each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if needed:
        problem = f"nobody would give it `{needed[0]}`: a job takes one payload, and a `JobContext`"
        raise InvalidSettingError("job", shown, problem, hint=_HINT)
    if types[0] is inspect.Parameter.empty or types[0] is JobContext:
        problem = f"its first parameter `{positional[0].name}` does not say what payload it takes"
        raise InvalidSettingError("job", shown, problem, hint=_HINT)
    return types[0], takes_context


def _type_of(function: Callable[..., Any], parameter: inspect.Parameter, localns: Mapping[str, Any]) -> Any:
    if parameter.annotation is parameter.empty:
        return parameter.empty
    found = resolve_annotation(function, parameter.name, parameter.annotation, localns)
    return get_args(found)[0] if get_origin(found) is Annotated and get_args(found)[0] is JobContext else found


def _read_result(function: Callable[..., Any], localns: Mapping[str, Any]) -> Any:
    annotation = inspect.signature(function).return_annotation
    if annotation is inspect.Signature.empty:
        return Any
    found = resolve_annotation(function, "return", annotation, localns)
    return Any if found is object else found
