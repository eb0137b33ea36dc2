"""Sentry: errors with the steps that led there, one trace for each attempt of a job, and check-ins of schedules.

An event is not sent as the SDK made it: it is built anew from a list of what may go. Nothing of requests, of users, of
local variables, of source lines and of errors' own words is on it.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from conveyor_apps.concierge.errors import SettingError

from .redaction import redact, safe_facts, safe_value

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

OURS: Final = "concierge"
HINT: Final = "pip install 'conveyor[sentry]'"
FLUSH_S: Final = 2.0
_EVENT: Final = re.compile(r"[a-z]+[._][a-z_.]+")
"""A step's name, which is ours: `message.sent` is that, also of a message that says `message`."""
_HEAD: Final = (
    "event_id", "timestamp", "start_timestamp", "level", "platform", "environment", "release", "type", "sdk",
    "transaction_info",
)  # fmt: skip
_SPAN: Final = (
    "span_id", "parent_span_id", "trace_id", "same_process_as_parent", "op", "status", "start_timestamp", "timestamp",
    "origin",
)  # fmt: skip
_CHECK_IN: Final = (*_HEAD, "check_in_id", "monitor_slug", "monitor_config", "status", "duration")
_FRAME: Final = ("function", "lineno", "module", "in_app")

class Sentry:
    """A project of theirs; without a DSN nothing is made and nothing sent."""

    def __init__(self, dsn: str, *, traces: float = 1.0) -> None:
        """`SettingError` if the library is not installed, or this is no DSN."""
        self._client: Any = None
        if not dsn:
            return
        try:
            import sentry_sdk
            from sentry_sdk.utils import BadDsn
        except ImportError:
            raise SettingError(f"environment: `SENTRY_DSN` needs a library that is not installed: {HINT}") from None
        try:
            self._client = sentry_sdk.Client(
                dsn=dsn, before_send=_before_send, before_send_transaction=_before_transaction,
                traces_sample_rate=traces, default_integrations=False, auto_enabling_integrations=False,
                auto_session_tracking=False, include_local_variables=False, include_source_context=False,
                max_request_body_size="never", server_name="", send_client_reports=False, enable_logs=False,
            )  # fmt: skip
        except BadDsn:
            raise SettingError("environment: `SENTRY_DSN` is no DSN") from None

    @contextmanager
    def job(self, facts: Mapping[str, object]) -> Iterator[None]:
        """Around one attempt: what is told within is of it alone."""
        if self._client is None:
            yield
            return
        import sentry_sdk

        safe = safe_facts(facts)
        with sentry_sdk.isolation_scope() as scope:
            scope.set_client(self._client)
            scope.set_context("job", dict(safe))
            for name, value in safe.items():
                scope.set_tag(name, str(value))
            with sentry_sdk.start_transaction(op="queue.process", name=str(safe.get("type", "job"))) as transaction:
                for name, value in safe.items():
                    transaction.set_data(name, value)
                yield

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A part of an attempt."""
        if self._client is None:
            yield
            return
        import sentry_sdk

        with sentry_sdk.start_span(op="concierge", name=name):
            yield

    def breadcrumb(self, event: str, facts: Mapping[str, object], level: str = "info") -> None:
        """One step of the way."""
        if self._client is None:
            return
        import sentry_sdk

        scope = sentry_sdk.get_isolation_scope()
        if scope.client is self._client:
            scope.add_breadcrumb(category=OURS, message=event, level=level, data=safe_facts(facts))

    def capture(self, error: BaseException, facts: Mapping[str, object]) -> None:
        """An error."""
        with self._scope(facts) as scope:
            if scope is not None:
                scope.capture_exception(error)

    def tell(self, text: str, facts: Mapping[str, object], level: str) -> None:
        """Something that is no error of the program's."""
        with self._scope(facts) as scope:
            if scope is not None:
                scope.capture_message(text, level=level)

    def check_in(
        self, schedule: str, status: str, *, id: str | None = None, seconds: float | None = None
    ) -> str | None:
        """A run of a schedule begins (`in_progress`), or ends (`ok`, `error`); the id of the check-in."""
        if self._client is None:
            return None
        from sentry_sdk.crons import capture_checkin

        with self._scope({}):
            return capture_checkin(monitor_slug=schedule, check_in_id=id, status=status, duration=seconds)

    async def close(self) -> None:
        """Send what is left, for a moment at most."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close, timeout=FLUSH_S)

    @contextmanager
    def _scope(self, facts: Mapping[str, object]) -> Iterator[Any]:
        if self._client is None:
            yield None
            return
        import sentry_sdk

        with sentry_sdk.new_scope() as scope:
            scope.set_client(self._client)
            for name, value in safe_facts(facts).items():
                scope.set_tag(name, str(value))
            yield scope

def _before_send(event: "Event", hint: "Hint") -> "Event":
    """The event anew, of what may be sent."""
    given: dict[str, Any] = dict(event)
    if given.get("type") == "check_in":
        return _of(given, _CHECK_IN)  # type: ignore[return-value]  # the SDK has a TypedDict of what it takes
    built = _common(given)
    error = (hint.get("exc_info") or (None, None, None))[1]
    values = given.get("exception", {}).get("values", [])
    if values:
        built["exception"] = {"values": [_exception(each, error) for each in values]}
    message = given.get("message") or given.get("logentry", {}).get("message")
    if message:
        built["message"] = redact(str(message))
    return built  # type: ignore[return-value]  # the SDK has a TypedDict of what it takes

def _before_transaction(event: "Event", _hint: "Hint") -> "Event":
    given: dict[str, Any] = dict(event)
    built = _common(given)
    built["transaction"] = redact(str(given.get("transaction", "")))
    built["spans"] = [
        {**_of(each, _SPAN), "description": redact(str(each.get("description") or ""))}
        for each in given.get("spans", [])
    ]
    return built  # type: ignore[return-value]  # the SDK has a TypedDict of what it takes

def _common(given: Mapping[str, Any]) -> dict[str, Any]:
    crumbs = given.get("breadcrumbs") or {}
    values = crumbs.get("values", []) if isinstance(crumbs, dict) else crumbs
    contexts: dict[str, Any] = {}
    for name, context in given.get("contexts", {}).items():
        if name == "job":
            contexts[name] = safe_facts(context)
        elif name == "trace":
            contexts[name] = {**_of(context, _SPAN), "data": safe_facts(context.get("data") or {})}
    return {
        **_of(given, _HEAD),
        "tags": safe_facts(dict(given.get("tags") or {})),
        "contexts": contexts,
        "breadcrumbs": {"values": [_crumb(each) for each in values if each.get("category") == OURS]},
    }  # fmt: skip

def _crumb(given: Mapping[str, Any]) -> dict[str, Any]:
    kept = _of(given, ("timestamp", "category", "level", "type"))
    message = str(given.get("message", ""))
    said = message if _EVENT.fullmatch(message) else redact(message)
    return {**kept, "message": said, "data": safe_facts(given.get("data") or {})}

def _exception(given: Mapping[str, Any], error: BaseException | None) -> dict[str, Any]:
    """Its kind and where it was; its words where it is one of ours."""
    frames = (given.get("stacktrace") or {}).get("frames", [])
    ours = error if error is not None and type(error).__name__ == given.get("type") else None
    return {
        **_of(given, ("type", "module")),
        "value": safe_value(ours),
        "mechanism": _of(given.get("mechanism") or {}, ("type", "handled")),
        "stacktrace": {"frames": [_frame(each) for each in frames]},
    }

def _frame(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**_of(given, _FRAME), "filename": PurePath(str(given.get("filename", ""))).name}

def _of(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}
