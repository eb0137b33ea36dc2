"""What the machine draws: messages, consumers, and what a worker says of them."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from hypothesis import strategies as st

from conveyor.model.dispatch import Dispatch
from conveyor.model.rate import Rate
from conveyor.model.verdict import Action

QUEUE = st.sampled_from(["a", "b", "dead"])
PICK = st.integers(0, 11)
SECONDS = st.sampled_from([0.001, 1, 4.999, 5, 10, 14, 15, 60, 130])
KEYS = st.sampled_from([None, None, "k", "l"])
GATES = st.builds(
    lambda gate, turns: {**gate, **turns},
    st.fixed_dictionaries({
        "ordered": st.sampled_from([False, False, True]),
        "key_concurrency": st.sampled_from([None, None, 1, 2]),
        "rate": st.sampled_from([None, None, None, Rate(4, 10_000)]),
        "key_rate": st.sampled_from([None, None, Rate(1, 5_000), Rate(3, 20_000)]),
        "dispatch": st.sampled_from([*[Dispatch.QUEUE] * 5, *Dispatch]),
        "dispatch_messages": st.integers(1, 3),
    }),
    st.sampled_from([{}, {"fair": True}, {"fair": True, "key_weights": {"k": 3, "l": 2}}]),
)  # fmt: skip
RETRIES = st.integers(0, 2)
DRAFTS = st.lists(
    st.fixed_dictionaries(
        {
            "delay_ms": st.sampled_from([None, None, 0, 1_000, 10_000]),
            "priority": st.sampled_from([0, 5, 5, 9]),
            "key": KEYS,
            "dedupe": st.sampled_from([None, None, "x", "y"]),
            "expires_in_ms": st.sampled_from([None, None, None, 8_000]),
            "max_retries": st.sampled_from([None, None, 0, 5]),
            "cost": st.sampled_from([1, 1, 1, 1, 2, 3]),
            "body": st.binary(max_size=3),
            "headers": st.sampled_from([None, b'{"h":1}']),
        }
    ),
    min_size=1,
    max_size=4,
)

Rests: TypeAlias = Literal["queue", "key"] | None
RESTS: Final[st.SearchStrategy[Rests]] = st.sampled_from([None, None, None, "key", "queue"])


class Day(NamedTuple):
    """What a worker claims, and what it says of it."""

    pick: int
    limit: int
    suspects: bool
    actions: list[Action]
    delay: int | None
    rests: Rests


DAYS = st.builds(
    Day,
    pick=PICK,
    limit=st.integers(1, 6),
    suspects=st.sampled_from([False, False, True]),
    actions=st.lists(st.sampled_from(list(Action)), min_size=1, max_size=4),
    delay=st.sampled_from([None, None, 0, 3_000]),
    rests=RESTS,
)
