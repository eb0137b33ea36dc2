"""A function says by its annotation what it takes; what cannot be a handler is refused where it is declared."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

from conveyor.model.errors import InvalidSettingError
from conveyor.model.settings import ConsumerSettings
from conveyor.queue.delivery import Batch, Message
from conveyor.queue.handler import RunIn, Takes, read_handler

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers


class Order(msgspec.Struct):
    number: int


SETTINGS = ConsumerSettings()


async def one(message: Message[Order]) -> None: ...
async def several(batch: Batch[Order]) -> None: ...
async def plain(message: Message) -> None: ...  # type: ignore[type-arg]  # as some write it
async def annotated(message: Annotated[Message[Order], "fresh"]) -> None: ...
async def returns_hidden(message: Message[Order]) -> OnlyForTypeCheckers: ...  # type: ignore[empty-body]  # nothing is returned here
def in_thread(message: Message[Order]) -> None: ...


class Desk:
    async def method(self, message: Message[Order]) -> None: ...
    async def __call__(self, message: Message[Order]) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes", "body", "run_in"),
    [
        (one, Takes.MESSAGE, Order, RunIn.LOOP),
        (several, Takes.BATCH, Order, RunIn.LOOP),
        (plain, Takes.MESSAGE, Any, RunIn.LOOP),
        (annotated, Takes.MESSAGE, Order, RunIn.LOOP),
        (returns_hidden, Takes.MESSAGE, Order, RunIn.LOOP),
        (in_thread, Takes.MESSAGE, Order, RunIn.THREAD),
        (Desk().method, Takes.MESSAGE, Order, RunIn.LOOP),
        (Desk(), Takes.MESSAGE, Order, RunIn.LOOP),
        (functools.partial(one), Takes.MESSAGE, Order, RunIn.LOOP),
    ],
)
def test_the_annotation_says_what_a_call_is_given(function: Any, takes: Takes, body: Any, run_in: RunIn) -> None:
    handler = read_handler("q", function, SETTINGS)
    assert (handler.takes, handler.reader.annotation, handler.run_in) == (takes, body, run_in)
    assert read_handler("q", function, SETTINGS, run_in="process").run_in is RunIn.PROCESS


def test_types_that_are_local_to_the_declaration_can_be_named() -> None:
    class Local(msgspec.Struct):
        number: int

    async def handle(message: Message[Local]) -> None: ...

    with pytest.raises(InvalidSettingError, match="Local"):
        read_handler("q", handle, SETTINGS)
    assert read_handler("q", handle, SETTINGS, localns=locals()).reader.annotation is Local


async def no_annotation(message) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001  # none at all
async def a_dict(message: dict[str, Any]) -> None: ...
async def nothing() -> None: ...
async def too_much(message: Message[Order], other: int) -> None: ...
async def hidden(message: Message[OnlyForTypeCheckers]) -> None: ...
def yields(message: Message[Order]) -> Any:
    yield


@pytest.mark.parametrize("function", [no_annotation, a_dict, nothing, too_much, hidden, yields, 7])
def test_what_cannot_be_a_handler_is_refused_with_a_hint(function: Any) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        read_handler("q", function, SETTINGS)
    assert caught.value.hint


@pytest.mark.parametrize(("function", "run_in"), [(one, "thread"), (in_thread, "loop"), (one, "moon")])
def test_a_place_that_does_not_fit_the_function_is_refused(function: Any, run_in: str) -> None:
    with pytest.raises(InvalidSettingError, match="run_in"):
        read_handler("q", function, SETTINGS, run_in=run_in)
