"""Dead letters: what failed for good, as it lies in the dead letter queue of conveyor."""

import base64
from typing import Any, Final

import msgspec

from conveyor_apps.concierge.context import Context, DeadLetter
from conveyor_apps.concierge.words import Target

from .archiving import archive
from .keeping import keep

PAGE: Final = 100


class _Body(msgspec.Struct, rename="camel"):
    """What holds may be on."""

    message_id: str = ""
    recipient: str = ""
    user_id: str = ""
    export_id: str = ""


async def clean_dead_letters(context: Context, before: int) -> int:
    """Archive and delete one batch; how many went."""
    old, _ = await _look(context, before, most=PAGE)
    if not old:
        return 0
    died = [each.died_at for each in old]
    kept = await archive(
        context.bucket, Target.MESSAGE_QUEUE, [_line(each) for each in old], first_at=min(died), last_at=max(died)
    )
    held = await _holds(context)
    gone = await context.dead_letters.discard([each.number for each in old if not _is_held(each, held)])
    if gone:
        await context.database.write(lambda tx: keep(tx, context.trail, kept))
    return gone


async def count_dead_letters(context: Context, before: int) -> tuple[int, int]:
    """How many would go, and how many are as old and stay because of a hold."""
    old, held = await _look(context, before, most=None)
    return len(old), held


async def _look(context: Context, before: int, *, most: int | None) -> tuple[list[DeadLetter], int]:
    """The oldest that may go, and how many are held among what was looked at."""
    holds = await _holds(context)
    old: list[DeadLetter] = []
    held = after = 0
    while (most is None or len(old) < most) and (page := await context.dead_letters.page(after, PAGE)):
        after = page[-1].number
        for each in page:
            if each.died_at >= before:
                continue
            if _is_held(each, holds):
                held += 1
            else:
                old.append(each)
    return old[:most], held


async def _holds(context: Context) -> set[tuple[str, str]]:
    rows = await context.database.read(lambda tx: tx.rows("holds_on_messages"))
    return {(kind, subject.casefold() if kind == "recipient" else subject) for kind, subject in rows}


def _is_held(letter: DeadLetter, holds: set[tuple[str, str]]) -> bool:
    """While there is any hold, what cannot be read is held too."""
    if not holds:
        return False
    try:
        body = msgspec.json.decode(letter.opened, type=_Body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return True
    subjects = {
        ("all", ""), ("message", body.message_id), ("recipient", body.recipient.casefold()), ("user", body.user_id),
        ("export", body.export_id),
    }  # fmt: skip
    return not subjects.isdisjoint(holds)


def _line(letter: DeadLetter) -> dict[str, Any]:
    body = base64.b64encode(letter.body).decode()
    return {
        "id": letter.id, "origin": letter.origin, "reason": letter.reason, "diedAt": letter.died_at,
        "attempts": letter.attempts, "body": body,
    }  # fmt: skip
