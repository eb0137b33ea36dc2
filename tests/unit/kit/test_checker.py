"""The judge of recorded histories: every seeded wrong is found, and nothing else is said; a right one is let go."""

from __future__ import annotations

from typing import Any

import pytest

from kit.checker import Placed, Rules, judge
from kit.history import Line, parse

SENT = "1 sending 7 - 0 - 1 {words}|2 sent 7 a 0 - 1"
RUN = "3 start 7 a 1 - 50|4 end 7 a 1 - 50"


def read(text: str) -> list[Line]:
    return list(parse(" ".join(line.split()) for line in text.format(words="").split("|")))


GOOD = [
    f"{SENT}|{RUN}",
    f"{SENT}|3 start 7 a 1 - 50|3.5 killed - - 0 - 50|4 start 7 a 2 - 51|5 end 7 a 2 - 51",  # cut short by a kill
    f"{SENT}|3 start 7 a 1 - 50|3.5 killed - - 0 - 50|4 start 7 a 1 - 51|5 end 7 a 1 - 51",  # one of several then
    f"{SENT}|3 start 7 a 1 - 50|3.5 killed - - 0 - 50|3.7 killed - - 0 - 52|4 start 7 a 3 - 51|5 end 7 a 3 - 51",  # it began in 52, and died before a word
    f"{SENT}|{RUN}|4.5 killed - - 0 - 50|5 start 7 a 2 - 51|6 end 7 a 2 - 51",  # its ack died with it
    f"{SENT}|3 start 7 a 1 - 50|4 fail 7 a 1 - 50|5 start 7 a 2 - 51|6 end 7 a 2 - 51",
    f"{SENT}|3 start 7 a 1 - 50|4 cut 7 a 1 - 50|5 start 7 a 1 - 51|6 end 7 a 1 - 51",  # a release
    f"1 sending 8 - 0 - 1|{SENT}|{RUN}",  # an unknown send that did not arrive
    f"1 sending 8 - 0 - 1|{SENT}|{RUN}|5 start 8 b 1 - 50|6 end 8 b 1 - 50",  # and one that did
    f"{SENT}|2.5 purging - - 0 - 1|2.7 purged - - 0 - 1",  # gone by a purge
    "1 sending 7 - 0 - 1 dedupe=k|2 sent 7 a 0 - 1|2 sending 8 - 0 - 1 dedupe=k|3 sent 8 a 0 - 1|" + RUN,
    f"{SENT}|2.1 paused - - 0 - 1|2.9 resuming - - 0 - 1|{RUN}",
    f"{SENT}|3 start 7 a 1 - 50|4 frozen - - 0 - 50|5 start 7 a 2 - 51|6 end 7 a 2 - 51|7 end 7 a 1 - 50",
    f"{SENT}|3 start 7 a 1 - 90 within=50|4 killed - - 0 - 50|5 start 7 a 2 - 51|6 end 7 a 2 - 51",  # a child of it
    f"{SENT}|2.9 killed - - 0 - 50|{RUN.replace('- 50', '- 90 within=50', 1).replace('- 50', '- 90')}|5 start 7 a 1 - 51|6 end 7 a 1 - 51",  # an orphan
]


@pytest.mark.parametrize("text", GOOD)
def test_a_right_history_is_let_go(text: str) -> None:
    verdict = judge(read(text))
    assert not verdict.findings, verdict.story


BAD: list[tuple[str, str, dict[str, Any], list[Placed], list[Placed]]] = [
    ("LOST", SENT, {}, [], []),
    ("LOST", f"{SENT}|3 start 7 a 1 - 50|4 fail 7 a 1 - 50", {}, [], []),
    ("LOST", f"0.1 purging - - 0 - 1|0.2 purged - - 0 - 1|{SENT}", {}, [], []),
    ("LOST", "1 sending 7 - 0 - 1 dedupe=k|2 sent 7 a 0 - 1", {}, [], []),
    ("STILL_THERE", f"{SENT}|{RUN}", {}, [("7", "a")], []),
    ("DLQ_DUPLICATE", f"{SENT}|{RUN}", {"is_drained": False}, [("7", "a")], [("7", "a")]),
    ("PHANTOM", f"{SENT}|{RUN}|5 start 9 c 1 - 50|6 end 9 c 1 - 50", {}, [], []),
    ("DUPLICATE_ENQUEUE", f"{SENT}|{RUN}|5 start 7 b 1 - 50|6 end 7 b 1 - 50", {}, [], []),
    ("DUPLICATE_ENQUEUE", f"{SENT}|{RUN}", {}, [], [("7", "b")]),
    ("EARLY", f"1 sending 7 - 0 - 1 delay=3|2 sent 7 a 0 - 1|{RUN}", {}, [], []),
    ("CORRUPT", "1 sending 7 - 0 - 1 crc=aa|2 sent 7 a 0 - 1|3 start 7 a 1 - 50 crc=ab|4 end 7 a 1 - 50", {}, [], []),
    ("PARTIAL_BATCH", f"1 sending 7 - 0 - 1 batch=x|1 sending 8 - 0 - 1 batch=x|{RUN}", {}, [], []),
    ("LEASE_OVERLAP", f"{SENT}|3 start 7 a 1 - 50|3.5 start 7 a 2 - 51|4 end 7 a 1 - 50|5 end 7 a 2 - 51|5.1 killed - - 0 - 50", {}, [], []),
    ("LEASE_OVERLAP", f"{SENT}|3 start 7 a 1 - 50|3.5 start 7 a 2 - 51|4 killed - - 0 - 50|5 end 7 a 2 - 51", {}, [], []),
    ("ATTEMPTS", f"{SENT}|3 start 7 a 5 - 50|4 end 7 a 5 - 50", {}, [], []),
    ("ATTEMPT_STEP", f"{SENT}|3 start 7 a 1 - 50|4 fail 7 a 1 - 50|5 start 7 a 1 - 51|6 end 7 a 1 - 51", {}, [], []),
    ("ATTEMPT_STEP", f"{SENT}|3 start 7 a 1 - 50|4 fail 7 a 1 - 50|5 start 7 a 3 - 51|6 end 7 a 3 - 51", {}, [], []),
    ("ATTEMPT_STEP", f"{SENT}|3 start 7 a 2 - 50|4 killed - - 0 - 50|5 start 7 a 1 - 51|6 end 7 a 1 - 51", {}, [], []),
    ("EXTRA_RUN", f"{SENT}|{RUN}|5 start 7 a 2 - 51|6 end 7 a 2 - 51", {}, [], []),
    ("EXTRA_RUN", f"{SENT}|{RUN}|9 killed - - 0 - 50|10 start 7 a 2 - 51|11 end 7 a 2 - 51", {}, [], []),
    ("RUN_AFTER_ACK", f"{SENT}|{RUN}|5 acked 7 a 1 - 50|5.5 killed - - 0 - 50|7 start 7 a 2 - 51 asked=6|8 end 7 a 2 - 51", {}, [], []),
    ("RUN_AFTER_ACK", f"{SENT}|{RUN}|5 acked 7 a 1 - 50", {"is_drained": False}, [("7", "a")], []),
    ("FIFO_ORDER", f"1 sending 6 - 0 - 1|2 sent 6 z 0 - 1|{SENT}|3 start 7 a 1 k 50|4 end 7 a 1 k 50|5 start 6 z 1 k 50|6 end 6 z 1 k 50", {"ordered": True}, [], []),
    ("FIFO_ORDER", f"1 sending 6 - 0 - 1|2 sent 6 z 0 - 1|{SENT}|3 start 6 z 1 k 50|4 start 7 a 1 k 50|5 end 6 z 1 k 50|6 end 7 a 1 k 50", {"ordered": True}, [], []),
    ("CONCURRENCY", f"1 sending 6 - 0 - 1|2 sent 6 z 0 - 1|{SENT}|3 start 6 z 1 - 50|4 start 7 a 1 - 51|5 end 6 z 1 - 50|6 end 7 a 1 - 51", {"max_concurrency": 1}, [], []),
    ("PAUSED_DELIVERY", f"{SENT}|2.5 paused - - 0 - 1|{RUN}|5 resuming - - 0 - 1", {}, [], []),
    ("PAUSED_DELIVERY", f"{SENT}|2.5 paused - - 0 - 1|{RUN}", {}, [], []),
    ("PURGED_DELIVERY", f"{SENT}|2.5 purging - - 0 - 1|2.7 purged - - 0 - 1|{RUN}", {}, [], []),
    ("DEDUPE_MISS", f"1 sending 7 - 0 - 1 dedupe=k|2 sent 7 a 0 - 1|2 sending 8 - 0 - 1 dedupe=k|3 sent 8 b 0 - 1|{RUN}|5 start 8 b 1 - 50|6 end 8 b 1 - 50", {}, [], []),
]


@pytest.mark.parametrize(("code", "text", "rules", "left", "dead"), BAD)
def test_a_wrong_is_found(code: str, text: str, rules: dict[str, Any], left: list[Placed], dead: list[Placed]) -> None:
    verdict = judge(read(text), Rules(**rules), left=left, dead=dead)
    assert code in verdict.findings
    allowed = {code} | ({"EXTRA_RUN", "ATTEMPT_STEP"} if code in {"LEASE_OVERLAP", "RUN_AFTER_ACK"} else set())
    assert verdict.findings.keys() <= allowed, verdict.story


def test_the_wait_of_a_message_is_from_the_kill_that_cut_it_short() -> None:
    verdict = judge(read(f"{SENT}|3 start 7 a 1 - 50|3.5 killed - - 0 - 50|4 start 7 a 2 - 51|5 end 7 a 2 - 51"))
    assert verdict.waits == [0.5]
    assert (verdict.redelivery_s(0.5), verdict.redelivery_s(1.0)) == (0.5, 0.5)
