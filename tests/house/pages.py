"""The pages of docs/ that are written from the code: `python tests/house/pages.py` (or `make docs`) writes them
anew."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from conveyor import ConsumerSettings, Conveyor, QueueSettings
from conveyor.audit.trail import Audit
from conveyor.cron.schedules import Schedules
from conveyor.jobs.room import Jobs
from conveyor.model import beside, errors, job_errors, message, refusals, settings
from conveyor.model.states import STEPS, State, Step
from conveyor.model.verdict import DeadReason
from conveyor.server import rest
from conveyor.server.rest.openapi import make_document
from conveyor.server.rest.streams import Streams
from conveyor.server.tokens import Tokens

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
NOTE: Final = "<!-- Written from the code by `make docs`. Edit tests/house/pages.py instead. -->\n\n"

STATES: Final[Mapping[State, str]] = {
    State.NONE: "It was not sent yet.",
    State.READY: "A row in `ready`. While `ready_at` lies ahead it is delayed, and no claim sees it.",
    State.LEASED: "A row in `leased`: somebody works on it. A worker's lease lives as long as the worker's owner row.",
    State.DONE: "Final. Its row is deleted.",
    State.GONE: "Final. Purged, expired, or dead without a dead letter queue; its row is deleted.",
}

STEP_NOTES: Final[Mapping[Step, str]] = {
    Step.SEND: "Limits are checked; the answer comes after COMMIT. A live dedupe key returns the first message."
    " By `immediate` T2 may follow in the same transaction.",
    Step.CLAIM: "Attempts grow by one. Not of a paused or throttled queue; an ordered key gives its first only."
    " By `cron` and `alarm` only of what [may start now](how-to/dispatch.md).",
    Step.ACK: "By the owner of the current lease. Of a message that is gone it is ok and counts for nothing.",
    Step.LATE_ACK: "Pull consumers only: an earlier lease of the same message in this queue, whose token is verified; none from before its death or its way back.",
    Step.RETRY: "While retries are left. It is ready again after the delay of the verdict, else of the consumer.",
    Step.EXPIRY: "The owner's lease ended, or its supervisor saw it die. Ready at once, in its old place.",
    Step.DEAD_LETTER: "Retries or the crash budget spent, rejected, or expired: it moves to the dead letter queue.",
    Step.DROP: "The same, where the consumer has no dead letter queue.",
    Step.EXTEND: "Pull consumers only: the deadline moves.",
    Step.RELEASE: "Given back as if never taken: no attempt is counted. `RateLimited`, a stop and a pause do this.",
    Step.PURGE: "The queue gets a new lane; the old rows are swept 1,000 at a time.",
    Step.EXPIRE: "Ready for longer than the queue retains, and no dead letter queue takes it.",
    Step.REDRIVE: "From the dead letter queue back to where it came from, with its attempts at zero, and its own `max_retries` if it had one.",
}

DEAD_REASONS: Final[Mapping[DeadReason, str]] = {
    DeadReason.RETRIES: "It failed, and its retries are spent. A `Retry(reason=...)` puts its own words here.",
    DeadReason.CRASHES: "It killed the process in which it ran alone, as often as the crash budget allows.",
    DeadReason.TIMEOUT: "Its last attempt ran longer than the consumer's `timeout`.",
    DeadReason.LOST: "Its last attempt's worker vanished, and nobody saw why.",
    DeadReason.EXPIRED: "Older than `expires_in` or the queue's retention.",
    DeadReason.DEADLINE: "A job had not ended by its `deadline`, or could not begin again before it.",
    DeadReason.REJECTED: "A `Reject` without words of its own.",
    DeadReason.SEALED: "Its [encrypted](how-to/encryption.md) body did not open: the key is not here, or it was changed.",
}


def states_page() -> str:
    """docs/states.md."""
    lines = [
        "# States of a message\n",
        "The table of steps is `conveyor.model.states.STEPS`; stores, tests and this page are held to it. Each step is one",
        "database transaction.\n",
        "| state | where it lies |\n| --- | --- |",
        *(f"| `{state.name}` | {STATES[state]} |" for state in State),
        "\n| step | from | to | what it takes, and what happens |\n| --- | --- | --- | --- |",
        *(
            f"| {step} | {' or '.join(_froms(step))} | {' or '.join(_tos(step))} | {STEP_NOTES[step]} |"
            for step in Step
        ),
        "\nA dead letter is no state: it is a READY message of another queue, and knows where it came from and why:\n",
        "| reason | when |\n| --- | --- |",
        *(f"| `{reason}` | {DEAD_REASONS[reason]} |" for reason in DeadReason),
    ]
    return NOTE + "\n".join(lines) + "\n"


def _froms(step: Step) -> list[str]:
    return [f"`{state.name}`" for state, taken in STEPS if taken is step]


def _tos(step: Step) -> list[str]:
    return sorted({f"`{to.name}`" for (_, taken), to in STEPS.items() if taken is step})


def errors_page() -> str:
    """docs/errors.md."""
    drawing = re.search(r"^    ConveyorError\n(?:    .*\n|\n(?=    ))+", errors.__doc__ or "", re.MULTILINE)
    assert drawing is not None
    tree = "\n".join(line[4:] for line in drawing[0].rstrip().splitlines())
    lines = [
        "# Errors\n",
        "Whatever conveyor raises on purpose is a `ConveyorError`: `code` is for programs, `hint` for people, `facts` for",
        "both. They are imported from `conveyor.model.errors`, those of the rooms beside the belt from",
        "`conveyor.model.beside` and `conveyor.model.job_errors`, and what a server refuses from `conveyor.model.refusals`.\n",
        f"```text\n{tree}\n```\n",
        "| error | code | hint |\n| --- | --- | --- |",
        *(f"| `{each.__name__}` | `{each.code}` | {_hint(each)} |" for each in _errors()),
    ]
    return NOTE + "\n".join(lines) + "\n"


def _errors() -> Iterator[type[errors.ConveyorError]]:
    for each in (vars(errors) | vars(beside) | vars(refusals) | vars(job_errors)).values():
        if isinstance(each, type) and issubclass(each, errors.ConveyorError):
            yield each


def _hint(error: type[errors.ConveyorError]) -> str:
    """The words that the class itself gives; f-strings show their fields."""
    source = inspect.getsource(error)
    found = re.search(r"hint=(?:hint or )?f?(?P<quote>[\"'])(?P<text>.+?)(?P=quote),?\s*(?:\n|,|\))", source)
    if found is None:
        return ""
    text = re.sub(r"!r|\{|\}", lambda match: {"{": "<", "}": ">"}.get(match[0], ""), found["text"])
    return text.replace("<", "&lt;").replace(">", "&gt;") if "`" not in text else text


def settings_page() -> str:
    """docs/reference/settings.md."""
    lines = [
        "# Settings and limits\n",
        "Names and defaults are Cloudflare's. Durations are seconds, a `timedelta`, or text such as `\"5m\"`.\n",
        "## `Conveyor(name, ...)`\n",
        *_signature(Conveyor.__init__, skip=("self", "name")),
        "\n## Where the stores are named\n",
        "| Python | environment | `pyproject.toml` | what |\n| --- | --- | --- | --- |",
        "| `url=` | `CONVEYOR_URL` | `url` in `[tool.conveyor]` | the store, or the home store of several |",
        "| `stores=` | `CONVEYOR_STORES`, JSON | `[tool.conveyor.stores]` | others, by name |",
        "| `routes=` | `CONVEYOR_ROUTES`, JSON | `[tool.conveyor.routes]` | patterns of queue names: the store's name |",
        "| | `CONVEYOR_FILES` | `files` in `[tool.conveyor]` | the folder of buckets, D1 databases and the key of secrets; else beside the store's file |",
        "| `buckets=` | `CONVEYOR_BUCKETS`, JSON | `[tool.conveyor.buckets]` | URLs of buckets that do not lie in that folder, by name ([how](../how-to/buckets.md)) |",
        "| | `CONVEYOR_PUBLIC_URL` | `public_url` in `[tool.conveyor]` | what links to objects on local files begin with; else with their path |",
        "| `wrangler=` | `CONVEYOR_WRANGLER` | | a Worker's file ([how](../how-to/wrangler-file.md)); empty: none; else the nearest, upward |",
        "| `environment=` | `CLOUDFLARE_ENV` | | which `env` of that file |",
        '| `app.retention(...)` | | `[tool.conveyor.retention]` | for how long is kept what has ended, as in `jobs = "7d"` ([how](../how-to/audit.md)) |',
        '| `encrypted=` | `CONVEYOR_ENCRYPTED`, commas between | `encrypted = ["orders"]` in `[tool.conveyor]` | patterns of the queues whose payloads lie encrypted ([how](../how-to/encryption.md)) |',
        "| | `CONVEYOR_SECRETS_KEY` | | keys of secrets and encrypted queues: 32 bytes in base64, of several the first seals ([how](../how-to/secrets.md)); else a file of this machine |",
        "\nWhat is said in Python or by `--url` is the whole of it; else the environment goes before the file, each by itself.",
        "`${NAME}` in Python and in the file is the environment's ([how](../how-to/many-stores.md)).\n",
        "## `@app.consumer(queue, ...)`\n",
        *_signature(Conveyor.consumer, skip=("self", "queue")),
        "\n## `@app.cron(expression, ...)`\n",
        *_signature(Schedules.cron, skip=("self", "expression")),
        "\n## `@app.job(...)`\n",
        *_signature(Jobs.job, skip=("self",)),
        "\n## `app.job_queue(name, ...)`\n",
        *_signature(Jobs.declare_queue, skip=("self", "name")),
        "\n## `QueueSettings`: `app.declare_queue(name, QueueSettings(...))`\n",
        *_struct(QueueSettings),
        "\n## `ConsumerSettings`: what the store's row of a consumer holds\n",
        *_struct(ConsumerSettings),
        "\n## Limits\n",
        "| limit | value |\n| --- | --- |",
        *(f"| `{name}` | {value:,} |" for name, value in _limits()),
    ]
    return NOTE + "\n".join(lines) + "\n"


def _signature(function: Callable[..., Any], *, skip: tuple[str, ...]) -> Iterator[str]:
    yield "| option | default |\n| --- | --- |"
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in skip:
            default = parameter.default
            yield f"| `{name}` | `{getattr(default, 'value', default)!r}` |"


def _struct(kind: type[msgspec.Struct]) -> Iterator[str]:
    yield "| setting | default |\n| --- | --- |"
    for name, value in msgspec.structs.asdict(kind()).items():
        shown = f"{value:,}" if type(value) is int else f"`{getattr(value, 'value', value)!r}`"
        yield f"| `{name}` | {shown} |"


def _limits() -> Iterator[tuple[str, int]]:
    for module in (message, settings):
        for name, value in vars(module).items():
            is_ours = f"\n{name}: Final" in inspect.getsource(module)
            if is_ours and isinstance(value, int) and name.endswith(("_MAX", "_MIN", "_BUDGET")):
                yield name, value


def cli_page() -> str:
    """docs/reference/cli.md."""
    here, missing = _verbs()
    lines = [
        "# The command line\n",
        "Exit codes: 0 ok, 1 the operation failed, 2 usage. A verb's library is imported when the verb is used.\n",
        *(part for name, command in here.items() for part in _command(f"conveyor {name}", command)),
    ]
    if missing:
        lines += [
            "## Named, not there yet\n",
            *(f"- `conveyor {name}`: {sentence}" for name, sentence in missing.items()),
        ]
    return NOTE + "\n".join(lines).rstrip() + "\n"


def _verbs() -> tuple[dict[str, click.Command], dict[str, str]]:
    here: dict[str, click.Command] = {}
    missing: dict[str, str] = {}
    for name, (module, sentence) in cli_verbs().items():
        try:
            here[name] = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            missing[name] = sentence
    return here, missing


def cli_verbs() -> Mapping[str, tuple[str, str]]:
    """Verb -> (module, sentence)."""
    verbs: Mapping[str, tuple[str, str]] = vars(importlib.import_module("conveyor.cli.main"))["_VERBS"]
    return verbs


def _command(path: str, command: click.Command, depth: int = 2) -> Iterator[str]:
    names = ["-h", "--help"]  # those of the root, which its verbs inherit
    context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100, help_option_names=names)
    yield f"{'#' * depth} {path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _command(f"{path} {name}", child, depth + 1)


def openapi_page() -> str:
    """docs/reference/openapi.json."""
    app = Conveyor("docs", url="memory://")
    tokens = Tokens(app.store)
    operations = rest.operations(tokens, Audit(app.store), Streams(app, tokens, epoch=""))
    return msgspec.json.format(msgspec.json.encode(make_document(operations))).decode() + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "states.md": states_page,
    "errors.md": errors_page,
    "reference/settings.md": settings_page,
    "reference/cli.md": cli_page,
    "reference/openapi.json": openapi_page,
}


def write_pages() -> None:
    """All of them."""
    for name, page in PAGES.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(), encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    write_pages()
