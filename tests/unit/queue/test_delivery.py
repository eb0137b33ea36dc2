"""Which of several words counts: spec/cloudflare-semantics.md, C1."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from conveyor.model.ids import MessageId
from conveyor.model.message import ContentType, Lease
from conveyor.model.settings import ConsumerSettings
from conveyor.model.verdict import Ack, Action, Backoff, RateLimited, Reject, Retry, Settlement, TxAck
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.handler import read_handler
from conveyor.queue.outcome import Delivery, Outcome, Released
from conveyor.queue.sealing import Sealer

SETTINGS = ConsumerSettings(retry_delay=Backoff(base_ms=7_000))


async def one(message: Message[int]) -> None: ...
async def several(batch: Batch[int]) -> None: ...


ONE, SEVERAL = read_handler("q", one, SETTINGS), read_handler("q", several, SETTINGS)


def a_lease(seq: int = 1, body: bytes = b"1", **parts: Any) -> Lease:
    parts = {"claim": 3, "releases": 1, **parts}
    return Lease(
        seq=seq, id=MessageId(b"\1" * 16), queue="q", body=body, content_type=ContentType.JSON, sent_at=1_500, **parts
    )


def deliver(
    say: Callable[[Any], object], *, batch: int = 0, error: BaseException | None = None
) -> tuple[Outcome, list[str]]:
    """What becomes of a call that says this and then returns, or raises `error`."""
    delivery = Delivery(SEVERAL if batch else ONE, [a_lease(seq) for seq in range(1, (batch or 1) + 1)])
    assert delivery.argument is not None
    returned = say(delivery.argument)
    outcome = delivery.judge(None if error else returned, error, SETTINGS, lambda: 0.5)
    return outcome, [f"{event.call} after {event.after}" for event in outcome.ignored]


def in_short(settlement: Settlement) -> str:
    delay = "" if settlement.delay_ms is None else f" {settlement.delay_ms // 1000}"
    return f"{settlement.action.name.lower()}{delay}"


def acts(*calls: tuple[str, *tuple[Any, ...]]) -> Callable[[Any], None]:
    """Calls in order: `("ack",)` on the (first) message, `("retry_all", 5)` on the batch."""

    def say(argument: Any) -> None:
        for name, *arguments in calls:
            target = argument if name.endswith("_all") or isinstance(argument, Message) else argument.messages[0]
            getattr(target, name)(*arguments)

    return say


@pytest.mark.parametrize(
    ("calls", "result", "ignored"),
    [
        ([], "ack", []),
        ([("ack",)], "ack", []),
        ([("ack",), ("ack",)], "ack", []),
        ([("ack",), ("retry",)], "ack", ["retry after ack"]),
        ([("ack",), ("reject",)], "ack", ["reject after ack"]),
        ([("retry",)], "retry 7", []),
        ([("retry", 5)], "retry 5", []),
        ([("retry", 0)], "retry 0", []),
        ([("retry", 5), ("retry", 9)], "retry 9", []),
        ([("retry", 5), ("retry",)], "retry 7", []),
        ([("retry", 5), ("ack",)], "retry 5", ["ack after retry"]),
        ([("retry", 5), ("reject",)], "retry 5", ["reject after retry"]),
        ([("reject", "no")], "reject", []),
        ([("reject", "no"), ("ack",)], "reject", ["ack after reject"]),
        ([("reject", "no"), ("retry",)], "reject", ["retry after reject"]),
    ],
    ids=str,
)
def test_the_first_call_on_a_message_wins(calls: Any, result: str, ignored: list[str]) -> None:
    outcome, heard = deliver(acts(*calls))
    assert [in_short(each) for each in outcome.settlements] == [result]
    assert heard == ignored


@pytest.mark.parametrize(
    ("calls", "first", "others", "ignored"),
    [
        ([], "ack", "ack", []),
        ([("ack_all",)], "ack", "ack", []),
        ([("retry_all",)], "retry 7", "retry 7", []),
        ([("retry_all", 5)], "retry 5", "retry 5", []),
        ([("retry_all", 5), ("retry_all", 9)], "retry 9", "retry 9", []),
        ([("ack_all",), ("retry_all",)], "ack", "ack", ["retry_all after ack_all"]),
        ([("retry_all",), ("ack_all",)], "retry 7", "retry 7", ["ack_all after retry_all"]),
        ([("retry", 5), ("ack_all",)], "retry 5", "ack", []),
        ([("ack",), ("retry_all", 5)], "ack", "retry 5", []),
        ([("reject",), ("ack_all",)], "reject", "ack", []),
        ([("ack_all",), ("retry", 5)], "ack", "ack", ["retry after ack_all"]),
        ([("retry_all", 9), ("ack",)], "retry 9", "retry 9", ["ack after retry_all"]),
        ([("retry_all", 9), ("retry", 5)], "retry 5", "retry 9", []),
        ([("retry_all", 9), ("reject",)], "retry 9", "retry 9", ["reject after retry_all"]),
        ([("ack_all",), ("ack",)], "ack", "ack", []),
    ],
    ids=str,
)
def test_a_call_on_a_message_beats_one_on_its_batch(calls: Any, first: str, others: str, ignored: list[str]) -> None:
    outcome, heard = deliver(acts(*calls), batch=3)
    assert [in_short(each) for each in outcome.settlements] == [first, others, others]
    assert heard == ignored


def test_explicit_acks_survive_a_later_exception() -> None:
    outcome, _ = deliver(acts(("ack",)), batch=3, error=ValueError("later"))
    assert [in_short(each) for each in outcome.settlements] == ["ack", "retry 7", "retry 7"]
    assert [each.error for each in outcome.settlements] == [None, "ValueError: later", "ValueError: later"]


def test_an_error_after_everything_was_said_is_still_told() -> None:
    outcome, _ = deliver(acts(("ack",)), error=ValueError("late"))
    assert [in_short(each) for each in outcome.settlements] == ["ack"]
    assert outcome.raised is not None and outcome.raised.error == "ValueError: late"


def test_an_explicit_retry_keeps_its_delay_and_the_error_of_a_later_exception() -> None:
    outcome, _ = deliver(acts(("retry", 60)), error=ValueError("late"))
    [settlement] = outcome.settlements
    assert (in_short(settlement), settlement.error) == ("retry 60", "ValueError: late")


@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize(
    ("verdict", "result"),
    [
        (Ack(), "ack"),
        (Retry(), "retry 7"),
        (Retry("5m"), "retry 300"),
        (Reject("no"), "reject"),
        (RateLimited(30), "release 30"),
    ],
    ids=["ack", "retry", "retry later", "reject", "rate limited"],
)
def test_verdicts_may_be_returned_or_raised(verdict: Any, result: str, raised: bool) -> None:
    error = verdict if raised and isinstance(verdict, BaseException) else None
    for batch in (0, 2):
        outcome, _ = deliver(lambda _: verdict, batch=batch, error=error)
        assert [in_short(each) for each in outcome.settlements] == [result] * (batch or 1)
        assert outcome.raised is None


def test_a_rate_limit_throttles_the_whole_queue_and_costs_no_attempt() -> None:
    outcome, _ = deliver(lambda _: RateLimited(30))
    [settlement] = outcome.settlements
    assert settlement.action is Action.RELEASE and settlement.throttles


@pytest.mark.parametrize("value", [0, "text", object(), [Ack()], Ack], ids=["zero", "text", "object", "list", "class"])
def test_any_other_return_value_is_an_ack(value: object) -> None:
    outcome, _ = deliver(lambda _: value)
    assert [in_short(each) for each in outcome.settlements] == ["ack"]


def test_a_verdict_class_returned_without_parentheses_is_taken_as_meant() -> None:
    assert in_short(deliver(lambda _: Retry)[0].settlements[0]) == "retry 7"
    assert in_short(deliver(lambda _: Reject)[0].settlements[0]) == "reject"


def test_a_single_verdict_in_an_exception_group_counts_as_itself() -> None:
    outcome, _ = deliver(lambda _: None, error=ExceptionGroup("tasks", [ExceptionGroup("inner", [Retry(5)])]))
    assert in_short(outcome.settlements[0]) == "retry 5"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TypeError("bad"), "TypeError: bad"),
        (ValueError(), "ValueError"),
        (Mute(), "Mute"),
        (ValueError("nul \0 and \ud800"), "ValueError: nul \N{REPLACEMENT CHARACTER} and ?"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
)
def test_an_error_is_one_short_line_that_every_store_can_hold(error: Exception, text: str) -> None:
    outcome, _ = deliver(lambda _: None, error=error)
    assert outcome.settlements[0].error == text
    long, _ = deliver(lambda _: None, error=ValueError("x" * 10_000))
    assert len(long.settlements[0].error or "") == 2_000


def test_an_unreadable_body_fails_alone() -> None:
    delivery = Delivery(SEVERAL, [a_lease(1), a_lease(2, b'"x"'), a_lease(3, b"{")])
    assert isinstance(delivery.argument, Batch) and [message.body for message in delivery.argument] == [1]
    settlements = delivery.judge(None, None, SETTINGS, lambda: 0.5).settlements
    assert [in_short(each) for each in settlements] == ["ack", "retry 7", "retry 7"]
    assert [each.seq for each in settlements] == [1, 2, 3]
    assert Delivery(SEVERAL, [a_lease(1, b"{")]).argument is None


def test_a_message_knows_where_it_comes_from() -> None:
    message: Message[int] = Message(a_lease(key="k", headers=b'{"trace": "t"}'), 1)
    assert message.id == message.idempotency_key == "01" * 16
    assert (message.queue, message.attempts, message.key, message.body) == ("q", 2, "k", 1)
    assert message.timestamp == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert message.headers == {"trace": "t"} and not message.lease_lost
    assert Message(a_lease(), 1).headers == {}


def test_jitter_is_drawn_for_the_attempt_that_failed() -> None:
    settings = ConsumerSettings(retry_delay=Backoff.exponential("10s"))
    delivery = Delivery(ONE, [a_lease(claim=4, releases=1)])
    [settlement] = delivery.judge(None, ValueError(), settings, lambda: 0.5).settlements
    assert settlement.delay_ms == 20_000


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (None, Settlement(1, 3, Action.RETRY, 7_000)),
        (OSError("x"), Settlement(1, 3, Action.RETRY, 7_000, None, "OSError: x")),
        (Retry(delay=1), Settlement(1, 3, Action.RETRY, 1_000)),
        (Reject("no"), Settlement(1, 3, Action.REJECT, None, "no")),
        (Released(), Settlement(1, 3, Action.RELEASE)),
    ],
)  # fmt: skip
def test_an_ack_in_a_transaction_is_as_if_never_said_should_the_message_still_be_there(
    error: BaseException | None, becomes: Settlement
) -> None:
    def say(message: Message[int]) -> None:
        message.verdict = TxAck()

    outcome, _ = deliver(say, error=error)
    [settlement] = outcome.settlements
    assert (settlement.action, settlement.delay_ms, settlement.error) == (
        becomes.action, becomes.delay_ms, becomes.error
    )  # fmt: skip


def test_an_error_of_a_batch_is_veiled_for_all_where_one_came_sealed() -> None:
    sealer = Sealer(["q"], lambda: {"a" * 16: b"a" * 32})
    letter = sealer.seal("q", f"message/{'01' * 16}", b"2")
    handler = read_handler("q", several, SETTINGS, sealer=sealer)
    delivery = Delivery(handler, [a_lease(1), a_lease(2, letter)])
    outcome = delivery.judge(None, ValueError("Ada"), SETTINGS, lambda: 0.5)
    assert [each.error for each in outcome.settlements] == ["ValueError", "ValueError"]


def test_a_key_that_cannot_be_read_is_a_failed_attempt() -> None:
    def read() -> dict[str, bytes]:
        raise PermissionError("secrets.key")

    letter = Sealer(["q"], lambda: {"a" * 16: b"a" * 32}).seal("q", f"message/{'01' * 16}", b"2")
    handler = read_handler("q", several, SETTINGS, sealer=Sealer((), read))
    delivery = Delivery(handler, [a_lease(1, letter)])
    assert delivery.argument is None
    outcome = delivery.judge(None, None, SETTINGS, lambda: 0.5)
    assert [in_short(each) for each in outcome.settlements] == ["retry 7"]
