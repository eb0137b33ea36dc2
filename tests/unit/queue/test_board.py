"""The board tells one process what another was doing when it died."""

from __future__ import annotations

import os

from conveyor.queue.board import Board


def test_a_started_message_is_seen_through_another_mapping_until_it_is_settled() -> None:
    board = Board.create(8)
    reader = Board.attach(os.dup(board.fd))
    slots = [board.start(seq) for seq in (7, 2**62, 9)]
    assert reader.running() == {7, 2**62, 9} and reader.capacity == 8
    board.end(slots[1])
    assert reader.running() == {7, 9} and board.free == 6
    board.clear()
    assert reader.running() == frozenset() and board.free == 8
    reader.close()
    board.close()


def test_the_same_message_may_be_on_it_twice_while_its_first_settlement_is_on_its_way() -> None:
    board = Board.create(4)
    first, second = board.start(7), board.start(7)
    board.end(first)
    assert board.running() == {7}
    board.end(second)
    assert board.running() == frozenset()
    board.close()


def test_a_child_process_writes_and_its_parent_reads_after_its_death() -> None:
    board = Board.create(4)
    pid = os.fork()
    if pid == 0:
        board.start(42)
        board.beat(1_000)
        os._exit(9)
    os.waitpid(pid, 0)
    assert board.running() == {42} and board.last_beat_ms == 1_000
    board.close()
