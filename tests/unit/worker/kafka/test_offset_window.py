"""Which offset of a partition may be committed."""

from hypothesis import given
from hypothesis import strategies as st

from worker.kafka.offset_window import OffsetWindow


def open_window(*offsets: int) -> OffsetWindow:
    window = OffsetWindow()
    for offset in offsets:
        window.open(offset)
    return window


def test_nothing_is_committable_before_something_is_done() -> None:
    """A partition whose messages are all pending has no position to commit."""
    assert open_window(7, 8).position is None


def test_one_pending_message_holds_the_position_back() -> None:
    """A gap of a single message is a gap."""
    window = open_window(6, 7, 8)
    window.close(6)
    window.close(8)
    assert window.position == 7


def test_the_position_moves_on_when_the_gap_is_closed() -> None:
    """Work done out of order counts as soon as everything before it is done."""
    window = open_window(6, 7, 8)
    for offset in (8, 6, 7):
        window.close(offset)
    assert (window.position, window.pending) == (9, 0)


def test_a_span_that_is_not_open_is_ignored() -> None:
    """An acknowledgement from before a rebalance changes nothing."""
    window = open_window(6)
    window.close(99)
    assert window.position is None


def test_a_closed_span_is_no_longer_pending() -> None:
    """That holds while a span before it is open too; a span that is opened twice counts once."""
    window = OffsetWindow()
    for last_offset, load in ((6, 3), (8, 2), (8, 2)):
        window.open(last_offset, load)
    window.close(8)
    window.close(8)
    assert (window.pending, window.position) == (3, None)


@given(st.data())
def test_the_position_never_passes_what_is_open(data: st.DataObject) -> None:
    """In whatever order spans are done, everything below the position is done."""
    offsets = sorted(data.draw(st.sets(st.integers(0, 10_000), min_size=1, max_size=40)))
    order = data.draw(st.permutations(offsets))
    n_done = data.draw(st.integers(0, len(order)))
    window = open_window(*offsets)
    for offset in order[:n_done]:
        window.close(offset)
    still_open = set(order[n_done:])
    below = [offset for offset in offsets if offset < (window.position or 0)]
    assert not still_open.intersection(below)
    assert below == offsets[: len(below)]
    assert not still_open or len(below) == offsets.index(min(still_open))
