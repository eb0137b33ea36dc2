"""One step of a message: its new state, the line of its history, and the count, in the transaction of whoever asks."""

from dataclasses import replace
from typing import Final

from conveyor_apps.tables import Transaction

from .errors import RefusedError
from .records import Message
from .words import NEXT, State

DETAIL_CHARS_MAX: Final = 300


def move(
    tx: Transaction, message: Message, state: State, actor: str, *, attempt: int | None = None,
    error: str | None = None, event: str | None = None, detail: str = "",
) -> Message:  # fmt: skip
    """The message in its new state; the event is called as the state, if not otherwise. `RefusedError` with 409 for a
    step that there is not."""
    if state not in NEXT[message.state]:
        problem = "already" if state is message.state else f"and cannot become {state}"
        raise RefusedError(f"The message is {message.state} {problem}.", status=409)
    attempt = message.attempt if attempt is None else attempt
    ended_at = tx.now_ms if state.is_final else None
    tx.change("set_state", id=message.id, state=state, attempt=attempt, error=error, ended_at=ended_at)
    note(tx, message.id, event or state, actor, attempt=attempt, detail=detail or error or "")
    return replace(message, state=state, attempt=attempt, error=error, updated_at=tx.now_ms, ended_at=ended_at)


def note(tx: Transaction, message: str, event: str, actor: str, *, attempt: int, detail: str = "") -> None:
    """A line of its history, without a step."""
    tx.change(
        "add_history", message=message, actor=actor, event=event, attempt=attempt, detail=detail[:DETAIL_CHARS_MAX]
    )
    tx.change("count_event", event=event)
