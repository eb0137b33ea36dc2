"""Verdicts on what was pulled, in the order in which they were given, with acks together where that order allows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conveyor.model.verdict import Action, Settlement


def runs_of_acks(settlements: Sequence[Settlement]) -> Iterator[tuple[dict[int, int], list[Settlement]]]:
    """Acks of different messages as claims by seq, then the other verdicts that follow them; and so on. A message that
    is named twice is judged twice, one after the other."""
    acks: dict[int, int] = {}
    others: list[Settlement] = []
    for each in settlements:
        if each.action is not Action.ACK:
            others.append(each)
            continue
        if others or each.seq in acks:
            yield acks, others
            acks, others = {}, []
        acks[each.seq] = each.claim
    yield acks, others
