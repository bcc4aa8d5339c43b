"""A route commits the offsets before which everything is done, and no other."""

from __future__ import annotations

from worker.bridge.kafka.offsets import Offsets


def assigned(*partitions: int) -> Offsets:
    offsets = Offsets("images")
    offsets.assign(partitions)
    return offsets


def positions(offsets: Offsets, *, is_last: bool = False) -> dict[int, int]:
    """Commit, and return what was committed."""
    found = offsets.to_commit(is_last=is_last)
    offsets.note_committed(found)
    return {one.partition: one.offset for one in found}


def test_a_position_is_committed_when_all_before_it_is_done() -> None:
    """A span that is done waits for an earlier one that is not."""
    offsets = assigned(0)
    first, second = offsets.open_span(0, 9, 2), offsets.open_span(0, 19, 1)
    second.finish()
    assert positions(offsets) == {}
    first.finish(2)
    assert positions(offsets) == {0: 20}


def test_a_position_is_committed_once() -> None:
    """Only positions that have moved are committed again, except at the end."""
    offsets = assigned(0, 1)
    offsets.open_span(0, 9, 1).finish()
    offsets.open_span(1, 4, 1).finish()
    assert positions(offsets) == {0: 10, 1: 5}
    offsets.open_span(1, 5, 1).finish()
    assert positions(offsets) == {1: 6}
    assert positions(offsets, is_last=True) == {0: 10, 1: 6}


def test_a_revoked_partition_is_not_committed() -> None:
    """Work that ends after a partition was given up counts for nothing there."""
    offsets = assigned(0)
    span = offsets.open_span(0, 9, 1)
    offsets.revoke([0])
    span.finish()
    assert 0 not in offsets
    assert positions(offsets, is_last=True) == {}


def test_a_partition_that_comes_back_begins_anew() -> None:
    """After a rebalance a position is committed even if it is the one from before."""
    offsets = assigned(0)
    offsets.open_span(0, 9, 1).finish()
    assert positions(offsets) == {0: 10}
    offsets.revoke([0])
    offsets.assign([0])
    offsets.open_span(0, 9, 1).finish()
    assert positions(offsets) == {0: 10}
